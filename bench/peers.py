"""The usual ways to run a network over a pair of images beside `aftermap map`, with the same weights in one run.

    python bench/peers.py --megapixels 4 --repeats 2
    python bench/peers.py --megapixels 4 --packages /tmp/peers        # with geoai-py and torchgeo, where they were put by
    pip install --no-deps --target /tmp/peers geoai-py torchgeo lightning lightning-utilities pytorch-lightning \
        torchmetrics lightly lightly-utils jsonargparse typeshed-client docstring-parser einops hydra-core aenum

Each way is a process of its own on one thread that reads two GeoTIFFs and writes a raster of classes: windows of 512 px
side by side, as in most notebooks; `predict_geotiff` of geoai (512 px, overlap of 64, its spline); torchgeo's
`GridGeoSampler` (512 px, stride of 448, the later window wins). aftermap also traces, judges and writes buildings, page
and picture: `aftermap torch` with the same weights in f32, `aftermap` with what comes in the box. Told are seconds,
peak memory, and seams: the share of pixels with another class than the same network gives when it sees the whole image at
once (aftermap's from its stored probabilities).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from map_scale import write_mosaics

HERE = Path(__file__).resolve().parents[1] / "src"
WAYS = ("aftermap", "aftermap torch", "windows", "geoai", "torchgeo")
COMMON = """
import json, re, resource, sys
from pathlib import Path
import numpy as np
pre, post, out, way = sys.argv[1:]

def network():
    import torch
    from aftermap.artefacts.store import load_model
    loaded = load_model("box")
    told = loaded.card.normalisation
    mean, std = (torch.tensor(v).reshape(1, 1, 3, 1, 1) for v in (told.mean, told.std))
    class Stacked(torch.nn.Module):  # six raw bands in, probabilities out
        def __init__(self):
            super().__init__()
            self.inner = loaded.model.eval()
        def forward(self, x):
            with torch.inference_mode():
                return self.inner((x.reshape(len(x), 2, 3, *x.shape[-2:]) - mean) / std).softmax(1)
    return Stacked()

def write(classes, like):
    import rasterio
    profile = {k: like.profile[k] for k in ("width", "height", "crs", "transform")}
    with rasterio.open(Path(out) / "classes.tif", "w", driver="GTiff", count=1, dtype="uint8", compress="deflate",
                       tiled=True, **profile) as file:
        file.write(classes, 1)

def stacked():
    import rasterio
    path = Path(out) / "stack.tif"
    with rasterio.open(pre) as a, rasterio.open(post) as b:
        with rasterio.open(path, "w", **(a.profile | {"count": 6})) as file:
            file.write(np.concatenate([a.read(), b.read()]))
    return path
"""
RUNS = {
    "aftermap": """
from aftermap.workflows.mapping.damage import map_damage
chosen = {"backend": "torch"} if way == "aftermap torch" else {"backend": "auto"}
map_damage(Path(pre), Path(post), Path(out) / "map", model="box", align="off", **chosen)
""",
    "windows": """
import rasterio, torch
from rasterio.windows import Window
model, side = network(), 512
with rasterio.open(pre) as a, rasterio.open(post) as b:
    classes = np.zeros(a.shape, np.uint8)
    for row in range(0, a.height, side):
        for col in range(0, a.width, side):
            window = Window(col, row, min(side, a.width - col), min(side, a.height - row))
            x = np.concatenate([a.read(window=window), b.read(window=window)]).astype(np.float32)
            x = np.pad(x, ((0, 0), (0, side - x.shape[1]), (0, side - x.shape[2])))
            found = model(torch.from_numpy(x)[None])[0].argmax(0).numpy()
            classes[row:row + side, col:col + side] = found[:window.height, :window.width]
    write(classes, a)
""",
    "geoai": """
import types
# only what chooses the device, which is said anyway: the rest imports maps and hubs
sys.modules["geoai.utils"] = types.SimpleNamespace(get_device=lambda: "cpu")
from geoai.inference import predict_geotiff
import rasterio
predict_geotiff(network(), str(stacked()), str(Path(out) / "shares.tif"), tile_size=512, overlap=64, batch_size=1,
                num_classes=5, preprocess_fn=lambda tile: tile.astype(np.float32), device="cpu", verbose=False)
with rasterio.open(Path(out) / "shares.tif") as file:
    write(file.read().argmax(0).astype(np.uint8), file)
""",
    "torchgeo": """
import rasterio, torch
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler
from torch.utils.data import DataLoader
class Pair(RasterDataset):
    filename_glob, is_image, separate_files = "stack.tif", True, False
stacked()
data = Pair(out)
model = network()
with rasterio.open(pre) as like:
    classes = np.zeros(like.shape, np.uint8)
    sampler = GridGeoSampler(data, size=512, stride=448)
    for place, batch in zip(sampler, DataLoader(data, sampler=sampler, batch_size=1, collate_fn=stack_samples)):
        x, y = place[0], place[1]
        col, row = (round(v) for v in ~like.transform * (x.start, y.stop))
        found = model(batch["image"].float())[0].argmax(0).numpy().astype(np.uint8)
        top, left = max(0, -row), max(0, -col)
        row, col = row + top, col + left
        found = found[top:, left:][:max(0, like.height - row), :max(0, like.width - col)]
        classes[row:row + found.shape[0], col:col + found.shape[1]] = found
    write(classes, like)
""",
    "whole": """
import rasterio, torch
with rasterio.open(pre) as a, rasterio.open(post) as b:
    x = np.concatenate([a.read(), b.read()]).astype(np.float32)
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % 32), (0, -x.shape[2] % 32)), mode="symmetric")
    write(network()(torch.from_numpy(x)[None])[0].argmax(0).numpy().astype(np.uint8)[:a.height, :a.width], a)
""",
}
TELL = """
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024}))
"""


def run(way: str, pair: tuple[Path, Path], out: Path, packages: Path | None) -> dict[str, Any]:
    """One way over the pair in a process of its own: what it cost, and the classes that it wrote."""
    path = [str(HERE), *([str(packages)] if packages else [])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": "1",
        "AFTERMAP_CACHE": str(out.parent / "cache"),
        "AFTERMAP_TRACKING": "off",
    }
    out.mkdir()
    code = COMMON + RUNS[way.partition(" ")[0]] + TELL
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, pair), str(out), way],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:200]}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if way.startswith("aftermap"):
        with rasterio.open(out / "map" / "probabilities.tif") as file:
            told["classes"] = file.read().argmax(0)
    else:
        with rasterio.open(out / "classes.tif") as file:
            told["classes"] = file.read(1)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=int, default=4)
    parser.add_argument(
        "--packages", type=Path, help="folder with geoai and torchgeo, where they are not installed"
    )
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair = write_mosaics(folder, arguments.megapixels, round(1000 * arguments.megapixels**0.5))
        truth = run("whole", pair, folder / "whole", None)
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for turn in range(arguments.repeats + 1):
            for way in WAYS:
                told = run(way, pair, folder / f"{way.replace(' ', '-')}-{turn}", arguments.packages)
                print(way, {k: v for k, v in told.items() if k != "classes"}, file=sys.stderr, flush=True)
                if turn or "error" in told:
                    found[way].append(told)
    print("| way | CPU s | peak MiB | other class than the whole image gives |\n|---|---|---|---|")
    for way, runs in found.items():
        if errors := [run["error"] for run in runs if "error" in run]:
            print(f"| {way} | {errors[0]} | | |")
            continue
        other = float(np.mean(runs[-1]["classes"] != truth["classes"]))
        cpu, mib = (statistics.median(run[key] for run in runs) for key in ("cpu", "mib"))
        print(f"| {way} | {cpu:.1f} | {mib:,.0f} | {other:.3%} |")


if __name__ == "__main__":
    main()
