"""Draws tiles with the outlines of their masks, so that one can see whether labels and image lie on each other."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from rasterio.features import shapes as trace_shapes

from aftermap.data.checking.footprint_shift import FootprintShift, by_resolution
from aftermap.data.scene import Scene, read_image, read_mask
from aftermap.products.figures.sheet import PictureRow, pictures, short, write_figure
from aftermap.wording import counted

_TILES, _COLUMNS = 12, 4
_TILE_IN = 3.0
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
    batches = [chosen[first : first + _COLUMNS] for first in range(0, len(chosen), _COLUMNS)]
    rows = [
        PictureRow(
            [_caption(scene) for scene, _ in batch],
            [read_image(scene.pre).transpose(1, 2, 0) for scene, _ in batch],
        )
        for batch in batches
    ]
    handles, labels = [Line2D([], [], color=_DRAWN, lw=2.5)], ["outlines as given"]
    if any(shift.is_clear for shift in shifts):
        handles.append(Line2D([], [], color=_MOVED, lw=2.5))
        labels.append("where they fit best")
    notes = [describe_shift(shift) for shift in shifts]
    figure, made = pictures(title, [], rows, notes=notes, legend=(handles, labels), cell_in=_TILE_IN)
    for axes, (scene, shift) in zip(itertools.chain.from_iterable(made), chosen, strict=True):
        assert axes is not None
        _draw_outlines(axes, scene, shift)
    return write_figure(path, figure)


def _draw_outlines(axes: Axes, scene: Scene, shift: FootprintShift | None) -> None:
    """Outlines as given, and where they would fit best."""
    rings = _outlines(read_mask(scene, target="building"))
    if shift is not None and shift.is_clear:
        step = np.array([shift.dx_px, shift.dy_px])
        axes.add_collection(LineCollection([ring + step for ring in rings], colors=_MOVED, linewidths=0.9))
    axes.add_collection(LineCollection(rings, colors=_DRAWN, linewidths=1.1))


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
    return f"{short(scene.name, 30)}, {counted(number, 'building')}"


def _tiles(number: int) -> str:
    return counted(number, "tile")
