"""What a map run looks at: one date or two fitted to the model, the area of interest, clouds."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from aftermap.artefacts.card import BaseCard
from aftermap.errors import DataWarning, GeoreferenceError, RasterError
from aftermap.geo.alignment.align import Shift
from aftermap.geo.datum import doubt_between
from aftermap.geo.grid import Grid, Window
from aftermap.geo.ground import Nodata
from aftermap.geo.opening.archives import find_images
from aftermap.geo.opening.files import RasterFile
from aftermap.geo.pair import Alignment, DatePair
from aftermap.geo.raster import RGB, RasterSource, require_bands
from aftermap.geo.single import SingleDate
from aftermap.geo.target_grid import check_resolution
from aftermap.inference.postprocess import Missing
from aftermap.inference.tiling import Sample
from aftermap.workflows.mapping.inputs.aoi import Area, block_of, read_area
from aftermap.workflows.mapping.overview import Overview

_SAMPLE_PX = 1_000_000
_CLOUDY = 0.5
_TOO_COARSE = 4.0  # finer pixels by --resolution bring back no detail


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
    """The imagery of a map, ready to be read for a model: two dates, or one.

    Attributes:
        scene: the dates on one grid.
        area: the part that is mapped; all windows below count in `area.grid`.
        stretches: one per date, or none where the pixels are used as they are.
        cloud_mask: not 0 where clouds hide the ground.
        notes: what was decided without a warning, for the report.
        gathered: the whole map in small, of the windows that were read.
    """

    scene: DatePair | SingleDate
    area: Area
    stretches: tuple[Stretch, ...]
    cloud_mask: RasterSource | None
    notes: tuple[str, ...]
    gathered: Overview

    @property
    def grid(self) -> Grid:
        """The grid of the map."""
        return self.area.grid

    @property
    def sources(self) -> dict[str, RasterSource]:
        """All images, by what they are."""
        clouds = {"cloud_mask": self.cloud_mask} if self.cloud_mask else {}
        return {**self.scene.sources, **clouds}

    @property
    def shift(self) -> Shift | None:
        """How far the second of two dates lies beside the first."""
        return self.scene.shift if isinstance(self.scene, DatePair) else None

    @property
    def local_shift(self) -> dict[str, object] | None:
        """What the report says of the shift from place to place, in pixels of the map; None if not asked for."""
        local = self.scene.local if isinstance(self.scene, DatePair) else None
        corner = self.area.in_scene(Window(0, 0, 1, 1))
        return None if local is None else local.as_dict((corner.row, corner.col))

    def read(self, window: Window) -> Sample:
        """The dates in a window, with the reason where a pixel cannot be assessed."""
        patches = self.scene.read(self.area.in_scene(window))
        missing = np.zeros((window.height, window.width), np.uint8)
        if self.cloud_mask is not None:
            missing[_hidden(self.cloud_mask, self.grid.crop(window))] = Missing.CLOUD
        for patch, name in reversed(list(zip(patches, self.scene.sources, strict=True))):
            missing[~patch.valid] = Missing.POST if name == "post" else Missing.PRE
        missing[self.area.outside(window)] = Missing.OUTSIDE
        sample = Sample(
            images=np.stack([self._pixels(i, patch.array) for i, patch in enumerate(patches)]),
            valid=np.stack([patch.valid for patch in patches]),
            missing=missing,
        )
        self.gathered.add(window, sample)
        return sample

    def overview(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The whole map in at most about OVERVIEW_PX pixels, to look at; see `Overview.finished`."""
        return self.gathered.finished(self.read)

    def rest(self) -> None:
        """Close the images, which drops their decoded blocks; reading opens them again."""
        self.scene.close()

    def close(self) -> None:
        """Close all files."""
        self.scene.close()
        if self.cloud_mask is not None:
            self.cloud_mask.close()

    def _pixels(self, date: int, array: np.ndarray) -> np.ndarray:
        return self.stretches[date].apply(array) if self.stretches else array


@dataclass(frozen=True)
class Reading:
    """How imagery is read for a map.

    Attributes:
        aoi: polygons that bound it.
        bands: 1-based bands to use.
        stretch: percentiles that are brought to 0 and 255, for pixels that are not 8-bit.
        crs: reference system of the map; that of the (first) date by default.
        resolution: its pixel size, in metres, or degrees where the reference system is geographic.
        cloud_mask: raster, not 0 where the ground is hidden.
        nodata: value of pixels without ground, in place of what the images declare and of guesses; `none` where every
            pixel is ground.
        block: which block of rows of how many, in place of an area; see `inputs.aoi.block_of`.
    """

    aoi: Path | None = None
    bands: Sequence[int] | None = None
    stretch: tuple[float, float] | None = None
    crs: str | None = None
    resolution: float | None = None
    cloud_mask: Path | None = None
    nodata: Nodata | None = None
    block: tuple[int, int] | None = None


def check_reading(image: Path, reading: Reading) -> None:
    """Refuse what is no image, a pixel size that is none, and a nodata value that no pixel can have, by a header alone.

    Raises:
        GeoreferenceError: the pixel size.
        RasterError: the value, or the image cannot be read.
    """
    if reading.resolution is not None:
        check_resolution(reading.resolution)
    nodata: Nodata = reading.nodata if isinstance(reading.nodata, float) else "declared"
    RasterFile.inspect(find_images(image)[0][0], nodata=nodata, placed=False)


def open_pair(
    pre: Path, post: Path, card: BaseCard, reading: Reading, *, align: Alignment = "auto"
) -> Inputs:
    """Open two dates and check that the model can use them.

    Raises:
        RasterError: bands or pixel type do not fit the model.
        GeoreferenceError: the dates, the area or the mask do not go together.
    """
    place = xbd_grid(pre, post)
    first, second = (_open(path, card, reading, place) for path in (pre, post))
    if [path.resolve() for path in first.files] == [path.resolve() for path in second.files]:
        warnings.warn(
            f"{first.name} is given as the image from before and from after, so nothing can have changed: pass the other "
            "date too",
            DataWarning,
            stacklevel=3,
        )
    pair = DatePair.open(first, second, crs=reading.crs, resolution=reading.resolution, align=align)
    return _fitted(pair, card, reading, place, name=pre.name)


def open_image(image: Path, card: BaseCard, reading: Reading, *, name: str = "image") -> Inputs:
    """Open one date, called `pre` or `post` where it is one of them, and check that the model can use it.

    Raises:
        RasterError: bands or pixel type do not fit the model.
        GeoreferenceError: the image, the area or the mask do not go together.
    """
    place = xbd_grid(image)
    single = SingleDate.open(
        _open(image, card, reading, place), crs=reading.crs, resolution=reading.resolution, name=name
    )
    return _fitted(single, card, reading, place, name=image.name)


def _open(path: Path, card: BaseCard, reading: Reading, place: Grid | None) -> RasterSource:
    """An image whose bands and pixels the model can use."""
    source = RasterSource.open(path, reading.bands, grid=place, nodata=reading.nodata)
    named = (
        source.colours if reading.bands is None and source.count == 3 and card.given_bands == RGB else None
    )
    if named is not None and named != source.bands:
        order = ", ".join(name for _, name in sorted(zip(named, RGB, strict=True)))
        warnings.warn(
            f"the bands of {source.name} are called {order}: they are read by their names; pass --bands 1,2,3 where the "
            "names are wrong",
            DataWarning,
            stacklevel=4,
        )
        source = RasterSource.open(path, named, grid=place, nodata=reading.nodata)
    require_bands(source, card.given_bands, len(card.bands))
    bits = source.bits if source.bits is not None and source.bits < 8 else None
    if reading.stretch is None and (source.dtype != card.dtype or bits is not None):
        held = f"{source.dtype} values" if bits is None else f"values of {bits} bits (0 to {2**bits - 1})"
        raise RasterError(
            f"{source.name} holds {held}, the model expects {card.dtype} (0 to 255): pass --stretch "
            "2,98 to bring the range between these percentiles into 0 to 255"
        )
    return source


def _fitted(
    scene: DatePair | SingleDate, card: BaseCard, reading: Reading, place: Grid | None, *, name: str
) -> Inputs:
    """The rest that all maps need: their area, the checks of ground and resolution, stretches and clouds."""
    area = (
        read_area(reading.aoi, scene.grid) if reading.block is None else block_of(scene.grid, *reading.block)
    )
    _check_resolution(area.grid, card)
    for source in scene.sources.values():
        if warning := source.guess_warning():
            warnings.warn(warning, DataWarning, stacklevel=3)
        if source.turned:
            warnings.warn(
                f"{source.turned[0].name} is to be shown turned (EXIF orientation); its pixels are used as stored",
                DataWarning,
                stacklevel=3,
            )
    stretches: tuple[Stretch, ...] = ()
    if reading.stretch is not None:
        stretches = tuple(Stretch.measure(s, area.grid, reading.stretch) for s in scene.sources.values())
    mask = None
    if reading.cloud_mask is not None:
        mask = _open_clouds(reading.cloud_mask, place, area.grid)
    _check_datums([*scene.sources.values(), *([mask] if mask is not None else [])], area.grid)
    notes = () if place is None else (f"georeference recovered from the xBD labels of {name}",)
    return Inputs(scene, area, stretches, mask, notes, Overview(area.grid))


def _check_datums(sources: Sequence[RasterSource], grid: Grid) -> None:
    """Warn where coordinates pass between datums whose shift is not known well."""
    if grid.crs is None:
        return
    passages = {source.name: (source.grid.crs, grid.crs) for source in sources if source.grid.crs is not None}
    passages["buildings.geojson and the page"] = (grid.crs, CRS.from_epsg(4326))
    for name, (first, second) in passages.items():
        if doubt := doubt_between(first, second, grid):
            warnings.warn(f"{name}: {doubt}", DataWarning, stacklevel=4)


def _open_clouds(path: Path, place: Grid | None, grid: Grid) -> RasterSource:
    """A mask of clouds that hides some of the map and not all of it.

    Raises:
        RasterError: it hides all of the map.
        GeoreferenceError: it lies on another kind of grid.
    """
    # a mask of plain images counts their pixels, so it takes the place of the images it belongs to
    mask, every = (RasterSource.open(path, grid=place, nodata=rule) for rule in ("declared", "none"))
    if mask.declares_nodata:
        own = thinned(mask.grid, _SAMPLE_PX)
        if not _hidden(mask, own).any() and _hidden(every, own).any():
            warnings.warn(
                f"{mask.name} declares the only value of its clouds as nodata: they are taken for clouds",
                DataWarning,
                stacklevel=5,
            )
            mask = every
    if not every.read(thinned(grid, _SAMPLE_PX), "nearest").valid.any():
        raise GeoreferenceError(
            f"{mask.name} does not touch the map, so it says nothing of clouds there: pass the mask of these images"
        )
    hidden = _hidden(mask, thinned(grid, _SAMPLE_PX)).mean()
    if hidden == 1:
        raise RasterError(
            f"{mask.name} hides all of the map (it is not 0 anywhere), so nothing can be assessed: pass a mask that is 0 "
            "where the ground is seen, or leave --cloud-mask out"
        )
    if hidden > _CLOUDY:
        warnings.warn(
            f"{mask.name} hides {hidden:.0%} of the map; buildings there are not assessed: if that is too much, see that "
            "it is 0 where the ground is seen",
            DataWarning,
            stacklevel=5,
        )
    return mask


def _hidden(mask: RasterSource, grid: Grid) -> np.ndarray:
    """Where clouds hide the ground of a grid."""
    clouds = mask.read(grid, "nearest")
    hidden: np.ndarray = clouds.valid & (clouds.array != 0).any(axis=0)
    return hidden


def _check_resolution(grid: Grid, card: BaseCard) -> None:
    """Warn where pixels are of another size than the model knows, with the options that bring them into its range."""
    found, (finest, coarsest) = grid.resolution_m, card.resolution_m
    if found is None or finest * 0.95 <= found <= coarsest * 1.05:
        return
    if found > coarsest * _TOO_COARSE:
        warnings.warn(
            f"pixels are {found:.2f} m wide, the model knows {finest:g} to {coarsest:g} m: single buildings cannot be "
            f"told at that size; pass imagery of at most {coarsest:g} m",
            DataWarning,
            stacklevel=4,
        )
        return
    wanted = finest if found < finest else coarsest
    assert grid.crs is not None
    if grid.crs.is_projected:
        # --resolution counts metres of the reference system, which need not be metres on the ground
        unit = math.sqrt(abs(grid.transform.determinant)) * grid.crs.linear_units_factor[1]
        remedy = f"--resolution {wanted / found * unit:.3g}"
    else:
        (lon,), (lat,) = grid.lonlat(np.array([grid.width / 2]), np.array([grid.height / 2]))
        zone = 32600 + 100 * (lat < 0) + int((lon + 180) // 6) % 60 + 1
        remedy = f"--crs EPSG:{zone} --resolution {wanted:.3g}"
    warnings.warn(
        f"pixels are {found:.2f} m wide, the model knows {finest:g} to {coarsest:g} m: expect errors, or pass {remedy}",
        DataWarning,
        stacklevel=4,
    )


def thinned(grid: Grid, pixels: int) -> Grid:
    """The same ground in larger pixels, about `pixels` of them at most."""
    factor = max(1.0, math.sqrt(grid.width * grid.height / pixels))
    width, height = math.ceil(grid.width / factor), math.ceil(grid.height / factor)
    return Grid(
        grid.crs, grid.transform @ Affine.scale(grid.width / width, grid.height / height), width, height
    )


def xbd_grid(*images: Path) -> Grid | None:
    """The georeference of plain xBD images, fitted to the labels beside them; both dates share their pixels."""
    if not all(path.is_file() for path in images):
        return None
    for path in images:
        label = path.parent.parent / "labels" / f"{path.stem}.json"
        if not path.stem.endswith("_disaster") or not label.is_file():
            continue
        plain = RasterSource.open(path).grid
        if plain.is_georeferenced:
            return None
        from aftermap.data.geotransform import fit_polygons, to_grid
        from aftermap.data.readers.xbd import read_label_file

        content = read_label_file(label)
        pixels = dict(zip(content.uids, content.polygons, strict=True))
        fit = fit_polygons(pixels, content.degrees, height=plain.height, width=plain.width)
        if fit is not None and fit.is_usable:
            return to_grid(fit.grid(), height=plain.height, width=plain.width)
    return None
