"""`aftermap find`, `footprints` and `collect`, as a user calls them."""

import json
from collections.abc import Iterator
from pathlib import Path

import geopandas
import pytest
import shapely

import finished_maps
from aftermap.cli.app import main
from made_catalogue import CRS, EVENT, NORTH, WEST, Pass, catalogue
from web_server import Site, serving


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving() as site:
        site.files = catalogue([Pass("A", "2022-07-11"), Pass("B", "2023-02-08", cloud=0.25)], images=False)
        yield site


@pytest.fixture
def aoi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gebiet ä.geojson"
    box = shapely.box(WEST + 40, NORTH - 140, WEST + 340, NORTH - 40)
    geopandas.GeoDataFrame(geometry=[box], crs=CRS).to_file(path)
    return path


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_find_prints_pairs_and_writes_what_maps_take(
    site: Site, aoi: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    asked = ("find", "--event-stac", f"{site.base}{EVENT}?key=secret", "--aoi", aoi, "--before", "2023-02-06")
    assert call(*asked, "-o", "pairs.json") == 0
    out = capsys.readouterr().out
    assert (
        "2022-07-11 WV02" in out
        and "10° 25% 0.50 m x2" in out
        and "licence of the images: CC-BY-NC-4.0" in out
    )
    assert "aftermap map --pair pairs.json:1 -o OUT" in out
    assert json.loads(Path("pairs.json").read_text())["features"][0]["id"] == "A_B"
    assert "secret" not in out + Path("pairs.json").read_text()
    assert call(*asked, "-o", "pairs.csv") == 0
    assert "aftermap map-many pairs.csv -o OUT" in capsys.readouterr().out
    assert len(Path("pairs.csv").read_text().splitlines()) == 3
    assert call(*asked, "--json") == 0
    assert (
        json.loads(capsys.readouterr().out)["features"][0]["properties"]["aftermap:reasons"]["clear"] == 0.75
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["find", "--event-stac", "none.json", "--aoi", "AOI", "--before", "2023-02-06"],
            "there is no such file",
        ),
        (
            ["find", "--event-stac", "town", "--aoi", "AOI", "--before", "2023-02-06"],
            "town is a folder: pass the file of its catalogue, such as town/catalog.json",
        ),
        (
            ["find", "--event-stac", "x.json", "--aoi", "none.gpkg", "--before", "2023-02-06"],
            "cannot read none.gpkg",
        ),
        (["map", "--pair", "none.json:1", "-o", "out"], "cannot read the pairs none.json"),
        (["map", "-o", "out"], "pass the images, or in their place --pair"),
        (
            ["map", "http://127.0.0.1:1/a.tif", "http://127.0.0.1:1/b.tif", "-o", "out"],
            "nothing answers on port 1",
        ),
        (
            ["footprints", "--aoi", "AOI", "--from", "none.osm.pbf", "-o", "f.gpkg"],
            "cannot read none.osm.pbf",
        ),
        (["footprints", "--aoi", "AOI", "--from", "AOI", "-o", "f.txt"], "expected a name that ends in"),
        (
            ["footprints", "--aoi", "AOI", "--from", "AOI", "-o", "AOI"],
            "is read for this, and stays as it is",
        ),
        (
            ["find", "--event-stac", "x.json", "--aoi", "AOI", "--before", "2023-02-06", "-o", "AOI"],
            "is read for this",
        ),
        (
            ["find", "--event-stac", "x.json", "--aoi", "AOI", "--before", "2023-02-06", "-o", "p.txt"],
            "expected NAME.json",
        ),
        (["collect", "town", "./town", "-o", "c"], "town is named twice"),
        (["collect", "none", "-o", "c"], "none is not a finished map"),
    ],
)
def test_mistakes_are_one_line(
    aoi: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("town").mkdir()
    assert call(*(aoi if word == "AOI" else word for word in words)) == 2
    told = capsys.readouterr().err.strip()
    assert said in told and len([line for line in told.splitlines() if "aftermap:" in line]) == 1


def test_footprints_tell_sources_and_licences(aoi: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house = shapely.box(WEST + 50, NORTH - 100, WEST + 60, NORTH - 90)
    geopandas.GeoDataFrame({"id": ["7"]}, geometry=[house], crs=CRS).to_file("häuser.geojson")
    words = ("footprints", "--aoi", aoi, "--from", "häuser.geojson", "--licence", "CC0-1.0", "-o", "f.gpkg")
    assert call(*words) == 0
    assert "1 building of häuser.geojson, licence CC0-1.0" in capsys.readouterr().out
    assert call(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["sources"] == [
        {"source": "häuser.geojson", "licence": "CC0-1.0", "buildings": 1}
    ]


def test_collect_says_what_it_wrote(aoi: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished_maps.finish(Path("town"), finished_maps.table([(10, 10)], ["destroyed"]))
    assert call("collect", "town", "-o", "c") == 0
    assert "c/collection.json with 1 item" in capsys.readouterr().out
    assert call("collect", "town", "-o", "c", "--licence", "CC-BY-4.0") == 0  # an earlier one is replaced
    assert json.loads(Path("c/collection.json").read_text())["license"] == "CC-BY-4.0"
    capsys.readouterr()
    for words, said in (
        (("-o", "town"), "town is there and holds no collection"),
        (("-o", "d", "--licence", "CC BY 4.0"), "--licence CC BY 4.0 is no SPDX identifier"),
    ):
        assert call("collect", "town", *words) == 2
        assert said in capsys.readouterr().err and not Path("d").exists()
