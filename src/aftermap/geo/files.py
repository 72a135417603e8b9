"""One image file: its header, checked, and exact reads of its pixels."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from aftermap.errors import GeoreferenceError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.limits import GDAL_OPTIONS, one_line, open_checked

MAX_OPEN = 16
_GCP_TOLERANCE_PX = 0.5
_ALPHA_PROBE_PX = 256


@dataclass(frozen=True)
class RasterFile:
    """Header of one image.

    Attributes:
        path: the file.
        grid: where its pixels lie.
        count: bands that hold data (an alpha band is not counted).
        dtype: numpy name of the bands' common type.
        alpha: 1-based index of the alpha band, or None.
        nodata: value that means "nothing here", or None.
        has_palette: the single band holds indices into a colour table.
    """

    path: Path
    grid: Grid
    count: int
    dtype: str
    alpha: int | None
    nodata: float | None
    has_palette: bool

    @classmethod
    def inspect(cls, path: Path, *, grid: Grid | None = None) -> "RasterFile":
        """Read and check a header.

        Args:
            path: a GeoTIFF, PNG, JPEG or WebP.
            grid: georeference that replaces the file's own.

        Raises:
            RasterError: the file cannot be used as an image.
            GeoreferenceError: its georeference is incomplete, or `grid` has another size.
        """
        with rasterio.Env(**GDAL_OPTIONS), open_checked(path) as dataset:
            dtypes = set(dataset.dtypes)
            if len(dtypes) > 1 or "complex" in dataset.dtypes[0]:
                raise RasterError(
                    f"{path} holds {', '.join(sorted(dtypes))} bands, expected one integer or float type for all"
                )
            if grid is not None and grid.shape != dataset.shape:
                raise GeoreferenceError(
                    f"{path} has {dataset.width} x {dataset.height} pixels, its georeference is for "
                    f"{grid.width} x {grid.height}"
                )
            alpha = _alpha_band(dataset, path)
            return cls(
                path=path,
                grid=grid or _native_grid(dataset, path),
                count=dataset.count - (alpha is not None),
                dtype=dataset.dtypes[0],
                alpha=alpha,
                nodata=dataset.nodata,
                has_palette=dataset.colorinterp[0] == ColorInterp.palette,
            )


class OpenFiles:
    """Reads windows of many files while only the last few are held open; safe to share between threads."""

    def __init__(self) -> None:
        self._datasets: OrderedDict[Path, rasterio.DatasetReader] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, file: RasterFile, window: Window, bands: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Exact pixels of a window inside the file.

        Returns:
            Array (C, H, W) in the file's type and validity (H, W): not nodata, not transparent, not masked, finite.

        Raises:
            RasterError: the pixels cannot be decoded.
        """
        region = ((window.row, window.row + window.height), (window.col, window.col + window.width))
        with self._lock, rasterio.Env(**GDAL_OPTIONS):
            try:
                dataset = self._dataset(file.path)
                array = dataset.read(list(bands), window=region)
                if file.alpha in bands:
                    valid = np.ones(
                        array.shape[1:], bool
                    )  # the caller wants that band as data, not as a mask
                elif file.nodata is not None or file.alpha is not None or _has_mask(dataset):
                    valid = dataset.dataset_mask(window=region) > 0
                else:
                    valid = np.ones(array.shape[1:], bool)
            except RasterioError as error:
                raise RasterError(
                    f"cannot read {file.path}: its image data is truncated or damaged ({one_line(error)})"
                ) from None
        if array.dtype.kind == "f":
            finite = np.isfinite(array).all(axis=0)
            if not finite.all():
                valid &= finite
                array[:, ~finite] = 0
        return array, valid

    def close(self) -> None:
        """Close every file; reading opens them again."""
        with self._lock:
            while self._datasets:
                self._datasets.popitem()[1].close()

    def _dataset(self, path: Path) -> rasterio.DatasetReader:
        if path in self._datasets:
            self._datasets.move_to_end(path)
        else:
            while len(self._datasets) >= MAX_OPEN:
                self._datasets.popitem(last=False)[1].close()
            self._datasets[path] = open_checked(path)
        return self._datasets[path]


def _has_mask(dataset: rasterio.DatasetReader) -> bool:
    """Whether a mask lies beside the bands; a last band called alpha that is data (see `_alpha_band`) is none."""
    flags = {flag.name for flag in dataset.mask_flag_enums[0]}
    return "per_dataset" in flags and "alpha" not in flags


def _alpha_band(dataset: rasterio.DatasetReader, path: Path) -> int | None:
    """Index of the last band where it is opacity.

    GDAL's writers call the fourth band of any 8-bit image alpha unless told otherwise, so near-infrared often
    carries that name. Opacity is 0 or full nearly everywhere; a band that is not is data.
    """
    if dataset.count not in (2, 4) and ColorInterp.alpha not in dataset.colorinterp:
        return None
    if dataset.colorinterp[-1] != ColorInterp.alpha or dataset.count == 1:
        return None
    side = _ALPHA_PROBE_PX
    row, col = max(0, (dataset.height - side) // 2), max(0, (dataset.width - side) // 2)
    region = ((row, min(dataset.height, row + side)), (col, min(dataset.width, col + side)))
    try:
        values = dataset.read(dataset.count, window=region)
    except RasterioError as error:
        raise RasterError(
            f"cannot read {path}: its image data is truncated or damaged ({one_line(error)})"
        ) from None
    full = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0
    partial = np.mean((values > 0) & (values < full) & (values != 255))
    return dataset.count if partial < 0.1 else None


def _native_grid(dataset: rasterio.DatasetReader, path: Path) -> Grid:
    crs, transform = dataset.crs, dataset.transform
    gcps, gcp_crs = dataset.gcps
    if transform == Affine.identity() and gcps and gcp_crs:
        crs, transform = gcp_crs, _fit_gcps(gcps, path)
    elif transform == Affine.identity() and dataset.rpcs is not None:
        raise GeoreferenceError(
            f"{path} is located by a sensor model (RPC) only: orthorectify it with 'gdalwarp -rpc'"
        )
    if crs is None and transform == Affine.identity():
        return Grid.pixels(dataset.width, dataset.height)
    if crs is None:
        raise GeoreferenceError(
            f"{path} has a geotransform but no reference system: assign it with 'gdal_edit.py -a_srs EPSG:...'"
        )
    if transform == Affine.identity():
        raise GeoreferenceError(
            f"{path} names the reference system {crs.to_string()[:40]} but no place in it: assign its geotransform"
        )
    if transform.is_degenerate:
        raise GeoreferenceError(f"{path} has a geotransform without area: {tuple(transform)[:6]}")
    grid = Grid(crs, transform, dataset.width, dataset.height)
    return _normalise_longitudes(grid, path) if crs.is_geographic else grid


def _fit_gcps(gcps: list[rasterio.control.GroundControlPoint], path: Path) -> Affine:
    """Least-squares affine through ground control points."""
    if len(gcps) < 3:
        raise GeoreferenceError(f"{path} has {len(gcps)} ground control points, expected at least 3")
    pixels = np.array([[p.col, p.row, 1.0] for p in gcps])
    places = np.array([[p.x, p.y] for p in gcps])
    origin = places.mean(axis=0)
    solution, _, rank, _ = np.linalg.lstsq(pixels, places - origin, rcond=None)
    if rank < 3:
        raise GeoreferenceError(
            f"{path}: its ground control points lie on one line, expected them spread out"
        )
    (a, d), (b, e), (c, f) = solution
    transform = Affine(a, b, c + origin[0], d, e, f + origin[1])
    if transform.is_degenerate:
        raise GeoreferenceError(f"{path}: its ground control points span no area")
    back = ~transform
    residual = max(np.hypot(*np.subtract(back * (p.x, p.y), (p.col, p.row))) for p in gcps)
    if residual > _GCP_TOLERANCE_PX:
        raise GeoreferenceError(
            f"{path}: its ground control points do not fit one affine transform (residual {residual:.1f} px): "
            "rectify it with gdalwarp"
        )
    return transform


def _normalise_longitudes(grid: Grid, path: Path) -> Grid:
    """Bring a geographic grid into -180..180 degrees, or refuse what cannot be brought there."""
    left, bottom, right, top = grid.bounds
    turns = 360.0 * np.floor((left + 180.0) / 360.0)
    # Up to half a pixel of tolerance: global grids often end at 180 plus rounding.
    slack = abs(grid.transform.a) / 2
    if right - turns > 180.0 + slack:
        raise GeoreferenceError(
            f"{path} crosses the antimeridian ({left:.4f} to {right:.4f} degrees): reproject it to a projected "
            "reference system such as its UTM zone"
        )
    if bottom < -90.0 - slack or top > 90.0 + slack:
        raise GeoreferenceError(
            f"{path} reaches latitudes {bottom:.4f} to {top:.4f}, which {grid.crs} does not have: "
            "its reference system is probably wrong"
        )
    if not turns:
        return grid
    moved = Affine.translation(-turns, 0) * grid.transform
    return Grid(grid.crs, moved, grid.width, grid.height)
