"""Statistics of synthetic pairs beside those of real ones: where do they differ?

    python bench/synth_realism.py --real ../shared/data/xbd-real --scenes 40

Each row is one measure with its 5th, 50th and 95th percentile over images. A good generator covers the real range.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from shapely import wkt

from aftermap.data.scene import read_image
from aftermap.synthetic import make_pair

CROP = 512


def measures(pre: np.ndarray, post: np.ndarray, damage: np.ndarray) -> dict[str, float]:
    """Measures of one pair: images (3, H, W), damage mask (H, W)."""
    found: dict[str, float] = {}
    lit = (pre.max(axis=0) > 0) & (post.max(axis=0) > 0)
    for date, image in (("pre", pre), ("post", post)):
        values = image.astype(np.float32)
        inside = values[:, lit]
        grey = values.mean(axis=0)
        for channel, name in enumerate("RGB"):
            found[f"{date} mean {name}"] = float(inside[channel].mean())
            found[f"{date} std {name}"] = float(inside[channel].std())
        found[f"{date} p2"] = float(np.percentile(inside, 2))
        found[f"{date} p98"] = float(np.percentile(inside, 98))
        found[f"{date} spread R-G"] = float((inside[0] - inside[1]).std())
        found[f"{date} spread B-G"] = float((inside[2] - inside[1]).std())
        found[f"{date} laplacian"] = float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)[lit]).mean())
        found[f"{date} fine/coarse"] = octave_ratio(grey, lit)
        found[f"{date} spectrum slope"] = spectrum_slope(grey)
        intact = (damage == 1) & lit
        near = (
            (cv2.dilate((damage > 0).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0) & (damage == 0) & lit
        )
        if intact.sum() > 400 and near.sum() > 400:
            found[f"{date} roof - surround"] = float(grey[intact].mean() - grey[near].mean())
            found[f"{date} roof std"] = float(grey[intact].std())
            found[f"{date} surround std"] = float(grey[near].std())
            found[f"{date} roof chroma R-B"] = float((values[0] - values[2])[intact].mean())
    first, second = (high_pass(image.mean(axis=0)) for image in (pre, post))
    background = (damage == 0) & lit
    intact = (damage == 1) & lit
    found["pre/post correlation"] = correlation(first, second, background)
    if intact.sum() > 400:
        found["pre/post correlation of intact roofs"] = correlation(first, second, intact)
    return found


def high_pass(grey: np.ndarray) -> np.ndarray:
    soft = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1)
    return soft - cv2.GaussianBlur(soft, (0, 0), 16)


def correlation(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> float:
    return float(np.corrcoef(first[where], second[where])[0, 1]) if where.sum() > 100 else float("nan")


def octave_ratio(grey: np.ndarray, lit: np.ndarray) -> float:
    """Energy between 1 and 2 px against that between 4 and 8 px: low where an image is soft."""
    levels = [cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (0.6, 1.2, 2.4, 4.8)]
    return float((levels[0] - levels[1])[lit].std() / max((levels[2] - levels[3])[lit].std(), 1e-3))


def spectrum_slope(grey: np.ndarray) -> float:
    """Exponent of the radial power spectrum between periods of 64 and 4 px."""
    window = np.hanning(grey.shape[0])[:, None] * np.hanning(grey.shape[1])[None, :]
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    fy, fx = np.meshgrid(np.fft.fftfreq(grey.shape[0]), np.fft.fftfreq(grey.shape[1]), indexing="ij")
    radius = np.hypot(fy, fx)
    edges = np.geomspace(1 / 64, 1 / 4, 9)
    means = [power[(radius >= a) & (radius < b)].mean() for a, b in itertools.pairwise(edges)]
    return float(np.polyfit(np.log(np.sqrt(edges[:-1] * edges[1:])), np.log(means), 1)[0])


def real_pairs(root: Path, per_event: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    levels = {"no-damage": 1, "minor-damage": 2, "major-damage": 3, "destroyed": 4, "un-classified": 1}
    for event in sorted(path for path in root.iterdir() if path.is_dir()):
        names = sorted((event / "labels").glob("*_post_*.json"))
        for label in names[:: max(1, len(names) // per_event)][:per_event]:
            post = next((event / "images").glob(label.stem + ".*"))
            pre = post.with_name(post.name.replace("_post_", "_pre_"))
            images = read_image(pre), read_image(post)
            damage = np.zeros(images[0].shape[1:], np.uint8)
            for feature in json.loads(label.read_text())["features"]["xy"]:
                ring = np.array(wkt.loads(feature["wkt"]).exterior.coords).round().astype(np.int32)
                cv2.fillPoly(damage, [ring], levels[feature["properties"]["subtype"]])
            yield event.name, *images, damage


def windows(
    pre: np.ndarray, post: np.ndarray, damage: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Crops of CROP px that are mostly covered."""
    height, width = damage.shape
    for row in range(0, height - CROP + 1, CROP):
        for col in range(0, width - CROP + 1, CROP):
            cut = (..., slice(row, row + CROP), slice(col, col + CROP))
            if (pre[cut].max(axis=0) > 0).mean() > 0.7:
                yield pre[cut], post[cut], damage[cut]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, default=Path("../shared/data/xbd-real"))
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--per-event", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    real = [measures(*w) for _, *pair in real_pairs(options.real, options.per_event) for w in windows(*pair)]
    synthetic = []
    for seed in range(options.seed, options.seed + options.scenes):
        pair = make_pair(seed, size_px=1024)
        synthetic += [measures(*w) for w in windows(pair.pre, pair.post, pair.damage_mask)]
    print(f"{len(real)} real and {len(synthetic)} synthetic crops of {CROP} px")
    print(
        f"{'':38s}{'real 5 %':>10s}{'50 %':>9s}{'95 %':>9s}   {'synthetic 5 %':>14s}{'50 %':>9s}{'95 %':>9s}"
    )
    for name in sorted(set().union(*real)):
        rows = [np.array([m[name] for m in group if name in m]) for group in (real, synthetic)]
        low, high = (np.nanpercentile(row, [5, 50, 95]) for row in rows)
        mark = " " if high[0] <= low[1] <= high[2] else "!"
        print(
            f"{name:38s}{low[0]:10.2f}{low[1]:9.2f}{low[2]:9.2f}   {high[0]:14.2f}{high[1]:9.2f}{high[2]:9.2f} {mark}"
        )


if __name__ == "__main__":
    main()
