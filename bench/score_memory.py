"""Peak memory and speed of `aftermap score` over many pairs of masks: python bench/score_memory.py [--json]."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

SIZE_PX = 1024
DISTINCT = 12  # the other pairs are links to these: what is read is the same, and the disk stays small


def draw_town(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Target damage with about 250 buildings, and a prediction that misses, shifts and confuses some of them."""
    target = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    prediction = np.zeros_like(target)
    for _ in range(250):
        row, col = generator.integers(0, SIZE_PX - 40, 2)
        height, width = generator.integers(10, 36, 2)
        damage = generator.choice(4, p=[0.7, 0.12, 0.08, 0.1]) + 1
        target[row : row + height, col : col + width] = damage
        if generator.random() < 0.85:
            dy, dx = generator.integers(-3, 4, 2)
            guess = damage if generator.random() < 0.75 else generator.integers(1, 5)
            prediction[max(row + dy, 0) : row + dy + height, max(col + dx, 0) : col + dx + width] = guess
    return target, prediction


def write_pairs(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        for role in ("target", "prediction"):
            (folder / role).mkdir(parents=True, exist_ok=True)
        if number < DISTINCT:
            target, prediction = draw_town(generator)
        for role, damage in (("target", target), ("prediction", prediction)):
            for kind, mask in (("damage", damage), ("localization", (damage > 0).astype(np.uint8))):
                path = folder / role / f"test_{kind}_{number:05d}_{role}.png"
                if number < DISTINCT:
                    path.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
                else:
                    os.link(path.with_name(f"test_{kind}_{number % DISTINCT:05d}_{role}.png"), path)


def measure(folder: str) -> None:
    """Child process: score, then print seconds and peak memory (MiB) of this process."""
    from aftermap.workflows.scoring.score import score_folders

    start = time.perf_counter()
    report = score_folders(Path(folder) / "prediction", Path(folder) / "target")
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "score": report.pixels.score}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, nargs=2, default=(9, 933))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.child)
        return
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for pairs in options.pairs:
            folder = Path(scratch) / str(pairs)
            write_pairs(folder, pairs)
            command = [sys.executable, __file__, "--child", str(folder)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results.append({"pairs": pairs, **json.loads(output)})
    ratio = results[1]["peak_mib"] / results[0]["peak_mib"]
    if options.json:
        print(json.dumps({"runs": results, "memory_ratio": ratio}))
        return
    for run in results:
        speed = run["pairs"] / run["seconds"]
        print(
            f"{run['pairs']:5d} pairs  {run['peak_mib']:7.1f} MiB  {run['seconds']:6.1f} s  {speed:5.1f} pairs/s"
        )
    print(f"memory ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
