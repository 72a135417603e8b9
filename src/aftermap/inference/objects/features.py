"""What both dates look like within each building and in a ring around it, in numbers that a small model can learn from.

Nothing of a network is needed: colours, texture, edges and what became of them between the dates, and the
probabilities of the pixels. The sums of parts of a scene add up, so that it may be read piece by piece.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from shapely.geometry.base import BaseGeometry

from aftermap.inference.objects.painting import Painter
from aftermap.inference.postprocess import Missing, from_bytes

RING_M = 4.0
RING_PX = 8
"""Width of the ring: metres, or pixels where there is no georeference."""

MARGIN_PX = 24
"""How far beyond its own pixels a piece must show the scene, so that filters and rings do not end at its edge."""

_FEWEST_RING_PX, _MOST_RING_PX = 3, 16
_DARK = 60
_STABLE = (2.0, 20.0, 10.0)  # added to gradients, variances and local variances, in squared grey levels
_SSIM = (6.5, 58.5)  # the usual constants of the index for 8 bits
_WINDOW_PX = 9
_REGIONS = ("in", "ring")
_DATES = ("pre", "post")
_LEVELS = ("minor", "major", "destroyed")


@dataclass(frozen=True)
class Features:
    """Numbers of each building.

    Attributes:
        names: of the columns.
        values: float32 (n, k), NaN where nothing was seen.
    """

    names: tuple[str, ...]
    values: np.ndarray


class FeatureSums:
    """Sums over the pixels of each building and of its ring, of planes that are made of both dates.

    Args:
        outlines: in pixel coordinates of the scene.
        width: columns of the scene.
        resolution_m: metres per pixel; None where that is not known.
    """

    def __init__(self, outlines: Sequence[BaseGeometry], width: int, resolution_m: float | None) -> None:
        self._painter = Painter(outlines, width)
        wanted = RING_PX if resolution_m is None else round(RING_M / resolution_m)
        self.ring_px = min(max(wanted, _FEWEST_RING_PX), _MOST_RING_PX)
        self.names: tuple[str, ...] = ()
        self._sums: list[np.ndarray] = []
        self._pixels = np.zeros((len(_REGIONS), len(outlines)), np.int64)

    def add(
        self,
        images: np.ndarray,
        probabilities: np.ndarray,
        missing: np.ndarray,
        *,
        row: int,
        col: int,
        inner: tuple[slice, slice],
    ) -> None:
        """Add a piece of the scene.

        Args:
            images: uint8 (2, C, H, W), the first three bands count; with `MARGIN_PX` around the piece where the scene
                goes on.
            probabilities: uint8 (5, h, w) of the piece, as `postprocess.to_bytes` stores them.
            missing: `Missing` codes (h, w) of the piece.
            row: of the scene, of the first row of `images`.
            col: likewise.
            inner: rows and columns of `images` that are the piece.
        """
        height, width = images.shape[-2:]
        nearest = np.zeros((height, width), np.int32)
        places: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for labels in self._painter.paint(row, height, col=col, width=width):
            np.copyto(nearest, labels, where=nearest == 0)
            places.append(_found(labels[inner]))
        if not places:
            return
        rings = _found(self._ring(nearest)[inner])
        seen = missing == Missing.ASSESSED
        regions = [_kept(_joined(places), seen), _kept(rings, seen)]
        if not len(regions[0][0]) and not len(regions[1][0]):
            return
        owners = [np.unique(building, return_inverse=True) for building, _, _ in regions]
        for number, (name, plane) in enumerate(_planes(images, inner, probabilities)):
            if len(self.names) == number:
                self.names += (name,)
                self._sums.append(np.zeros(self._pixels.shape))
            for region, (_, rows, cols) in enumerate(regions):
                present, local = owners[region]
                sums = np.bincount(local, weights=plane[rows, cols], minlength=len(present))
                self._sums[number][region, present] += sums
        for region, (present, local) in enumerate(owners):
            self._pixels[region, present] += np.bincount(local, minlength=len(present))

    def features(self) -> Features:
        """The numbers of each building."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means = [each / np.where(self._pixels > 0, self._pixels, np.nan) for each in self._sums]
        found: dict[str, np.ndarray] = {}
        for number, region in enumerate(_REGIONS):
            mean = {name: each[number] for name, each in zip(self.names, means, strict=True)}
            if mean:
                of_region = _of_region(mean)
                found |= {f"{region} {name}": values for name, values in of_region.items()}
        for name in [name.removeprefix("in ") for name in found if name.startswith("in ")]:
            if name.startswith(("mean", "edges", "coarse")):
                found[f"beside {name}"] = found[f"in {name}"] - found[f"ring {name}"]
        count = self._pixels.shape[1]
        values = np.stack(list(found.values()), axis=1) if found else np.zeros((count, 0))
        return Features(tuple(found), values.astype(np.float32))

    def _ring(self, labels: np.ndarray) -> np.ndarray:
        """The nearest building of each pixel beside one, 0 further off than the ring is wide."""
        distance, index = cv2.distanceTransformWithLabels(
            (labels == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        owner = np.zeros(int(index.max()) + 1, np.int32)
        on = labels != 0
        owner[index[on]] = labels[on]
        ring: np.ndarray = np.where((distance > 1) & (distance <= self.ring_px), owner[index], 0)
        return ring


def _found(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Building, row and column of each pixel that is labelled."""
    rows, cols = np.nonzero(labels)
    return labels[rows, cols] - 1, rows, cols


def _joined(
    places: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    building, rows, cols = (np.concatenate(parts) for parts in zip(*places, strict=True))
    return building, rows, cols


def _kept(
    place: tuple[np.ndarray, np.ndarray, np.ndarray], seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those pixels that were seen on both dates."""
    building, rows, cols = place
    kept = seen[rows, cols]
    return building[kept], rows[kept], cols[kept]


def _planes(
    images: np.ndarray, inner: tuple[slice, slice], probabilities: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """What is averaged, by name, of the inner part (h, w)."""
    dates = [np.ascontiguousarray(image[:3], np.float32) for image in images]
    greys, edges = [image.mean(axis=0) for image in dates], []
    for date, image, grey in zip(_DATES, dates, greys, strict=True):
        across, down = (cv2.Sobel(grey, cv2.CV_32F, *order, ksize=3) / 8 for order in ((1, 0), (0, 1)))
        edges.append((across, down))
        strength = across * across + down * down
        fine, coarse = cv2.GaussianBlur(grey, (0, 0), 1.5), cv2.GaussianBlur(grey, (0, 0), 4)
        total = image.sum(axis=0) + 1
        made = {f"{band}": image[band] for band in range(len(image))}
        made |= {f"{band} squared": image[band] ** 2 for band in range(len(image))}
        made |= {"grey": grey, "grey squared": grey**2, "edges": np.sqrt(strength), "edges squared": strength}
        made |= {"fine": np.abs(grey - fine), "coarse": np.abs(fine - coarse)}
        made |= {"redness": image[0] / total, "greenness": image[min(1, len(image) - 1)] / total}
        made |= {"colour": (image.max(axis=0) - image.min(axis=0)) / (image.max(axis=0) + 1)}
        made |= {"dark": grey < _DARK}
        for name, plane in made.items():
            yield f"{date} {name}", plane[inner]
    (pre_across, pre_down), (post_across, post_down) = edges
    yield "product", (greys[0] * greys[1])[inner]
    yield "edge product", (pre_across * post_across + pre_down * post_down)[inner]
    yield "change", np.abs(dates[1] - dates[0]).mean(axis=0)[inner]
    for band in range(len(dates[0])):
        yield f"{band} change squared", ((dates[1][band] - dates[0][band]) ** 2)[inner]
    for name, plane in _local(greys[0], greys[1]).items():
        yield name, plane[inner]
    for name, plane in _told(probabilities).items():
        yield name, plane


def _local(pre: np.ndarray, post: np.ndarray) -> dict[str, np.ndarray]:
    """How alike the surroundings of each pixel are on both dates (Wang et al. 2004, in a square window)."""

    def mean(plane: np.ndarray) -> np.ndarray:
        blurred: np.ndarray = cv2.boxFilter(plane, -1, (_WINDOW_PX, _WINDOW_PX))
        return blurred

    first, second = mean(pre), mean(post)
    spread_first = np.maximum(mean(pre * pre) - first * first, 0)
    spread_second = np.maximum(mean(post * post) - second * second, 0)
    shared = mean(pre * post) - first * second
    structure = (2 * shared + _SSIM[1]) / (spread_first + spread_second + _SSIM[1])
    light = (2 * first * second + _SSIM[0]) / (first * first + second * second + _SSIM[0])
    steady = _STABLE[2]
    return {
        "structure": structure,
        "likeness": structure * light,
        "correlation": shared / np.sqrt((spread_first + steady) * (spread_second + steady)),
        "roughening": np.log((spread_second + steady) / (spread_first + steady)),
    }


def _told(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Of each pixel: how likely it is of at least each grade of damage, and a building."""
    values = from_bytes(probabilities)
    total = values[1:].sum(axis=0)
    shares = np.where(total > 0, values[1:] / np.where(total > 0, total, 1), 0.25)
    told: dict[str, np.ndarray] = {}
    for level, name in enumerate(_LEVELS, start=1):
        reached = shares[level:].sum(axis=0)
        told |= {f"p {name}": reached, f"p {name} squared": reached**2}
    return told | {"p building": 1 - values[0]}


def _of_region(mean: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features of outlines, or of rings, from the means of the planes."""
    bands = [band for band in range(3) if f"pre {band}" in mean]
    found: dict[str, np.ndarray] = {}
    for band in bands:
        pre, post = (mean[f"{date} {band}"] for date in _DATES)
        spread = [_spread(mean, f"{date} {band}") for date in _DATES]
        found |= {f"mean pre {band}": pre, f"mean post {band}": post, f"difference {band}": post - pre}
        found |= {f"spread pre {band}": spread[0], f"spread post {band}": spread[1]}
        found[f"spread ratio {band}"] = np.log((spread[1] + 2) / (spread[0] + 2))
        found[f"rms {band}"] = np.sqrt(mean[f"{band} change squared"])
    pre, post = mean["pre grey"], mean["post grey"]
    variances = [np.maximum(mean[f"{date} grey squared"] - mean[f"{date} grey"] ** 2, 0) for date in _DATES]
    found["pattern"] = (mean["product"] - pre * post) / np.sqrt(
        (variances[0] + _STABLE[1]) * (variances[1] + _STABLE[1])
    )
    found["edge pattern"] = mean["edge product"] / np.sqrt(
        (mean["pre edges squared"] + _STABLE[0]) * (mean["post edges squared"] + _STABLE[0])
    )
    for name in ("edges", "fine", "coarse"):
        logs = [np.log(mean[f"{date} {name}"] + 1) for date in _DATES]
        found |= {f"{name} pre": logs[0], f"{name} post": logs[1], f"{name} ratio": logs[1] - logs[0]}
    for name in ("redness", "greenness", "colour", "dark"):
        both = [mean[f"{date} {name}"] for date in _DATES]
        found |= {f"{name} pre": both[0], f"{name} post": both[1], f"{name} difference": both[1] - both[0]}
    for name in ("change", "structure", "likeness", "correlation", "roughening"):
        found[name] = mean[name]
    for name in _LEVELS:
        found[f"logit {name}"] = logit(mean[f"p {name}"])
        found[f"spread {name}"] = _spread(mean, f"p {name}")
    found["logit building"] = logit(mean["p building"])
    return found


def _spread(mean: dict[str, np.ndarray], name: str) -> np.ndarray:
    spread: np.ndarray = np.sqrt(np.maximum(mean[f"{name} squared"] - mean[name] ** 2, 0))
    return spread


def logit(probability: np.ndarray) -> np.ndarray:
    """Log odds, of probabilities at least a thousandth from 0 and 1; NaN stays."""
    inside = np.clip(probability, 1e-3, 1 - 1e-3)
    odds: np.ndarray = np.log(inside / (1 - inside))
    return odds
