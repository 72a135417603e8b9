"""Draws tiles with the outlines of their masks, so that one can see whether labels and image lie on each other."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rasterio.features import shapes as trace_shapes

from aftermap.data.checking.footprint_shift import FootprintShift, by_resolution
from aftermap.data.scene import Scene, read_image, read_mask
from aftermap.products.figures.sheet import write_figure

_TILES, _COLUMNS = 12, 4
_TILE_IN, _DPI = 3.0, 150
_INK, _SOFT, _AMBER = "#17212b", "#5a6875", "#8a5a00"
_DRAWN, _MOVED = "#ffd400", "#00e5ff"


def describe_shift(shift: FootprintShift) -> str:
    """One line about a measured shift."""
    scale = "without scale" if shift.resolution_m is None else f"at {shift.resolution_m:.2g} m per pixel"
    if not shift.dx_px and not shift.dy_px:
        return f"{scale}: the outlines fit best where they are ({_tiles(shift.tiles)})"
    moved = f"{shift.dx_px:+d} px across, {shift.dy_px:+d} px down"
    gain = f"they fit {shift.gain:.0%} better (error {shift.error:.0%}, {_tiles(shift.tiles)})"
    if not shift.is_clear:
        return f"{scale}: moved by {moved} {gain}: no clear shift"
    longer = " or more" if shift.is_beyond else ""
    metres = "" if shift.resolution_m is None else f" ({shift.length_px * shift.resolution_m:.1f} m)"
    return (
        f"{scale}: the buildings lie {moved}{longer}{metres} from their outlines, moved so {gain}: "
        "look at the picture, and shift the footprints or use others"
    )


def draw_alignment(
    path: Path, scenes: Sequence[Scene], shifts: Sequence[FootprintShift], *, title: str
) -> Path:
    """Write a PNG of up to 12 tiles with most buildings, shared out among the resolutions.

    Outlines are drawn where the masks are; where a clear shift was measured, also where they would fit best.

    Args:
        path: the file to write, in one step.
        scenes: tiles with building masks.
        shifts: as measured at each resolution.
        title: heading of the picture.

    Raises:
        ValueError: no tile holds a building.
        OutputError: the file cannot be written.
    """
    groups = by_resolution(scenes)
    if not groups:
        raise ValueError("no tile holds a building, so there is nothing to draw")
    share = max(1, _TILES // len(groups))
    chosen = [(scene, _shift_of(scene, shifts)) for group in groups for scene in group[:share]][:_TILES]
    columns = min(_COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    foot = 0.45 + 0.24 * len(shifts)
    width_in, height_in = max(9.5, columns * (_TILE_IN + 0.1) + 0.2), rows * (_TILE_IN + 0.3) + 0.6 + foot
    figure = Figure(figsize=(width_in, height_in), dpi=_DPI, facecolor="white")
    text: dict[str, Any] = {"parse_math": False, "va": "center"}
    left_in = 0.15
    figure.text(left_in / width_in, 1 - 0.28 / height_in, title, size=14, weight="bold", color=_INK, **text)
    for number, (scene, shift) in enumerate(chosen):
        left = (left_in + number % columns * (_TILE_IN + 0.1)) / width_in
        bottom = (height_in - 0.55 - (number // columns + 1) * (_TILE_IN + 0.3)) / height_in
        axes = figure.add_axes((left, bottom, _TILE_IN / width_in, _TILE_IN / height_in))
        _draw_tile(axes, scene, shift)
        place = (left, bottom + (_TILE_IN + 0.12) / height_in)
        figure.text(*place, _caption(scene), size=8, color=_SOFT, **text)
    handles = [Line2D([], [], color=_DRAWN, lw=2.5, label="outlines as given")]
    if any(shift.is_clear for shift in shifts):
        handles.append(Line2D([], [], color=_MOVED, lw=2.5, label="where they fit best"))
    place = (left_in / width_in, (foot - 0.1) / height_in)
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=place, ncols=2, frameon=False, fontsize=9
    )
    for line, shift in enumerate(shifts):
        height = (foot - 0.38 - 0.24 * line) / height_in
        colour = _AMBER if shift.is_clear else _SOFT
        figure.text(left_in / width_in, height, describe_shift(shift), size=8, color=colour, **text)
    return write_figure(path, figure)


def _draw_tile(axes: Axes, scene: Scene, shift: FootprintShift | None) -> None:
    axes.set_axis_off()
    axes.imshow(
        read_image(scene.pre).transpose(1, 2, 0),
        extent=(0, scene.width, scene.height, 0),
        interpolation="antialiased",
    )
    rings = _outlines(read_mask(scene, target="building"))
    if shift is not None and shift.is_clear:
        step = np.array([shift.dx_px, shift.dy_px])
        axes.add_collection(LineCollection([ring + step for ring in rings], colors=_MOVED, linewidths=0.9))
    axes.add_collection(LineCollection(rings, colors=_DRAWN, linewidths=1.1))
    axes.set_xlim(0, scene.width)
    axes.set_ylim(scene.height, 0)


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Rings (N, 2) in pixels along the edges of the mask's buildings."""
    building = (mask == 1).astype(np.uint8)
    return [
        np.array(ring)
        for shape, _ in trace_shapes(building, mask=building > 0, connectivity=4)
        for ring in shape["coordinates"]
    ]


def _shift_of(scene: Scene, shifts: Sequence[FootprintShift]) -> FootprintShift | None:
    """The shift that was measured at the resolution nearest to a tile's."""
    own = math.log(scene.resolution_m or 1.0)
    return min(shifts, key=lambda shift: abs(math.log(shift.resolution_m or 1.0) - own), default=None)


def _caption(scene: Scene) -> str:
    number = sum(scene.polygons.values())
    name = scene.name if len(scene.name) <= 30 else f"...{scene.name[-27:]}"
    return f"{name}, {number} building{'s' * (number != 1)}"


def _tiles(number: int) -> str:
    return f"{number} tile{'s' * (number != 1)}"
