"""Datasets of images with the classes of a legend, and what is odd about them as a whole."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial

from aftermap.data.legends import Legend
from aftermap.data.preparing.class_image import (
    BOUNDARY_PX,
    FIRST_IS_WIDE,
    MOSTLY_UNKNOWN,
    OFF_PALETTE,
    ClassScenes,
    ReadMask,
)
from aftermap.data.preparing.dataset import Dataset, Made, SourceScene
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.errors import DataWarning

_NAMED = 5


def class_dataset(
    scenes: Sequence[SourceScene],
    legend: Legend,
    read: ReadMask,
    *,
    kind: str,
    tiling: Tiling,
    options: Mapping[str, str],
    notes: Mapping[str, str],
    stretch: tuple[float, float] | None = None,
) -> Dataset:
    """A dataset of images with the classes of a legend.

    Args:
        scenes: its images.
        legend: of the masks.
        read: reads the mask of an image.
        kind: name of the reader.
        tiling: how images are cut.
        options: choices of the reader that change masks or tiles.
        notes: further entries for the manifest's options.
        stretch: see `ClassScenes`.
    """
    whole = {
        **options,
        "tiling": tiling.model_dump_json(exclude_defaults=True),
        "stretch": "" if stretch is None else f"{stretch[0]:g},{stretch[1]:g}",
        "legend": legend.model_dump_json(exclude_defaults=True),
    }
    return Dataset(
        kind=kind,
        scheme=legend.name,
        legend=legend,
        scenes=scenes,
        make=ClassScenes(read, len(legend.names), tiling, stretch),
        options=whole,
        notes=notes,
        is_cut=True,
        conclude=partial(_conclude, legend=legend),
    )


def _conclude(made: Mapping[str, Made], legend: Legend) -> dict[str, str]:
    """Notes on tiles that were left out and on colours that no class has, which are warned of.

    Warned of is also that numbers seem to count from 1 where the legend counts from 0, with 0 for boundaries.
    """
    notes = {}
    wide = [one.counts[FIRST_IS_WIDE] for one in made.values() if FIRST_IS_WIDE in one.counts]
    if wide and not any(wide):
        warnings.warn(
            f"masks of numbers hold 0, which is {legend.names[0]}, nowhere wider than {BOUNDARY_PX - 1} px: if they "
            "count from 1, with 0 for boundaries, pass --first-value 1",
            DataWarning,
            stacklevel=3,
        )
    if dropped := sum(one.counts.get(MOSTLY_UNKNOWN, 0) for one in made.values()):
        notes["dropped_tiles"] = str(dropped)
    off = {name: one.counts[OFF_PALETTE] for name, one in made.items() if one.counts.get(OFF_PALETTE)}
    if off:
        worst = sorted(off, key=lambda name: -off[name])[:_NAMED]
        shown = ", ".join(f"{name} {off[name]}" for name in worst) + (", ..." if len(off) > _NAMED else "")
        warnings.warn(
            f"{sum(off.values())} pixels in {len(off)} label files have colours that legend {legend.name} does not "
            f"list: {shown}",
            DataWarning,
            stacklevel=3,
        )
        notes["off_palette_pixels"] = str(sum(off.values()))
    return notes
