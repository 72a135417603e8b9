"""The images of a finished map, opened again: the same files, on the map's grid, with its shift, bands and stretch.

A map keeps no full-resolution images and names no folders. Where they lie is kept beside the answers, for this machine
and this user alone:

    OUT/review/images.json      paths, sizes and times of files whose checksums were found right
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from rasterio.warp import transform as warp_points

from aftermap.errors import AftermapError, DataWarning, InputError
from aftermap.files import read_json, sha256_of, write_json
from aftermap.geo.alignment.align import Shift
from aftermap.geo.alignment.local_shift import LocalShift
from aftermap.geo.grid import Grid, Window
from aftermap.geo.pair import DatePair
from aftermap.geo.raster import RasterSource
from aftermap.products.page.stored import read_page
from aftermap.remote.addresses import is_address
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.mapping.inputs.dates import Stretch, thinned, xbd_grid
from aftermap.workflows.review.answers import FOLDER
from aftermap.workflows.review.beside import find_nearby

SIDE_FILE = "images.json"
DATES = ("pre", "post")
_UNMOVED = Shift(0.0, 0.0, None, None, None, 0, None, None, False, "one date")


@dataclass(frozen=True)
class MapImages:
    """Both dates of a map, read as the map read them; of a map of the image after alone both are that image.

    Attributes:
        pair: the dates on the grid of the map, with the shift that the map took out.
        stretches: one per date, or none where the pixels are used as they are.
        is_single: whether there is one image.
    """

    pair: DatePair
    stretches: tuple[Stretch, ...]
    is_single: bool = False
    _turn: Lock = field(default_factory=Lock, repr=False, compare=False)

    def read(self, window: Window, side_px: int) -> tuple[np.ndarray, np.ndarray]:
        """Both dates in a window of the map's grid, which may reach beyond it.

        Args:
            window: what is looked at.
            side_px: longest side of the pictures; a larger window is thinned to it.

        Returns:
            two uint8 (H, W, 3), hatched where a date has no data; the same one twice where there is one image.
        """
        grid = self.pair.grid.crop(window)
        most = max(window.width, window.height)
        place = thinned(grid, max(1, window.width * window.height * side_px**2 // most**2))
        if most <= side_px:
            place = grid
        across, down = place.width / grid.width, place.height / grid.height
        with self._turn:  # open files are read by one thread at a time
            if self.is_single:
                patches = (self.pair.post.read(place),) * 2
            elif place.shape == grid.shape:
                patches = self.pair.read(window)
            else:  # in small, one shift for the window will do
                dx, dy = self._shift(window)
                patches = self.pair.pre.read(place), self.pair.post.read(place.shift(dx * across, dy * down))
        if self.is_single:
            only = _hatched(self._pixels(0, patches[0].array), patches[0].valid)
            return only, only
        first, second = (
            _hatched(self._pixels(date, patch.array), patch.valid) for date, patch in enumerate(patches)
        )
        return first, second

    def dates(self, grid: Grid) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each date on any grid, as it is: uint8 (H, W, 3), and where ground was seen, bool (H, W).

        The second is moved by the mean of the shift over the grid.
        """
        own = self.pair.grid
        moved = _shift_on(grid, own, *self._shift(_window_of(grid, own)))
        with self._turn:
            patches = self.pair.pre.read(grid), self.pair.post.read(grid.shift(*moved))
        for date, patch in enumerate(patches):
            yield self._pixels(date, patch.array), patch.valid

    def close(self) -> None:
        """Close the files."""
        self.pair.close()

    def _shift(self, window: Window) -> tuple[float, float]:
        """How far the second date lies beside the first, mean over a window."""
        shift, local = self.pair.shift, self.pair.local
        dx, dy = (shift.dx_px, shift.dy_px) if shift.applied else (0.0, 0.0)
        if local is not None and local.applied:
            steps = np.linspace(0, 1, 9)
            rows = window.row + (steps * window.height).astype(int)
            cols = window.col + (steps * window.width).astype(int)
            rest = [local.over(Window(int(row), int(col), 1, 1)) for row in rows for col in cols]
            dx, dy = (
                dx + float(np.mean([each[0] for each in rest])),
                dy + float(np.mean([each[1] for each in rest])),
            )
        return dx, dy

    def _pixels(self, date: int, array: np.ndarray) -> np.ndarray:
        shown = self.stretches[date].apply(array) if self.stretches else array
        if shown.dtype != np.uint8:
            shown = np.clip(shown, 0, 255).astype(np.uint8)
        bands = [0, 1, 2] if len(shown) >= 3 else [0, 0, 0]
        return np.ascontiguousarray(np.moveaxis(shown[bands], 0, -1))


def _window_of(grid: Grid, own: Grid) -> Window:
    """The rows and columns of a map that another grid lies on."""
    xs, ys = (list(each) for each in zip(*grid.corners, strict=True))
    if grid.crs != own.crs:
        xs, ys = warp_points(grid.crs, own.crs, xs, ys)
    cols, rows = zip(*(~own.transform * place for place in zip(xs, ys, strict=True)), strict=True)
    left, right = (int(np.clip(edge, 0, own.width)) for edge in (min(cols), max(cols)))
    top, bottom = (int(np.clip(edge, 0, own.height)) for edge in (min(rows), max(rows)))
    return Window(top, left, bottom - top, right - left)


def _shift_on(grid: Grid, own: Grid, dx_px: float, dy_px: float) -> tuple[float, float]:
    """A shift in pixels of a map in pixels of another grid, at the middle of that."""
    if grid.crs == own.crs and grid.transform.almost_equals(own.transform, 1e-9):
        return dx_px, dy_px
    middle = grid.width / 2, grid.height / 2
    x, y = grid.transform * middle
    if grid.crs != own.crs:
        (x,), (y,) = warp_points(grid.crs, own.crs, [x], [y])
    col, row = ~own.transform * (x, y)
    x, y = own.transform * (col + dx_px, row + dy_px)
    if grid.crs != own.crs:
        (x,), (y,) = warp_points(own.crs, grid.crs, [x], [y])
    moved = ~grid.transform * (x, y)
    return moved[0] - middle[0], moved[1] - middle[1]


def _hatched(pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Pixels (H, W, 3) with dark stripes where nothing was seen, which black ground might be taken for."""
    if valid.all():
        return pixels
    rows, cols = np.indices(valid.shape)
    stripes = np.where((rows + cols) % 16 < 8, 34, 52).astype(np.uint8)
    pixels[~valid] = stripes[~valid][:, None]
    return pixels


def overview_of(found: FinishedMap, side_px: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Both dates of a whole map in small, from the page that shows it; None where it has none of two dates.

    Args:
        found: the map.
        side_px: longest side at most.
    """
    path = found.folder / "map.html"
    if not path.is_file() or found.provenance.get("mode") != "pre+post":
        return None
    try:
        pictures = read_page(path).decoded()
    except InputError:
        return None
    small = []
    for picture in pictures:
        height, width = picture.rgb.shape[:2]
        step = max(1, -(-max(height, width) // side_px))
        pixels = np.ascontiguousarray(picture.rgb[::step, ::step])
        valid = np.ones(pixels.shape[:2], bool) if picture.valid is None else picture.valid[::step, ::step]
        small.append(_hatched(pixels, valid))
    return small[0], small[1]


def dates_of(found: FinishedMap) -> tuple[str, ...]:
    """Which images a map was made of."""
    return DATES if found.one_date is None else (found.one_date.removesuffix("-only"),)


def open_images(found: FinishedMap, pre: Path | None = None, post: Path | None = None) -> MapImages:
    """Open the images that a map was made of.

    Args:
        found: the map.
        pre: the image from before, or its folder of tiles; by default where it was the last time, or near the map.
        post: the image from after.

    Raises:
        InputError: they are not known, not there, or not those of the map.
        RasterError: they cannot be read.
        OutputError: where they lie cannot be noted.
    """
    if pre is not None and found.one_date == "post-only":
        raise InputError(f"{found.folder} is a map of the image after alone: leave --pre out")
    paths = _places(found, pre, post)
    described = found.provenance.get("inputs", {})
    options = found.provenance.get("options", {})
    place = xbd_grid(*paths.values()) if found.grid.is_georeferenced else None
    sources = []
    try:
        for date, path in paths.items():
            bands = described[date].get("bands")
            nodata = options.get("nodata")
            sources.append(RasterSource.open(path, bands, grid=place, nodata=nodata))
        shift = _UNMOVED if found.one_date else Shift(**found.provenance["shift"])
        stretches = tuple(
            Stretch(tuple(s["low"]), tuple(s["high"])) for s in found.provenance["stretch"] or ()
        )
    except (KeyError, TypeError):
        raise InputError(
            f"{found.folder / 'provenance.json'} does not say how the images were read: map again"
        ) from None
    _check(found, paths, sources)
    pair = DatePair(sources[0], sources[-1], found.grid, shift, [], _local(found))
    return MapImages(pair, stretches, is_single=len(sources) == 1)


def _local(found: FinishedMap) -> LocalShift | None:
    """What the map took out from place to place; None where it took out one shift."""
    told = found.provenance.get("local_shift")
    if not isinstance(told, dict) or not told.get("applied"):
        return None
    try:
        return LocalShift.from_dict(told)
    except ValueError:
        warnings.warn(
            "the map took a grid of shifts out, which it does not keep: the image from after is shown with one shift for "
            "all of it, so some outlines may lie a few pixels beside their roofs; map again to keep it",
            DataWarning,
            stacklevel=2,
        )
        return None


def _side_file(found: FinishedMap) -> Path:
    return found.folder / FOLDER / SIDE_FILE


def _remembered(found: FinishedMap) -> dict[str, Any]:
    """What the side file says; nothing where there is none, or it is of no use."""
    with suppress(AftermapError):
        tree = read_json(_side_file(found))
        if isinstance(tree, dict) and all(isinstance(tree.get(date), str) for date in dates_of(found)):
            return tree
    return {}


def _files(found: FinishedMap, date: str) -> list[dict[str, Any]]:
    """What the map's report says of the files of a date."""
    files = found.provenance.get("inputs", {}).get(date, {}).get("files", [])
    return [file for file in files if isinstance(file, dict)]


def _kept(found: FinishedMap, date: str) -> Path | None:
    """The copy that the map made of an image that lies elsewhere."""
    files = _files(found, date)
    if not any("address" in file for file in files):
        return None
    from aftermap.geo.online import find_kept

    return find_kept(files)


def _fetched(found: FinishedMap, date: str, given: Path) -> Path:
    """The part of an image elsewhere that the map was made of, copied again.

    Raises:
        RemoteError: it cannot be read.
    """
    from aftermap.geo.online import fetch_image
    from aftermap.remote import Address, Online

    address = Address.parse(given)
    window = next(
        (file.get("window") for file in _files(found, date) if file.get("address") == address.shown), None
    )
    if window is None:
        return fetch_image(address, Online(named=[address]))
    col, row, width, height = (int(value) for value in window)
    return fetch_image(address, Online(named=[address]), part=Window(row, col, height, width))


def _places(found: FinishedMap, pre: Path | None, post: Path | None) -> dict[str, Path]:
    """Where each date lies: where it is said to, where it was the last time, or near the map."""
    known = _remembered(found)
    paths: dict[str, Path] = {}
    gone: dict[str, str] = {}
    for date in dates_of(found):
        given = pre if date == "pre" else post
        before = Path(known[date]) if known else None
        if given is not None and is_address(given):
            given = _fetched(found, date, given)
        if given is not None and not given.exists():
            raise InputError(f"there is no image {given}: pass --{date}, that of the map")
        path = given or (before if before is not None and before.exists() else None)
        if path is None:
            path = _kept(found, date)
        if path is None:
            path, gone[date] = _searched(found, date, before)
        if path is not None:
            paths[date] = path.absolute()
    missing = [date for date in dates_of(found) if date not in paths]
    if missing:
        raise InputError(
            f"{' and '.join(gone[date] for date in missing)} {'was' if len(missing) == 1 else 'were'} not found near "
            f"{found.folder}: say where with {' and '.join(f'--{date}' for date in missing)}"
        )
    return paths


def _searched(found: FinishedMap, date: str, before: Path | None) -> tuple[Path | None, str]:
    """An image that nobody said the place of, found near the map; and what to call it where it is not there."""
    files = found.provenance.get("inputs", {}).get(date, {}).get("files", [])
    if not files:
        raise InputError(
            f"{found.folder / 'provenance.json'} does not name the image that --{date} is: it cannot be shown"
        )
    nearby = find_nearby(found.folder, files)
    names = ", ".join(str(file.get("name")) for file in files[:2]) + (", ..." if len(files) > 2 else "")
    was = "" if before is None else f" (it was {before})"
    other = f" ({nearby.changed} has that name, and is another image)" if nearby.changed else ""
    return nearby.path, names + was + other


def _check(found: FinishedMap, paths: dict[str, Path], sources: Sequence[RasterSource]) -> None:
    """Refuse images of another map; remember which files were right, so that they are read through once."""
    known = _remembered(found).get("checked", {})
    checked: dict[str, list[float]] = {}
    for date, source in zip(paths, sources, strict=True):
        expected = found.provenance["inputs"][date]["files"]
        names, wanted = [path.name for path in source.files], [str(file["name"]) for file in expected]
        if names != wanted:
            odd = next(iter(sorted(set(names) ^ set(wanted))), "the number of files")
            told = "is not among the files of the map" if odd in names else "of the map is missing"
            raise InputError(f"--{date} {paths[date]}: {odd} {told}: pass the image that it was made of")
        for path, file in zip(source.files, expected, strict=True):
            status = path.stat()
            mark = [status.st_size, status.st_mtime]
            same = status.st_size == file["bytes"] and (
                known.get(str(path)) == mark or sha256_of(path) == file["sha256"]
            )
            if not same:
                raise InputError(
                    f"--{date} {path} has changed since the map was made, or is another image of that name (its checksum "
                    "differs): pass the image that it was made of"
                )
            checked[str(path)] = mark
    tree = {**{date: str(path) for date, path in paths.items()}, "checked": checked}
    if tree != _remembered(found):
        file = write_json(_side_file(found), tree, parents=True, sync=False)
        with suppress(OSError):
            file.chmod(0o600)
