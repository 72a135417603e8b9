"""The user's buildings: told from areas of interest, and with their columns behind ours."""

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin
from shapely import box

from aftermap.errors import DataWarning, FootprintError, InputError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import RasterSource
from aftermap.workflows.mapping.buildings import map_buildings
from aftermap.workflows.mapping.inputs.known import Known
from aftermap.workflows.mapping.inputs.memory import OnDisk
from aftermap.workflows.mapping.settings import Settings

GRID = Grid(CRS.from_epsg(32615), from_origin(367000, 4104000, 0.5, 0.5), 200, 200)


def at(left: float, top: float, right: float, bottom: float):
    """A box in pixels of the grid."""
    return box(367000 + left / 2, 4104000 - bottom / 2, 367000 + right / 2, 4104000 - top / 2)


HOUSES = [at(20, 20, 40, 40), at(60, 20, 80, 40), at(20, 60, 40, 80)]


def write(path: Path, shapes: list) -> Path:
    names = [f"b{n}" for n in range(len(shapes))]
    geopandas.GeoDataFrame({"id": names, "use": names}, geometry=shapes, crs=32615).to_file(path)
    return path


def test_an_outline_around_most_of_the_others_is_left_out_and_said(tmp_path):
    path = write(tmp_path / "f.gpkg", [HOUSES[0], at(0, 0, 200, 180), *HOUSES[1:]])
    with pytest.warns(DataWarning, match=r"f\.gpkg: 1 left out: larger than half of the image"):
        known = Known.read(path, GRID)
    assert known.frame["building_id"].tolist() == ["b0", "b2", "b3"]
    assert known.columns["use"].tolist() == ["b0", "b2", "b3"]
    assert [shape.bounds for shape in known.outlines] == [
        (20, 20, 40, 40),
        (60, 20, 80, 40),
        (20, 60, 40, 80),
    ]


def test_a_single_outline_over_most_of_the_image_is_refused_unless_its_layer_is_named(tmp_path):
    path = write(tmp_path / "f.gpkg", [at(0, 0, 200, 180)])
    with pytest.raises(
        FootprintError, match=r"covers 90% of it, which looks like an area of interest: pass it as --aoi"
    ):
        Known.read(path, GRID)
    with pytest.warns(DataWarning, match="judged as a building, because its layer was named"):
        known = Known.read(Path(f"{path}:f"), GRID)
    assert known.frame["building_id"].tolist() == ["b0"]


def test_large_buildings_are_kept(tmp_path):
    half = [at(0, 0, 100, 200), *HOUSES]  # half of the image is not more than half
    assert len(Known.read(write(tmp_path / "half.gpkg", half), GRID).frame) == 4
    beside = [at(50, 0, 200, 200), at(2, 2, 10, 10), at(2, 20, 10, 30)]  # holds none of the others
    assert len(Known.read(write(tmp_path / "beside.gpkg", beside), GRID).frame) == 3


def test_the_whole_image_counts_and_not_the_part_that_is_mapped(tmp_path):
    part = GRID.crop(Window(20, 20, 20, 20))
    known = Known.read(write(tmp_path / "f.gpkg", HOUSES[:1]), part, scene=GRID)
    assert known.outlines[0].bounds == (0, 0, 20, 20)
    with pytest.raises(FootprintError, match="covers 100% of it"):
        Known.read(tmp_path / "f.gpkg", part)


def test_a_table_in_memory_keeps_its_index_ids_and_odd_columns():
    frame = geopandas.GeoDataFrame(
        {
            "fid": [5, 5, 6],
            "tags": [[1, 2], {"a": None}, None],
            "mixed": [1, "x", 2.5],
            "Fid": ["p", "q", "r"],
        },
        geometry=HOUSES,
        crs=32615,
        index=["way/1", "7", "x"],
    )
    frame.index.name = "osm_id"
    with closing(OnDisk()) as files:
        known = Known.read(files.vectors(frame, "footprints"), GRID)
    assert known.frame["building_id"].tolist() == ["way/1", "7", "x"]
    assert known.columns["fid"].tolist() == [5, 5, 6]
    assert known.columns["Fid_2"].tolist() == ["p", "q", "r"]
    assert known.columns["tags"].tolist()[:2] == ["[1, 2]", '{"a": null}']
    assert known.columns["mixed"].tolist() == ["1", "x", "2.5"]


@pytest.mark.parametrize(("word", "what"), [("footprints", "footprints"), ("aoi", "the area of interest")])
def test_a_missing_vector_file_is_told_of_before_the_model_is_looked_for(tmp_path, word, what):
    with pytest.raises(FootprintError, match=f"cannot read {what} .*none.gpkg: no such file"):
        map_buildings(
            tmp_path / "image.tif", tmp_path / "out", model="no-such-model", **{word: tmp_path / "none.gpkg"}
        )


def beside_their_houses(folder: Path) -> tuple[Path, Path]:
    """An image of 36 houses, and footprints that lie 3 px west and 2 px north of them."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 100, (200, 200)).astype(np.uint8)
    corners = [(left, top) for top in range(16, 180, 30) for left in range(16, 180, 30)]
    for left, top in corners:
        image[top : top + 14, left : left + 16] += 90
    with rasterio.open(
        folder / "pre.tif",
        "w",
        driver="GTiff",
        width=200,
        height=200,
        count=1,
        dtype="uint8",
        crs=GRID.crs,
        transform=GRID.transform,
    ) as file:
        file.write(image, 1)
    shapes = [at(left - 3, top - 2, left + 13, top + 12) for left, top in corners]
    return folder / "pre.tif", write(folder / "beside.gpkg", shapes)


def test_footprints_beside_their_houses_are_moved_onto_them_and_kept_as_given(tmp_path):
    image, path = beside_their_houses(tmp_path)
    known = Known.read(path, GRID)
    with closing(RasterSource.open(image)) as source:
        inputs = SimpleNamespace(grid=GRID, scene=SimpleNamespace(sources={"pre": source}))
        moved = known.aligned(inputs)
    assert moved.shifts.moved.all()
    offsets = np.array([shape.bounds[:2] for shape in moved.outlines]) - np.array(
        [shape.bounds[:2] for shape in known.outlines]
    )
    assert np.abs(offsets - (3, 2)).max() <= 0.5
    first = moved.frame.geometry.iloc[0].bounds[0]
    assert first == pytest.approx(367000 + moved.outlines[0].bounds[0] / 2)  # the same place on the ground
    assert moved.columns["moved_m"].tolist() == pytest.approx(
        [13**0.5 / 2] * 36, abs=0.3
    )  # pixels of half a metre
    moved.write_given(tmp_path)
    given = geopandas.read_file(tmp_path / "footprints-given.gpkg")
    assert given["building_id"].tolist() == known.frame["building_id"].tolist()
    assert given.geometry.geom_equals(known.frame.geometry).all() and given.crs == known.frame.crs
    assert moved.notes()[1].startswith("36 of 36 footprints moved onto their houses, by 3.")


def test_footprints_that_cannot_be_measured_stay_and_it_is_said(tmp_path):
    image, _ = beside_their_houses(tmp_path)
    known = Known.read(write(tmp_path / "few.gpkg", HOUSES), GRID)
    with closing(RasterSource.open(image)) as source:
        inputs = SimpleNamespace(grid=GRID, scene=SimpleNamespace(sources={"pre": source}))
        same = known.aligned(inputs)
    assert same.frame is known.frame and same.outlines == known.outlines and "moved_m" not in same.columns
    assert same.notes()[1] == ("footprints stay as they were given: too few outlines show edges in the image")
    same.write_given(tmp_path / "absent")  # nothing to keep


def test_alignment_without_footprints_is_refused():
    with pytest.raises(InputError, match="--align-footprints moves footprints, and none are given"):
        Settings(align_footprints=True)
