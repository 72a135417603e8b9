"""What a map run looks at: two dates fitted to the model, the area of interest, clouds."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine

from aftermap.artefacts.card import BaseCard
from aftermap.data.geotransform import fit_polygons, to_grid
from aftermap.data.xbd import read_label_file
from aftermap.errors import DataWarning, ModelError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.pair import Alignment, DatePair
from aftermap.geo.raster import RasterSource, require_bands
from aftermap.inference.postprocess import Missing
from aftermap.inference.tiling import Sample
from aftermap.recipes.aoi import Area, read_area

_SAMPLE_PX = 1_000_000


@dataclass(frozen=True)
class Stretch:
    """Brings pixel values of one date into 0 to 255.

    Attributes:
        low: value per band that becomes 0.
        high: value per band that becomes 255.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def measure(cls, source: RasterSource, grid: Grid, percentiles: tuple[float, float]) -> "Stretch":
        """Take the percentiles of each band from a thinned reading of the whole scene.

        Raises:
            RasterError: the scene has no data, or the same value at both percentiles.
        """
        patch = source.read(thinned(grid, _SAMPLE_PX), "nearest")
        values = patch.array[:, patch.valid].astype(np.float64)
        values = values[:, np.isfinite(values).all(axis=0)]
        if values.shape[1] == 0:
            raise RasterError(
                f"{source.name} has no data in the mapped area, so --stretch cannot be measured"
            )
        low, high = np.percentile(values, percentiles, axis=1)
        if not (high > low).all():
            value = low[int(np.argmin(high > low))]
            raise RasterError(
                f"{source.name} has a band that is {value:g} at both percentiles, {percentiles[0]:g} and "
                f"{percentiles[1]:g}: pass a wider --stretch"
            )
        return cls(tuple(low.tolist()), tuple(high.tolist()))

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Values (C, H, W) as uint8."""
        low, high = (np.array(v, np.float32)[:, None, None] for v in (self.low, self.high))
        scaled = (np.nan_to_num(array.astype(np.float32)) - low) / (high - low) * 255
        pixels: np.ndarray = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
        return pixels


@dataclass(frozen=True)
class Inputs:
    """Two dates, ready to be read for a model.

    Attributes:
        pair: both dates on one grid.
        area: the part that is mapped; all windows below count in `area.grid`.
        stretches: one per date, or none where the pixels are used as they are.
        cloud_mask: not 0 where clouds hide the ground.
        notes: what was decided without a warning, for the report.
    """

    pair: DatePair
    area: Area
    stretches: tuple[Stretch, ...]
    cloud_mask: RasterSource | None
    notes: tuple[str, ...]

    @property
    def grid(self) -> Grid:
        """The grid of the map."""
        return self.area.grid

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """All images, by what they are."""
        clouds = {"cloud_mask": self.cloud_mask.files} if self.cloud_mask else {}
        return {"pre": self.pair.pre.files, "post": self.pair.post.files, **clouds}

    def read(self, window: Window) -> Sample:
        """Both dates in a window, with the reason where a pixel cannot be assessed."""
        patches = self.pair.read(self.area.in_scene(window))
        missing = np.zeros((window.height, window.width), np.uint8)
        if self.cloud_mask is not None:
            clouds = self.cloud_mask.read(self.grid.crop(window), "nearest")
            missing[clouds.valid & (clouds.array != 0).any(axis=0)] = Missing.CLOUD
        missing[~patches[1].valid] = Missing.POST
        missing[~patches[0].valid] = Missing.PRE
        missing[self.area.outside(window)] = Missing.OUTSIDE
        return Sample(
            images=np.stack([self._pixels(i, patch.array) for i, patch in enumerate(patches)]),
            valid=np.stack([patch.valid for patch in patches]),
            missing=missing,
        )

    def overview(self, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Grid]:
        """The whole map in at most about `pixels` pixels, to look at.

        Returns:
            pre and post uint8 (C, H, W), bool (2, H, W) where each has data, and their grid.
        """
        grid = thinned(self.grid, pixels)
        shift, across, down = self.pair.shift, grid.width / self.grid.width, grid.height / self.grid.height
        dx, dy = (shift.dx_px * across, shift.dy_px * down) if shift.applied else (0.0, 0.0)
        pre, post = self.pair.pre.read(grid), self.pair.post.read(grid.shift(dx, dy))
        seen = np.stack([pre.valid, post.valid])
        return self._pixels(0, pre.array), self._pixels(1, post.array), seen, grid

    def close(self) -> None:
        """Close all files."""
        self.pair.close()
        if self.cloud_mask is not None:
            self.cloud_mask.close()

    def _pixels(self, date: int, array: np.ndarray) -> np.ndarray:
        return self.stretches[date].apply(array) if self.stretches else array


def open_inputs(
    pre: Path,
    post: Path,
    card: BaseCard,
    *,
    aoi: Path | None = None,
    bands: Sequence[int] | None = None,
    stretch: tuple[float, float] | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    align: Alignment = "auto",
    cloud_mask: Path | None = None,
) -> Inputs:
    """Open two dates and check that the model can use them.

    Raises:
        ModelError: the model does not map damage from two dates.
        RasterError: bands or pixel type do not fit the model.
        GeoreferenceError: the dates, the area or the mask do not go together.
    """
    if card.dates != 2 or card.scheme != "joint-damage-scale":
        raise ModelError(
            f"model {card.name} tells {', '.join(card.classes.names)} from {card.dates} date(s): "
            "mapping damage needs "
            "a model of two dates and the joint damage scale"
        )
    notes: list[str] = []
    place = _xbd_grid(pre, post)
    if place is not None:
        notes.append(f"georeference recovered from the xBD labels of {pre.name}")
    sources = [RasterSource.open(path, bands, grid=place) for path in (pre, post)]
    for source in sources:
        require_bands(source, card.given_bands, len(card.bands))
        if stretch is None and source.dtype != card.dtype:
            raise RasterError(
                f"{source.name} holds {source.dtype} values, the model expects {card.dtype} (0 to 255): "
                "pass --stretch "
                "2,98 to bring the range between these percentiles into 0 to 255"
            )
    pair = DatePair.open(sources[0], sources[1], crs=crs, resolution=resolution, align=align)
    area = read_area(aoi, pair.grid)
    found, (finest, coarsest) = area.grid.resolution_m, card.resolution_m
    if found is not None and not finest * 0.95 <= found <= coarsest * 1.05:
        middle = math.sqrt(finest * coarsest)
        warnings.warn(
            f"pixels are {found:.2f} m wide, the model knows {finest:g} to {coarsest:g} m: expect "
            "errors, or pass a "
            f"projected --crs with --resolution {middle:.1g}",
            DataWarning,
            stacklevel=2,
        )
    measured = tuple(Stretch.measure(s, area.grid, stretch) for s in sources) if stretch is not None else ()
    mask = None
    if cloud_mask is not None:
        # a mask of plain images counts their pixels, so it takes the place of the images it belongs to
        mask = RasterSource.open(cloud_mask, grid=place)
    return Inputs(pair, area, measured, mask, tuple(notes))


def thinned(grid: Grid, pixels: int) -> Grid:
    """The same ground in larger pixels, about `pixels` of them at most."""
    factor = max(1.0, math.sqrt(grid.width * grid.height / pixels))
    width, height = math.ceil(grid.width / factor), math.ceil(grid.height / factor)
    return Grid(
        grid.crs, grid.transform @ Affine.scale(grid.width / width, grid.height / height), width, height
    )


def _xbd_grid(pre: Path, post: Path) -> Grid | None:
    """The georeference of a plain xBD pair, fitted to the labels beside it; both dates share their pixels."""
    if not (pre.is_file() and post.is_file()):
        return None
    for path in (pre, post):
        label = path.parent.parent / "labels" / f"{path.stem}.json"
        if not path.stem.endswith("_disaster") or not label.is_file():
            continue
        plain = RasterSource.open(path).grid
        if plain.is_georeferenced:
            return None
        content = read_label_file(label)
        pixels = dict(zip(content.uids, content.polygons, strict=True))
        fit = fit_polygons(pixels, content.degrees, height=plain.height, width=plain.width)
        if fit is not None and fit.is_usable:
            return to_grid(fit.grid(), height=plain.height, width=plain.width)
    return None
