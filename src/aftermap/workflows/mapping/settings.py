"""What may be chosen for a map, whatever is mapped."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.artefacts.ensemble_card import Averaging, FusedViews
from aftermap.errors import InputError
from aftermap.geo.ground import Nodata, parse_nodata
from aftermap.inference.backends.base import Backend, Precision
from aftermap.inference.ensemble import Options, RunningKeywords
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import DEFAULT_HALO_PX, DEFAULT_WINDOW_PX
from aftermap.inference.tta import Tta
from aftermap.workflows.mapping.inputs.dates import Reading

MIN_WINDOW_PX = 64

MIN_BUILDING_M2 = 10.0
"""Traced shapes below this are dropped; few buildings that people live in are smaller."""


class MapOptions(RunningKeywords, total=False):
    """Fields of `Settings` beside the model and the user's polygons, as keywords of a call."""

    bands: Sequence[int] | None
    stretch: tuple[float, float] | None
    crs: str | None
    resolution: float | None
    cloud_mask: Path | None
    nodata: Nodata | None
    min_area_m2: float
    part_touching: bool
    keep_outside: bool
    align_footprints: bool
    features: bool
    title: str | None
    pre_date: date | None
    post_date: date | None
    overwrite: bool
    resume: bool
    window_px: int
    halo_px: int | None
    batch: int | None


class MapKeywords(MapOptions, total=False):
    """The fields of `Settings`, as keywords of a call."""

    model: str | Path | AnyPredictor
    footprints: Path | None
    aoi: Path | None
    block: tuple[int, int] | None
    draft: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What may be chosen for every map.

    Attributes:
        model: a model folder, an ensemble folder, or `box` for the one in the package; or one that is open.
        footprints: buildings to judge; by default they are traced from what the model sees.
        aoi: polygons that bound the map.
        bands: 1-based bands to use of the imagery.
        stretch: percentiles that are brought to 0 and 255, for pixels that are not 8-bit.
        crs: reference system of the map; the (first) date's by default.
        resolution: pixel size of the map, in metres, or degrees where its reference system is geographic.
        cloud_mask: raster, not 0 where the ground is hidden.
        nodata: what is missing ground in the images; see `geo.ground.Nodata`.
        min_area_m2: smaller traced shapes are no buildings.
        part_touching: tell touching houses apart when they are traced; see `inference.parting`.
        keep_outside: keep footprints that do not touch the map as rows that are not assessed; else they are counted only.
        align_footprints: move footprints that lie beside their houses, block by block, where that surely helps; see
            `geo.alignment.footprint_shifts`.
        features: keep what the buildings look like, for `learn`; maps of damage only.
        block: map a block of rows alone, the first number of the second, counted from 0; see `inputs.aoi.block_of`.
        draft: write only what `workflows.many` merges into a larger map: plain rasters, one table, small pictures.
        title: heading of page and picture; by default the output folder's name.
        pre_date: when the first or only image was taken; by default what its files say.
        post_date: the same of the second.
        overwrite: replace an earlier result.
        resume: continue an interrupted run.
        device: `cpu` or `cuda`.
        tta: averages over mirrored or turned images; see `aftermap.inference.tta`.
        scales: averages over sizes of the images, such as 0.75, 1 and 1.25.
        averaging: probabilities or logits; see `aftermap.inference.ensemble.Options`, also for the next two.
        compat_uint8: cut probabilities to 8 bits before they are averaged.
        low_memory: hold one member of an ensemble at a time.
        backend: what runs the network, or `auto` for what was exported beside the model, else the fastest; see
            `aftermap.inference.backends.base.Execution`, also for the next three.
        threads: of the processor; 0 leaves the runtime its choice.
        precision: of the network's arithmetic.
        compiled: let torch.compile build kernels for a GPU.
        window_px: largest window of the model.
        halo_px: half the overlap of neighbouring windows; by default 64 px, or an eighth of a small window.
        batch: windows per call of the model; 1 on a CPU and 8 on a GPU by default.
    """

    model: str | Path | AnyPredictor = "box"
    footprints: Path | None = None
    aoi: Path | None = None
    bands: Sequence[int] | None = None
    stretch: tuple[float, float] | None = None
    crs: str | None = None
    resolution: float | None = None
    cloud_mask: Path | None = None
    nodata: Nodata | None = None
    min_area_m2: float = MIN_BUILDING_M2
    part_touching: bool = False
    keep_outside: bool = False
    align_footprints: bool = False
    features: bool = False
    block: tuple[int, int] | None = None
    draft: bool = False
    title: str | None = None
    pre_date: date | None = None
    post_date: date | None = None
    overwrite: bool = False
    resume: bool = False
    device: str = "cpu"
    tta: Tta = "none"
    scales: Sequence[float] = (1.0,)
    averaging: Averaging | FusedViews | None = None
    compat_uint8: bool | None = None
    low_memory: bool = False
    backend: Backend | None = "auto"
    threads: int = 0
    precision: Precision = "auto"
    compiled: bool = False
    window_px: int = DEFAULT_WINDOW_PX
    halo_px: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.window_px < MIN_WINDOW_PX:
            raise InputError(f"windows of {self.window_px} px are too small: at least {MIN_WINDOW_PX} px")
        if not (0 <= self.min_area_m2 < np.inf):
            raise InputError(f"--min-area {self.min_area_m2:g} is no area: pass square metres such as 10")
        for name, example in (("bands", "(1, 2, 3)"), ("stretch", "(2, 98)"), ("scales", "(0.75, 1)")):
            if isinstance(getattr(self, name), str):
                raise InputError(
                    f"{name} is the text {getattr(self, name)!r}, expected numbers such as {example}"
                )
        if self.stretch is not None and not 0 <= self.stretch[0] < self.stretch[1] <= 100:
            low, high = self.stretch
            raise InputError(
                f"--stretch {low:g},{high:g} is not a pair of percentiles: pass two rising ones such as 2,98"
            )
        if self.align_footprints and self.footprints is None:
            raise InputError(
                "--align-footprints moves footprints, and none are given: pass --footprints FILE"
            )
        if isinstance(self.nodata, str):
            object.__setattr__(self, "nodata", parse_nodata(self.nodata))

    @property
    def halo(self) -> int:
        """Half the overlap of neighbouring windows in pixels."""
        return min(DEFAULT_HALO_PX, self.window_px // 8) if self.halo_px is None else self.halo_px

    @property
    def running(self) -> Options:
        """How the model is run."""
        own = {field.name: getattr(self, field.name) for field in fields(Options)}
        return Options(**own | {"scales": tuple(self.scales)})

    @property
    def reading(self) -> Reading:
        """How the imagery is read."""
        return Reading(**{field.name: getattr(self, field.name) for field in fields(Reading)})

    def deciding(self) -> dict[str, Any]:
        """What decides the pixels and outlines of the map, in plain values."""
        return {
            "footprints": _vectors(self.footprints),
            "aoi": _vectors(self.aoi),
            "cloud_mask": None if self.cloud_mask is None else identity(self.cloud_mask),
            "nodata": self.nodata,
            "bands": list(self.bands) if self.bands is not None else None,
            "stretch": list(self.stretch) if self.stretch is not None else None,
            "crs": self.crs,
            "resolution": self.resolution,
            "min_area_m2": self.min_area_m2,
            "part_touching": self.part_touching,
            "keep_outside": self.keep_outside,
            "align_footprints": self.align_footprints,
            "tta": self.tta,
            "scales": list(self.scales),
            "averaging": self.averaging,
            "compat_uint8": self.compat_uint8,
            "backend": self.backend,
            "precision": self.precision,
            "window_px": self.window_px,
            "halo_px": self.halo,
            **({} if self.block is None else {"block": list(self.block)}),
        }


def identity(path: Path) -> list[str | int] | None:
    """Enough of a file to see that it is still the same one."""
    if not path.exists():
        return None
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


def _vectors(path: Path | None) -> list[str | int] | None:
    """The same of a vector file, or `FILE:LAYER`."""
    if path is None:
        return None
    from aftermap.geo.vectors import part_layer

    file, layer = part_layer(path)
    found = identity(file)
    return found and [path.name, *found[1:], *([layer] if layer else [])]
