"""Ground that moved unevenly: a grid of shifts between two dates, in place of one translation.

Relief and slanted views displace the second date by other amounts in one part of a scene than in another. What is left of
the shift after the translation is measured cell by cell, smoothed over its neighbours and drawn towards none where little
was measured; patches that took no part decide whether it brings the dates closer than the translation alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from aftermap.geo.alignment.align import (
    MIN_GAIN,
    MIN_PEAK,
    ReadFirst,
    ReadSecond,
    correlation,
    gradient_field,
    phase_shift,
)
from aftermap.geo.grid import Window
from aftermap.geo.raster import Patch

PATCH_PX = 192
"""Side of what is compared at each node."""

MOST_NODES = 24
"""Nodes along the longer side; they lie at least PATCH_PX apart."""

LIMIT_PX = 10.0
"""Longest rest that is looked for along each axis."""

FARTHEST_PX = 2.5
"""A node farther than this from the median of its neighbours is a wrong match."""

MIN_REST_PX = 0.3
"""Below this the translation is as good."""

_PRIOR = 0.1  # weight of "no rest" against that of one measured node
_LEAST_NODES = 6


@dataclass(frozen=True)
class LocalShift:
    """What is left of the shift beside the translation, over the common grid.

    Attributes:
        rows: scene rows (N,) of the nodes. cols: columns (M,).
        dx_px: at the nodes, float32 (N, M), positive where the second date lies further right. dy_px: further down.
        nodes: how many were measured.
        median_px: length of the rest, median over the nodes. largest_px: of the longest.
        agreement_before: of the dates on held-out patches with the translation taken out. agreement_after: with the rest
            taken out too.
        applied: it is taken out when the pair is read.
        reason: why, or why not, in words.
    """

    rows: np.ndarray
    cols: np.ndarray
    dx_px: np.ndarray
    dy_px: np.ndarray
    nodes: int
    median_px: float | None
    largest_px: float | None
    agreement_before: float | None
    agreement_after: float | None
    applied: bool
    reason: str

    def as_dict(self, origin: tuple[int, int] = (0, 0)) -> dict[str, object]:
        """What the report says of it; with every node where it is taken out, so that others can read as this did.

        Args:
            origin: (row, col) of the part of the grid that the report counts from.
        """
        names = (
            "nodes",
            "median_px",
            "largest_px",
            "agreement_before",
            "agreement_after",
            "applied",
            "reason",
        )
        spacing = None if len(self.rows) < 2 else int(self.rows[1] - self.rows[0])
        told = {"spacing_px": spacing, **{name: getattr(self, name) for name in names}}
        if not self.applied:
            return told
        return {
            **told,
            "rows": (self.rows - origin[0]).tolist(),
            "cols": (self.cols - origin[1]).tolist(),
            "dx_px": np.round(self.dx_px.astype(float), 3).tolist(),
            "dy_px": np.round(self.dy_px.astype(float), 3).tolist(),
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "LocalShift":
        """The field of a report in which it was taken out.

        Raises:
            ValueError: the report keeps no nodes, or they do not fit each other.
        """
        try:
            rows, cols = (np.array(tree[name], np.int64) for name in ("rows", "cols"))
            dx, dy = (np.array(tree[name], np.float32) for name in ("dx_px", "dy_px"))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no nodes are kept: {error}") from None
        if (
            rows.ndim != 1
            or cols.ndim != 1
            or not dx.shape == dy.shape == (len(rows), len(cols))
            or not dx.size
        ):
            raise ValueError("rows, columns and shifts do not fit each other")
        if not (np.isfinite(dx).all() and np.isfinite(dy).all()):
            raise ValueError("a shift is no number")
        return cls(
            rows, cols, dx, dy, int(dx.size), None, None, None, None, True, str(tree.get("reason", ""))
        )

    def over(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(dx, dy) of every pixel of a window, float32 (h, w): linear between nodes, constant beyond them."""
        rows = _places(self.rows, np.arange(window.row, window.row + window.height) + 0.5)
        cols = _places(self.cols, np.arange(window.col, window.col + window.width) + 0.5)
        across, down = (np.ascontiguousarray(each) for each in np.broadcast_arrays(cols, rows[:, None]))
        dx, dy = (
            cv2.remap(values, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for values in (self.dx_px, self.dy_px)
        )
        return np.asarray(dx), np.asarray(dy)

    def read(self, second: ReadSecond, window: Window, dx_px: float, dy_px: float) -> Patch:
        """A window of the second date with the translation (dx_px, dy_px) and the rest taken out."""
        dx, dy = self.over(window)
        margin = math.ceil(max(np.abs(self.dx_px).max(), np.abs(self.dy_px).max())) + 1
        sides = window.height + 2 * margin, window.width + 2 * margin
        wide = second(Window(window.row - margin, window.col - margin, *sides), dx_px, dy_px)
        cols = np.arange(window.width, dtype=np.float32) + margin + dx
        rows = np.arange(window.height, dtype=np.float32)[:, None] + margin + dy
        kept = cv2.remap(wide.valid.astype(np.uint8), cols, rows, cv2.INTER_NEAREST).astype(bool)
        share = cv2.remap(wide.valid.astype(np.float32), cols, rows, cv2.INTER_LINEAR)
        exact = np.float32 if wide.array.dtype in (np.uint8, np.uint16, np.int16, np.float32) else np.float64
        bands = []
        for band in wide.array:
            values = cv2.remap(np.where(wide.valid, band, 0).astype(exact), cols, rows, cv2.INTER_LINEAR)
            values = np.where(kept, values / np.maximum(share, 1e-6), 0)
            if wide.array.dtype.kind in "iu":
                limits = np.iinfo(wide.array.dtype)
                values = np.clip(np.rint(values), limits.min, limits.max)
            bands.append(values.astype(wide.array.dtype))
        return Patch(
            np.stack(bands), kept, wide.grid.crop(Window(margin, margin, window.height, window.width))
        )


def measure_local_shift(
    first: ReadFirst, second: ReadSecond, overlap: Window, translation: tuple[float, float]
) -> LocalShift:
    """Measure what the translation leaves, and decide whether to take it out.

    Args:
        first: reads the first date on the common grid.
        second: reads the second date with a shift taken out.
        overlap: the part of the grid that both dates cover.
        translation: (dx_px, dy_px) that is taken out of the whole scene.
    """
    side = PATCH_PX
    if min(overlap.height, overlap.width) < 3 * side:
        return _none(
            f"the overlap of {overlap.width} x {overlap.height} px is too small for a grid of shifts"
        )
    spacing = max(side, math.ceil(max(overlap.height, overlap.width) / MOST_NODES))
    rows, cols = (
        start + side // 2 + np.arange(0, length - side + 1, spacing)
        for start, length in ((overlap.row, overlap.height), (overlap.col, overlap.width))
    )
    found = np.full((2, len(rows), len(cols)), np.nan, np.float32)
    for i, row in enumerate(rows.tolist()):
        for j, col in enumerate(cols.tolist()):
            pair = _pair(first, second, Window(row - side // 2, col - side // 2, side, side), translation)
            if pair is not None:
                dx, dy, peak = phase_shift(pair[0], pair[1], LIMIT_PX)
                if peak >= MIN_PEAK:
                    found[:, i, j] = dx, dy
    found = _without_outliers(found)
    nodes = int(np.isfinite(found[0]).sum())
    if nodes < _LEAST_NODES:
        return _none(f"only {nodes} of {len(rows) * len(cols)} places match well enough for a grid of shifts")
    dx, dy = _smoothed(found)
    lengths = np.hypot(dx, dy)
    field = LocalShift(
        rows,
        cols,
        dx,
        dy,
        nodes,
        round(float(np.median(lengths)), 3),
        round(float(lengths.max()), 3),
        None,
        None,
        False,
        "",
    )
    if field.largest_px is not None and field.largest_px < MIN_REST_PX:
        return replace(field, reason=f"the translation leaves less than {MIN_REST_PX} px anywhere")
    return _judged(field, first, second, translation)


def _judged(
    field: LocalShift, first: ReadFirst, second: ReadSecond, translation: tuple[float, float]
) -> LocalShift:
    """The field with the verdict of patches between the nodes, on which it was not measured."""
    side = PATCH_PX
    between = [
        Window(int(row) - side // 2, int(col) - side // 2, side, side)
        for row in (field.rows[:-1] + field.rows[1:]) // 2
        for col in (field.cols[:-1] + field.cols[1:]) // 2
    ]
    order = np.random.default_rng(0).permutation(len(between))[:36]
    before, after = [], []
    for window in (between[k] for k in order):
        plain = _pair(first, second, window, translation)
        moved = _pair(first, lambda w, *shift: field.read(second, w, *shift), window, translation)
        pair = [None if each is None else correlation(each) for each in (plain, moved)]
        if pair[0] is not None and pair[1] is not None:
            before.append(pair[0])
            after.append(pair[1])
    if len(before) < 3:
        return replace(field, reason="too few patches were left to check the grid of shifts on")
    gain = np.array(after) - np.array(before)
    error = float(gain.std(ddof=1) / math.sqrt(len(gain)))
    helps = bool(gain.mean() >= MIN_GAIN and gain.mean() >= 2 * error)
    verb = "rises" if helps else "does not rise enough"
    return replace(
        field,
        agreement_before=round(float(np.mean(before)), 4),
        agreement_after=round(float(np.mean(after)), 4),
        applied=helps,
        reason=f"agreement on held-out patches {verb} over that of one translation ({gain.mean():+.3f})",
    )


def _pair(
    first: ReadFirst, second: ReadSecond, window: Window, translation: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Gradient fields of both dates and where both hold data; None where a date is flat or empty."""
    pre, post = first(window), second(window, *translation)
    fields = gradient_field(pre), gradient_field(post)
    return None if fields[0] is None or fields[1] is None else (fields[0], fields[1], pre.valid & post.valid)


def _without_outliers(found: np.ndarray) -> np.ndarray:
    """Nodes (2, N, M) with nan where one lies far from the median of itself and its neighbours, or has none."""
    padded = np.pad(found, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).reshape(*found.shape, 9)
    known = np.isfinite(around[0]).sum(axis=-1)
    middle = np.nanmedian(np.where(known[None, ..., None] > 0, around, 0), axis=-1)
    far = np.abs(found - middle).max(axis=0) > FARTHEST_PX
    return np.where(far | (known < 3), np.float32(np.nan), found)


def _smoothed(found: np.ndarray) -> np.ndarray:
    """The nodes (2, N, M) averaged over their neighbours, gaps filled, drawn towards 0 where little is known."""
    known = np.isfinite(found[0]).astype(np.float32)
    weight = cv2.GaussianBlur(known, (5, 5), 0.8, borderType=cv2.BORDER_CONSTANT)
    values = [
        cv2.GaussianBlur(
            np.where(known > 0, each, 0).astype(np.float32), (5, 5), 0.8, borderType=cv2.BORDER_CONSTANT
        )
        for each in found
    ]
    ground = _PRIOR * float(cv2.getGaussianKernel(5, 0.8).max() ** 2)
    return np.stack([value / (weight + ground) for value in values]).astype(np.float32)


def _places(nodes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions between equally spaced nodes, in nodes."""
    step = float(nodes[1] - nodes[0]) if len(nodes) > 1 else 1.0
    return np.asarray((wanted - nodes[0]) / step, np.float32)


def _none(reason: str) -> LocalShift:
    empty = np.zeros(0, np.int64)
    return LocalShift(
        empty, empty, np.zeros((0, 0)), np.zeros((0, 0)), 0, None, None, None, None, False, reason
    )
