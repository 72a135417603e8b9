"""The tiles of a map, made once: both dates and the damage as rasters, the buildings as vectors.

DISPLAY/
  pre.tif post.tif damage.tif     COGs on the web's grid
  all-outlines.mbtiles, ...       buildings; of a user's area the same under the area's name
  display.json                    what there is; written last
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as Place

from aftermap.classes import DAMAGE, NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.errors import InputError
from aftermap.files import make_folder, read_json, write_json
from aftermap.geo.grid import Grid, Window, quiet_without_georeference
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.images import MapImages, open_images
from aftermap.workflows.service.areas import Area
from aftermap.workflows.service.tiles.ground import ground_of, laid, web_grid, window_of, zoom_of
from aftermap.workflows.service.tiles.rasters import Strip, write_layers
from aftermap.workflows.service.tiles.vectors import ATTRIBUTES, Zooms, write_vector_tiles, zooms_of

MARKER = "display.json"
ALL = "all"

_turns: dict[Path, Lock] = {}
_turn = Lock()

Told = Callable[[str, int, int], None]


def make_display(found: FinishedMap, folder: Path, *, progress: Told) -> dict[str, Any]:
    """Make the tiles of a map; what it says of them. Nothing is made twice.

    Args:
        found: the map; its images lie where its review remembers them.
        folder: for the tiles.
        progress: told the stage, what is done and what in all; it may raise to end the work.

    Raises:
        OutputError: they cannot be written.
    """
    if (folder / MARKER).is_file():
        told: dict[str, Any] = read_json(folder / MARKER)
        return told
    make_folder(folder)
    layers = ["damage"]
    try:
        images = open_images(found)
    except InputError:  # the map stays of use where its images have gone
        images = None
    if images is not None:
        with closing(images):
            layers = ["pre", "post", "damage"]
            _write(found, images, folder, layers, progress)
    else:
        _write(found, None, folder, layers, progress)
    progress("tiles", 3, 4)
    frame = found.buildings.assign(row=np.arange(len(found.buildings)))
    zooms = zooms_of(frame, found.grid)
    write_vector_tiles(frame, found.grid, folder, ALL, zooms, going=lambda: progress("tiles", 3, 4))
    west, south, east, north = ground_of(found.grid).bounds
    told = {
        "bounds": [west, south, east, north],
        "georeferenced": found.grid.is_georeferenced,
        "rasters": {name: _zooms(folder / f"{name}.tif") for name in layers},
        "buildings": {
            "minzoom": zooms.least,
            "maxzoom": zooms.last,
            "outlines_from": zooms.outlines,
            "layer": "buildings",
            "attributes": list(ATTRIBUTES),
        },
    }
    write_json(folder / MARKER, told)
    return told


def vector_tiles(found: Callable[[], FinishedMap], folder: Path, area: Area | None, kind: str) -> Path:
    """The file of tiles for whoever may see an area alone, made when it is asked for first.

    Args:
        found: opens the map, where that is needed.
        folder: of the tiles.
        area: that may be seen; None for all.
        kind: `outlines` or `points`.
    """
    name = ALL if area is None else area.name
    path = folder / f"{name}-{kind}.mbtiles"
    if not path.is_file() and area is not None:
        with _turn:
            mine = _turns.setdefault(folder / name, Lock())
        with mine:
            if not path.is_file():
                the_map = found()
                frame = in_area(the_map, area)
                told = read_json(folder / MARKER)["buildings"]
                zooms = Zooms(told["minzoom"], told["outlines_from"], told["maxzoom"])
                write_vector_tiles(frame, the_map.grid, folder, name, zooms, going=lambda: None)
    return path


def in_area(found: FinishedMap, area: Area | None) -> Any:
    """The buildings that may be seen, with their `row` in the table: those whose point lies in the area."""
    frame = found.buildings.assign(row=np.arange(len(found.buildings)))
    if area is None:
        return frame
    if not found.grid.is_georeferenced:
        return frame.iloc[:0]
    points = frame.geometry.representative_point().to_crs(4326)
    return frame[area.points_inside(points.x.to_numpy(float), points.y.to_numpy(float))]


def _write(
    found: FinishedMap, images: MapImages | None, folder: Path, layers: list[str], progress: Told
) -> None:
    colours = _colours()
    grid, _ = web_grid(found.grid)
    with quiet_without_georeference(), _on_grid(found.folder / "damage.tif", found.grid, grid) as damage:

        def read(window: Window) -> Iterator[Strip]:
            if images is not None:
                place = grid.crop(window)
                yield from images.dates(place if found.grid.is_georeferenced else found.grid.crop(window))
            values = damage.read(1, window=Place(window.col, window.row, window.width, window.height))
            yield colours[values], values != 0

        write_layers(
            grid,
            window_of(found.grid, grid),
            [(folder / f"{name}.tif", name == "damage") for name in layers],
            read,
            progress=lambda done, total: progress("tiles", done, total),
        )


@contextmanager
def _on_grid(path: Path, grid: Grid, web: Grid) -> Iterator[WarpedVRT]:
    """A raster of a map as it lies on the web's grid; 0 beside it."""
    placed = laid(grid)
    with (
        rasterio.open(path, driver="GTiff") as file,
        WarpedVRT(
            file,
            src_crs=placed.crs,
            src_transform=placed.transform,
            src_nodata=None,
            crs=web.crs,
            transform=web.transform,
            width=web.width,
            height=web.height,
            nodata=0,
            resampling=Resampling.nearest,
        ) as warped,
    ):
        yield warped


def _colours() -> np.ndarray:
    """Colour of each value of the raster of damage, uint8 (256, 3)."""
    table = np.zeros((256, 3), np.uint8)
    for value, colour in [*enumerate(DAMAGE.colours), (255, NOT_ASSESSED_COLOUR)]:
        table[value] = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return table


def _zooms(path: Path) -> dict[str, int]:
    with rasterio.open(path) as file:
        most = zoom_of(file.transform.a)
        return {"minzoom": max(0, most - len(file.overviews(1))), "maxzoom": most}


def legend() -> list[dict[str, str]]:
    """Classes of damage and their colours, as the page shows them."""
    names = [*zip(DAMAGE.names[1:], DAMAGE.colours[1:], strict=True), (NOT_ASSESSED, NOT_ASSESSED_COLOUR)]
    return [{"name": name, "colour": colour} for name, colour in names]
