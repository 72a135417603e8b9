"""Footprints of an area from public maps: each building once and whole, with source, day and licence."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pyarrow
import pytest
import shapely
from pyarrow import parquet

import aftermap
from aftermap.errors import BudgetError, DataError, DataWarning, FootprintError, InputError, OutputError
from aftermap.products.exchange.gdal_files import write_pmtiles
from aftermap.remote import Budget, Online
from made_osm import osm_pbf
from web_server import Site, serving

LON, LAT = 36.16, 36.20
STEP = 0.001


@pytest.fixture(scope="module")
def _server() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def site(_server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for held in (_server.files, _server.faults, _server.asked):
        held.clear()
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "cache"))
    return _server


@pytest.fixture(scope="module")
def aoi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two columns of houses, and the western half of the third."""
    path = tmp_path_factory.mktemp("aoi") / "aoi.geojson"
    box = shapely.box(LON - STEP / 2, LAT - STEP / 2, LON + 2.1 * STEP, LAT + 20 * STEP)
    geopandas.GeoDataFrame(geometry=[box], crs=4326).to_file(path)
    return path


def house(column: float, row: float) -> shapely.Polygon:
    west, south = LON + column * STEP, LAT + row * STEP
    return shapely.box(west, south, west + STEP / 4, south + STEP / 4)


def houses(columns: int = 40, rows: int = 20) -> geopandas.GeoDataFrame:
    """Sorted by column, as public files are sorted by place."""
    cells = [(c, r) for c in range(columns) for r in range(rows)]
    return geopandas.GeoDataFrame(
        {"id": [f"h{c:02d}-{r:02d}" for c, r in cells]}, geometry=[house(*cell) for cell in cells], crs=4326
    )


def read(path: Path) -> geopandas.GeoDataFrame:
    return (
        geopandas.read_parquet(path)
        if path.suffix == ".parquet"
        else geopandas.read_file(path, engine="pyogrio")
    )


def overture(site: Site) -> None:
    """A release of one file that lies here, one that lies elsewhere, and its index."""
    frame = houses()
    osm = [
        {"property": "", "dataset": "OpenStreetMap", "update_time": "2025-03-04T01:02:03Z", "license": None}
    ]
    machine = [
        {"property": "/height", "dataset": "Heights", "update_time": "2020-01-01", "license": "X"},
        {
            "property": "",
            "dataset": "Microsoft ML Buildings",
            "update_time": None,
            "license": "CDLA-Permissive-2.0",
        },
    ]
    frame["sources"] = [osm if index % 2 == 0 else machine for index in range(len(frame))]
    frame["height"] = [4.5 if index == 0 else None for index in range(len(frame))]
    frame["class"] = "house"
    frame["names"] = [{"primary": "Town hall"} if index == 0 else None for index in range(len(frame))]
    frame["cartography"] = ["x" * 500 + str(index) for index in range(len(frame))]  # that nobody asks for
    file = io.BytesIO()
    frame.to_parquet(file, write_covering_bbox=True, schema_version="1.1.0", row_group_size=40)
    site.files["/b0.parquet"] = file.getvalue()
    rows = [
        {"type": "Feature", "collection": kind, "bbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)),
         "assets": {"aws": {"alternate": {"s3": {"href": f"{site.base}/{name}"}}}}}
        for kind, name, box in (
            ("building", "b0.parquet", frame.total_bounds.tolist()),
            ("building", "elsewhere.parquet", [10.0, 10.0, 11.0, 11.0]),
            ("building_part", "parts.parquet", frame.total_bounds.tolist()),
        )
    ]  # fmt: skip
    index = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), index)
    site.files["/2026-11-18.0/collections.parquet"] = index.getvalue()
    links = [{"rel": "child", "href": f"./{name}/catalog.json"} for name in ("2026-11-18.0", "2026-10-21.0")]
    site.files["/catalog.json"] = json.dumps({"latest": "2026-11-18.0", "links": links}).encode()


def test_buildings_of_overture_are_read_in_part_with_source_day_and_licence(
    site: Site, aoi: Path, tmp_path: Path
) -> None:
    overture(site)
    online = Online(named=[site.base])
    found = aftermap.footprints(aoi, tmp_path / "f.gpkg", source=f"{site.base}/catalog.json", online=online)
    frame = read(found.path)
    assert found.count == len(frame) == 60
    assert sorted(frame["building_id"])[:2] == ["h00-00", "h00-01"] and "h02-19" in set(frame["building_id"])
    first, second = (frame.set_index("building_id").loc[name] for name in ("h00-00", "h00-01"))
    assert (first["source"], first["source_date"], first["licence"]) == (
        "Overture 2026-11-18.0: OpenStreetMap", "2025-03-04", "ODbL-1.0",
    )  # fmt: skip
    assert (second["source"], second["source_date"], second["licence"]) == (
        "Overture 2026-11-18.0: Microsoft ML Buildings", "2026-11-18", "CDLA-Permissive-2.0",
    )  # fmt: skip
    assert (first["name"], first["class"], first["height"]) == ("Town hall", "house", 4.5)
    assert first.geometry.normalize().equals_exact(shapely.MultiPolygon([house(0, 0)]).normalize(), 1e-9)
    assert found.sources[("Overture 2026-11-18.0: OpenStreetMap", "ODbL-1.0")] == 30
    assert {path for path, _ in site.asked} == {
        "/catalog.json",
        "/2026-11-18.0/collections.parquet",
        "/b0.parquet",
    }
    whole = sum(len(data) for data in site.files.values())
    assert online.budget.spent < whole / 2 + 70_000


def test_a_release_that_is_not_there_and_a_budget_that_is_too_small_are_told(
    site: Site, aoi: Path, tmp_path: Path
) -> None:
    overture(site)
    source, out = f"{site.base}/catalog.json", tmp_path / "f.gpkg"
    with pytest.raises(
        DataError, match=r"no release 2020-01-01.0: the newest are 2026-11-18.0, 2026-10-21.0"
    ):
        aftermap.footprints(aoi, out, source=source, release="2020-01-01.0")
    with pytest.raises(BudgetError, match="used up"):
        aftermap.footprints(aoi, out, source=source, online=Online(named=[site.base], budget=Budget(30_000)))
    site.files["/2026-11-18.0/collections.parquet"] = b"no index"
    with pytest.raises(DataError, match="no index of Overture"):
        aftermap.footprints(aoi, out, source=source)
    assert not out.exists()


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "parquet"])
def test_geoparquet_at_hand_is_read_in_part_and_any_ending_is_written(
    aoi: Path, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / "houses.parquet"
    houses().assign(license="CC-BY-4.0", update_time="2024-02-03T00:00:00").to_crs(32637).to_parquet(
        path, write_covering_bbox=True, schema_version="1.1.0", row_group_size=40
    )
    found = aftermap.footprints(aoi, tmp_path / f"f.{ending}", source=path, credit="City of Antakya")
    frame = read(found.path)
    assert len(frame) == 60
    assert set(
        zip(frame["source"], frame["source_date"].astype(str).str[:10], frame["licence"], strict=True)
    ) == {("City of Antakya", "2024-02-03", "CC-BY-4.0")}


def test_geoparquet_at_an_address_is_read_by_ranges(site: Site, aoi: Path, tmp_path: Path) -> None:
    path = tmp_path / "houses.parquet"
    frame = houses().assign(filling=[np.random.default_rng(i).bytes(400).hex() for i in range(800)])
    frame.to_parquet(path, write_covering_bbox=True, schema_version="1.1.0", row_group_size=40)
    site.files["/houses.parquet"] = path.read_bytes()
    online = Online(named=[site.base])
    found = aftermap.footprints(
        aoi, tmp_path / "f.gpkg", source=f"{site.base}/houses.parquet", online=online, licence="ODbL-1.0"
    )
    assert found.count == 60 and online.budget.spent < path.stat().st_size / 2


def test_buildings_of_an_openstreetmap_extract(aoi: Path, tmp_path: Path) -> None:
    corners = {
        1 + 4 * index + corner: point
        for index, cell in enumerate([(0, 0), (1, 1), (30, 0), (2, 2)])
        for corner, point in enumerate(house(*cell).exterior.coords[:4])
    }
    ring = [[first, first + 1, first + 2, first + 3, first] for first in (1, 5, 9, 13)]
    when = 1_700_000_000  # 2023-11-14
    path = tmp_path / "town.osm.pbf"
    path.write_bytes(
        osm_pbf(
            corners,
            [
                (
                    11,
                    ring[0],
                    {"building": "yes", "name": "Çarşı", "height": "7.5 m", "building:levels": "2"},
                    when,
                ),
                (12, ring[1], {"building": "house"}, when),
                (13, ring[2], {"building": "yes"}, when),  # beyond the area
                (14, ring[3], {"landuse": "grass"}, when),
            ],
        )
    )
    frame = read(aftermap.footprints(aoi, tmp_path / "f.gpkg", source=path).path)
    assert frame["building_id"].tolist() == ["way/11", "way/12"]
    assert set(
        zip(frame["source"], frame["source_date"].astype(str).str[:10], frame["licence"], strict=True)
    ) == {("OpenStreetMap", "2023-11-14", "ODbL-1.0")}
    assert (frame["name"][0], frame["height"][0], frame["floors"][0], frame["class"][1]) == (
        "Çarşı",
        7.5,
        2.0,
        "house",
    )
    assert frame.geometry[0].normalize().equals_exact(shapely.MultiPolygon([house(0, 0)]).normalize(), 1e-6)


@pytest.mark.parametrize("named", [True, False], ids=["with ids", "without"])
def test_buildings_that_tiles_have_cut_are_whole_again(aoi: Path, tmp_path: Path, named: bool) -> None:
    frame = houses(6, 12).to_crs(3857)
    frame = frame if named else frame.drop(columns="id").assign(kind="house")
    path = tmp_path / "town.pmtiles"
    write_pmtiles(frame, path, "buildings", description="")
    with pytest.warns(DataWarning, match="under which licence"):
        found = aftermap.footprints(aoi, tmp_path / "f.gpkg", source=path, source_date="2026")
    got = read(found.path).to_crs(3857)
    expected = frame.cx[:, :].iloc[:36]
    assert found.count == 36
    assert got.area.sum() == pytest.approx(expected.area.sum(), rel=0.02)
    assert set(got["source_date"]) == {"2026"} and set(got["licence"]) == {"not stated"}


def test_any_vector_file_is_a_source(site: Site, aoi: Path, tmp_path: Path) -> None:
    path = tmp_path / "houses.geojson"
    houses(3, 3).to_file(path)
    site.files["/houses.geojson"] = path.read_bytes()
    for source in (path, f"{site.base}/houses.geojson"):
        found = aftermap.footprints(
            aoi, tmp_path / "f.gpkg", source=source, licence="CC0-1.0", source_date="2026-01-02"
        )
        assert found.count == 9 and found.sources == {("houses.geojson", "CC0-1.0"): 9}


def test_what_cannot_be_used_is_told_in_one_line(aoi: Path, tmp_path: Path) -> None:
    (tmp_path / "a.osm.pbf").write_bytes(b"x" * 100)
    (tmp_path / "a.pmtiles").write_bytes(b"x" * 200)
    (tmp_path / "a.parquet").write_bytes(b"PAR1xxxx")
    plain = tmp_path / "plain.parquet"
    parquet.write_table(pyarrow.table({"a": [1]}), plain)
    far = tmp_path / "far.parquet"
    houses(1, 1).set_geometry([shapely.box(0, 0, 1, 1)], crs=4326).to_parquet(far)
    out = tmp_path / "f.gpkg"
    for name, said in (
        ("a.osm.pbf", "no extract of OpenStreetMap"),
        ("a.pmtiles", "no PMTiles"),
        ("a.parquet", "cannot read a.parquet"),
        ("plain.parquet", "without the geo metadata"),
        ("far.parquet", "no building in the area"),
        ("none.pbf", "no such file"),
    ):
        with pytest.raises(FootprintError, match=said):
            aftermap.footprints(aoi, out, source=tmp_path / name, licence="x")
    with pytest.raises(OutputError, match=r"ends in \.gpkg, \.geojson, \.parquet"):
        aftermap.footprints(aoi, tmp_path / "f.shp", source=far)
    with pytest.raises(InputError, match="is of Overture"):
        aftermap.footprints(aoi, out, source=far, release="2026-11-18.0")
    with pytest.raises(InputError, match="is no day"):
        aftermap.footprints(aoi, out, source=far, source_date="last week")
    assert not out.exists()
