"""Tiles: blocks of the COGs are the web's tiles, at every zoom and on every edge."""

import io
import sqlite3

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image
from pyproj import Transformer
from rasterio.crs import CRS

from aftermap.geo.grid import Grid
from aftermap.workflows.service.areas import area_from
from aftermap.workflows.service.tiles.ground import (
    HALF,
    WEB,
    Tile,
    ground_of,
    metres_per_px,
    web_grid,
    window_of,
)
from aftermap.workflows.service.tiles.rasters import NONE, PART, WHOLE, write_layers
from aftermap.workflows.service.tiles.reading import WebRaster, _pyramid, hidden
from aftermap.workflows.service.tiles.vectors import (
    Zooms,
    open_tiles,
    read_tile,
    thinned,
    write_vector_tiles,
    zooms_of,
)

GROUND = Grid(CRS.from_epsg(32615), Affine(0.5, 0, 400_000, 0, -0.5, 4_100_000), 2200, 1700)


def decoded(data):
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(picture.convert("RGBA")).astype(int)


@pytest.fixture(scope="module")
def cog(tmp_path_factory):
    """A ramp of colours over a web grid, with ground in a rectangle that no tile's edge agrees with."""
    folder = tmp_path_factory.mktemp("cog")
    grid, _ = web_grid(GROUND)
    inside = window_of(GROUND, grid)

    def read(window):
        rows = np.arange(window.row, window.row + window.height)[:, None]
        cols = np.arange(window.col, window.col + window.width)[None, :]
        shape = (window.height, window.width)
        pixels = np.dstack(
            [
                np.broadcast_to(each, shape)
                for each in (rows * 200 // grid.height, cols * 200 // grid.width, 90)
            ]
        ).astype(np.uint8)
        top, left = inside.row + 30, inside.col + 40
        bottom, right = inside.row + inside.height - 50, inside.col + inside.width - 60
        valid = (rows >= top) & (rows < bottom) & (cols >= left) & (cols < right)
        yield pixels, valid
        yield pixels, valid

    files = [(folder / "pre.tif", False), (folder / "damage.tif", True)]
    write_layers(grid, inside, files, read, progress=lambda *_: None)
    return folder


def middle(file, zoom):
    west, south, east, north = file._bounds
    side = metres_per_px(zoom) * 256
    return Tile(zoom, int(((west + east) / 2 + HALF) / side), int((HALF - (south + north) / 2) / side))


def test_the_grid_begins_at_a_tile_of_two_zooms_below(cog):
    grid, zoom = web_grid(GROUND)
    side = metres_per_px(zoom - 2) * 256
    for edge in ((grid.transform.c + HALF) / side, (HALF - grid.transform.f) / side):
        assert edge == pytest.approx(round(edge), abs=1e-6)
    assert grid.width % 1024 == grid.height % 1024 == 0
    inside = window_of(GROUND, grid)
    corners = rasterio.warp.transform_bounds(GROUND.crs, WEB, *GROUND.bounds)
    assert grid.crop(inside).bounds[0] <= corners[0] and grid.crop(inside).bounds[2] >= corners[2]


@pytest.mark.parametrize("down", [0, 1, 2])
def test_a_block_is_the_tile_that_rio_tiler_draws(cog, down):
    file = WebRaster(cog / "pre.tif")
    tile = middle(file, file.maxzoom - down)
    known, block = file.block(tile)
    assert known and block[:2] == b"\xff\xd8" and block[-2:] == b"\xff\xd9"
    assert np.abs(decoded(block) - decoded(file.drawn(tile))).mean() < 2
    file.close()


@pytest.mark.parametrize("layer", ["pre", "damage"])
def test_every_tile_of_every_zoom_is_transparent_exactly_where_nothing_was_seen(cog, layer):
    file = WebRaster(cog / f"{layer}.tif")
    with rasterio.open(cog / "damage.tif") as damage:
        alpha = damage.read(4) > 0
    west, _, _, north = file._bounds
    side = metres_per_px(file.maxzoom) * 256
    x0, y0 = round((west + HALF) / side), round((HALF - north) / side)
    of_kinds = set()
    for row in range(alpha.shape[0] // 256):
        for col in range(alpha.shape[1] // 256):
            tile = Tile(file.maxzoom, x0 + col, y0 + row)
            known, data = file.block(tile)
            data = data if known else file.drawn(tile)
            seen = np.zeros((256, 256), bool) if data is None else decoded(data)[..., 3] > 0
            expected = alpha[row * 256 : row * 256 + 256, col * 256 : col * 256 + 256]
            assert np.array_equal(seen, expected), (layer, row, col)
            of_kinds.add((known, data is None))
    assert {(True, True), (True, False)} <= of_kinds
    assert file.block(Tile(file.maxzoom, x0 - 1, y0)) == (True, None)
    file.close()


def test_a_tile_above_four_is_whole_where_they_are():
    states = np.array([[WHOLE, WHOLE, WHOLE], [WHOLE, WHOLE, NONE], [NONE, NONE, PART]], np.uint8)
    first, second, third = _pyramid(states, 2)
    assert first is states and second.tolist() == [[WHOLE, PART], [NONE, PART]] and third.tolist() == [[PART]]


def test_what_is_hidden_of_a_tile_is_what_lies_outside_of_the_area():
    tile = Tile(15, 7817, 12851)
    west, south, east, north = tile.ground.bounds
    blue = Image.new("RGB", (256, 256), (10, 20, 200))
    buffer = io.BytesIO()
    blue.save(buffer, "JPEG")
    half = area_from(shapely.box(west - 1, south - 1, (west + east) / 2, north + 1))
    seen = decoded(hidden(buffer.getvalue(), tile, half))[..., 3] > 0
    assert seen[:, :127].all() and not seen[:, 129:].any()
    everywhere = area_from(shapely.box(west - 1, south - 1, east + 1, north + 1))
    assert hidden(buffer.getvalue(), tile, everywhere) == buffer.getvalue()
    assert hidden(buffer.getvalue(), tile, area_from(shapely.box(0, 0, 1, 1))) is None


def test_vector_tiles_of_a_map_without_buildings_are_empty(tmp_path):
    columns = {name: [] for name in ("building_id", "damage", "confidence", "area_m2", "row")}
    frame = geopandas.GeoDataFrame(columns, geometry=[], crs=GROUND.crs)
    write_vector_tiles(frame, GROUND, tmp_path, "all", zooms_of(frame, GROUND), going=lambda: None)
    for kind in ("points", "outlines"):
        tiles = open_tiles(tmp_path / f"all-{kind}.mbtiles")
        assert read_tile(tiles, 14, 0, 0) is None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            tiles.execute("DELETE FROM tiles")
        tiles.close()


def houses(x, y, side=10.0, damage="destroyed"):
    count = len(x)
    columns = {
        "building_id": [f"b{number}" for number in range(count)],
        "damage": damage,
        "confidence": 0.5,
        "area_m2": 100.0,
        "row": range(count),
    }
    return geopandas.GeoDataFrame(columns, geometry=shapely.box(x, y, x + side, y + side), crs=GROUND.crs)


def test_one_of_each_class_stays_in_a_cell_and_what_stays_stays_at_the_next_zoom():
    random = np.random.default_rng(0)
    x, y = random.uniform(0, 20_000, (2, 3000))
    classes = np.where(np.arange(3000) % 1000 == 7, 1, 0)  # three that a share of all would lose
    assert thinned(x, y, classes, 12, 5000).tolist() == list(range(3000))
    far, near = (set(thinned(x, y, classes, zoom, 40).tolist()) for zoom in (11, 12))
    assert {7, 1007, 2007} <= far < near and len(near) < 3000
    for zoom, kept in ((11, far), (12, near)):
        side = 2 * HALF / 2**zoom
        rows = sorted(kept)
        tiles = np.stack([(x[rows] + HALF) // side, (y[rows] + HALF) // side])
        assert np.unique(tiles, axis=1, return_counts=True)[1].max() <= 40


def test_outlines_begin_where_the_middle_one_is_three_pixels_and_tiles_are_not_too_full(monkeypatch):
    from aftermap.workflows.service.tiles import vectors

    # on the web's grid 10 m are 12.5 m here; a pixel of 512 a tile is 4.8 m at zoom 14, 2.4 m at 15
    x, y = (
        each.ravel() for each in np.meshgrid(np.arange(20) * 50 + 400_000, np.arange(20) * 50 + 4_000_000)
    )
    assert zooms_of(houses(x, y), GROUND) == Zooms(least=13, outlines=15, last=17)
    assert zooms_of(houses(x, y, side=40.0), GROUND).outlines == 14
    assert zooms_of(houses(x, y, side=1.0), GROUND) == Zooms(13, 18, 18)
    # a tile of zoom 16 is 489 m here: up to ten houses across
    monkeypatch.setattr(vectors, "_OUTLINES_PER_TILE", 110)
    assert zooms_of(houses(x, y), GROUND).outlines == 16


def test_points_and_outlines_lie_in_their_tiles_and_outlines_are_simpler_far_away(tmp_path):
    from pyogrio import read_dataframe

    circle = shapely.Point(400_100, 4_000_100).buffer(20, quad_segs=32)
    frame = houses(np.array([400_100.0]), np.array([4_000_100.0])).set_geometry([circle], crs=GROUND.crs)
    write_vector_tiles(frame, GROUND, tmp_path, "all", Zooms(12, 14, 17), going=lambda: None)
    corners = {}
    for kind, zooms in (("points", (12, 13)), ("outlines", (14, 15, 16, 17))):
        tiles = open_tiles(tmp_path / f"all-{kind}.mbtiles")
        rows = tiles.execute("SELECT zoom_level, tile_data FROM tiles").fetchall()
        tiles.close()
        assert {zoom for zoom, _ in rows} == set(zooms)
        for zoom, data in rows:
            told = read_dataframe(bytes(data))
            assert told["id"].tolist() == ["b0"] and told["area_m2"].tolist() == [100.0]
            corners[zoom] = max(
                corners.get(zoom, 0), int(shapely.get_num_coordinates(told.geometry.array).max())
            )
    assert corners[13] == 1 and corners[14] < corners[15] <= corners[16] < corners[17]


def test_the_ground_of_a_map_is_its_outline_in_degrees():
    west, south, east, north = ground_of(GROUND).bounds
    corner = Transformer.from_crs(32615, 4326, always_xy=True).transform(400_000, 4_100_000)
    assert (west, north) == pytest.approx(corner, abs=2e-4)
    assert (east - west) * np.cos(np.radians(37)) * 111_320 == pytest.approx(1100, rel=0.02)
    assert (north - south) * 111_000 == pytest.approx(850, rel=0.03)


def test_a_shift_is_the_same_ground_on_the_grid_of_the_web():
    from aftermap.workflows.review.images import _shift_on

    web, _ = web_grid(GROUND)
    dx, dy = _shift_on(web.crop(window_of(GROUND, web)), GROUND, 12.0, -5.0)
    stretched = 1 / np.cos(np.radians(37.03))  # of the web's metres
    metres = np.hypot(12.0, 5.0) * 0.5
    assert np.hypot(dx, dy) * web.transform.a == pytest.approx(metres * stretched, rel=3e-3)
    assert dx > 0 > dy and _shift_on(GROUND, GROUND, 12.0, -5.0) == (12.0, -5.0)
