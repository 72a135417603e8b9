"""What the xView2 winner's prediction does to its own pairs of 1024 px, beside aftermap on the same files in one run.

    python bench/winner.py ../shared/data/xbd-real --pairs 3

The winner's way is our re-telling of the published procedure (`vdurnov/xview2_1st_place_solution`: 8-bit BGR pixels /
127 - 1, whole frames in 32 bits, four flips averaged, parts as 8-bit PNGs of compression 9, `create_submission`), not
its code. It runs one of the twelve pairs of networks: the ResNet-34 for localization and the one for damage, of our own
build (the same convolutions and shapes) with random weights, which cost what trained ones do. Each way is a process of
its own on one thread that reads PNGs named as the competition's and writes PNGs of buildings and of damage. `aftermap
predict` has the model in the box; `aftermap map` traces, judges and writes buildings, page and picture of each pair too.
A pair is what N pairs cost more than one does, divided by N - 1; the peak is that of N.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

HERE = Path(__file__).resolve().parents[1] / "src"
WINNER = """
import json, resource, sys
from pathlib import Path
import cv2, numpy as np, torch
from aftermap.models.configs.networks import Xview2UnetConfig
from aftermap.models.networks.xview2 import build_xview2_unet

source, out, chunk = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
torch.set_num_threads(1)
cv2.setNumThreads(1)
PACKED = [cv2.IMWRITE_PNG_COMPRESSION, 9]
pres = sorted(path for path in source.iterdir() if "_pre_" in path.name)

def pixels(path):
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.float32) / 127 - 1

def flips(image):  # (H, W, C) -> (4, C, H, W)
    four = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
    return torch.from_numpy(np.stack(four).transpose(0, 3, 1, 2).copy())

def mean(maps):  # (4, K, H, W) -> (H, W, K), turned back
    a, b, c, d = maps.transpose(0, 2, 3, 1)
    return (a + b[::-1] + c[:, ::-1] + d[::-1, ::-1]) / 4

def averaged(network, image, dates):
    batch, found = flips(image), []
    with torch.inference_mode():
        for at in range(0, 4, chunk):
            part = batch[at:at + chunk]
            found.append(network(part.reshape(len(part), dates, 3, *part.shape[-2:])).sigmoid().numpy())
    return mean(np.concatenate(found))

def write(folder, name, array):
    (out / folder).mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(out / folder / name), array, PACKED)

# predict34_loc
network = build_xview2_unet(Xview2UnetConfig(encoder_name="resnet34", dates=1, classes=1)).eval()
for path in pres:
    found = averaged(network, pixels(path), 1)
    write("pred34_loc", f"{path.stem}_part1.png.png", (found[..., 0] * 255).astype(np.uint8))

# predict34cls
network = build_xview2_unet(Xview2UnetConfig(encoder_name="resnet34", dates=2, classes=5)).eval()
for path in pres:
    post = path.with_name(path.name.replace("_pre_", "_post_"))
    found = averaged(network, np.concatenate([pixels(path), pixels(post)], axis=2), 2)
    found = (found * 255).astype(np.uint8)
    write("res34cls2_0_tuned", f"{path.stem}_part1.png.png", found[..., :3])
    write("res34cls2_0_tuned", f"{path.stem}_part2.png.png", found[..., 2:])

# create_submission
def read(folder, name):
    return cv2.imread(str(out / folder / name), cv2.IMREAD_UNCHANGED)

for path in pres:
    name = f"{path.stem}_part1.png.png"
    parts = read("res34cls2_0_tuned", name), read("res34cls2_0_tuned", name.replace("_part1", "_part2"))
    levels = np.concatenate([parts[0], parts[1][..., 1:]], axis=2) / 255.0
    there = read("pred34_loc", name) / 255.0
    damage = levels[..., 1:].argmax(axis=2) + 1
    building = (there > 0.38) | ((there > 0.13) & (damage > 1) & (damage < 4)) | ((there > 0.14) & (damage > 1))
    damage = (damage * building).astype(np.uint8)
    if (minor := damage == 2).any():
        near = cv2.dilate(minor.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        damage[near & ((damage == 1) | (damage == 3))] = 2
    told = name.replace("_part1.png", "_prediction")
    write("submission", told.replace("_pre_", "_localization_"), building.astype(np.uint8))
    write("submission", told.replace("_pre_", "_damage_"), damage)
"""
PREDICT = """
import json, resource, sys
from pathlib import Path
import aftermap
source, out = Path(sys.argv[1]), Path(sys.argv[2])
for date in ("pre", "post"):
    (out / "source" / date).mkdir(parents=True)
    for path in source.glob(f"*_{date}_*"):
        (out / "source" / date / path.name.replace(f"_{date}_", "_")).symlink_to(path)
aftermap.prepare(out / "source", out / "data", kind="folder")
aftermap.predict("box", out / "data", out / "classes")
"""
MAP = """
import json, resource, sys
from pathlib import Path
import aftermap
source, out = Path(sys.argv[1]), Path(sys.argv[2])
for path in sorted(source.glob("*_pre_*")):
    aftermap.map(path, path.with_name(path.name.replace("_pre_", "_post_")), out / path.stem, model="box")
"""
TELL = """
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024}))
"""
WAYS = {
    "the winner's procedure, ResNet-34 of one seed": WINNER,
    "`aftermap predict`, the box": PREDICT,
    "`aftermap map`, the box": MAP,
}


def write_pairs(data: Path, folder: Path, count: int) -> None:
    """The first pairs of the events in turn as PNGs that are called as the competition's."""
    found = [sorted(event.glob("images/*_pre_disaster.*")) for event in sorted(data.iterdir())]
    order = sorted((n, event) for event, paths in enumerate(found) for n in range(len(paths)))
    folder.mkdir()
    for number, (n, event) in enumerate(order[:count]):
        pre = found[event][n]
        for date in ("pre", "post"):
            path = pre.with_name(pre.name.replace("_pre_", f"_{date}_"))
            assert cv2.imwrite(
                str(folder / f"test_{date}_{number:05d}.png"), cv2.imread(str(path), cv2.IMREAD_COLOR)
            )


def cost(code: str, pairs: Path, out: Path, cache: Path, chunk: int) -> dict[str, float]:
    """Processor seconds and peak MiB of one process."""
    environment = os.environ | {
        "PYTHONPATH": str(HERE),
        "OMP_NUM_THREADS": "1",
        "AFTERMAP_CACHE": str(cache),
        "AFTERMAP_TRACKING": "off",
    }
    out.mkdir()
    words = [sys.executable, "-W", "ignore", "-c", code + TELL, str(pairs), str(out), str(chunk)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="xBD pairs, a folder per event")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=2, help="flips that pass the winner's network at once")
    arguments = parser.parse_args()
    counts = (1, arguments.pairs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in counts:
            write_pairs(arguments.data, folder / f"pairs-{count}", count)
        print("| way | processor s a pair | of one pair, start and all | peak MiB |\n|---|---|---|---|")
        for number, (way, code) in enumerate(WAYS.items()):
            runs = counts if code == WINNER else (1, *counts)  # the first fills our caches
            one, many = [
                cost(
                    code, folder / f"pairs-{n}", folder / f"{number}-{at}", folder / "cache", arguments.chunk
                )
                for at, n in enumerate(runs)
            ][-2:]
            pair = (many["cpu"] - one["cpu"]) / (arguments.pairs - 1)
            print(f"| {way} | {pair:.2f} | {one['cpu']:.1f} | {many['mib']:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
