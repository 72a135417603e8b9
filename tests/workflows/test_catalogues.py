"""Images of catalogues: what is read of them, which pairs are proposed, and what a map of a pair says of its images."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import geopandas
import pytest
import shapely

import aftermap
from aftermap.errors import DataError, InputError, RemoteError
from aftermap.files import read_json
from aftermap.remote import Address, Online, Reach
from aftermap.workflows.catalogues.find import Found, area_lonlat, days_after, days_before
from aftermap.workflows.catalogues.pairing import acquisitions, covering, propose
from aftermap.workflows.catalogues.pairs_file import pairs_tree, part_rank, read_pair, write_pairs
from aftermap.workflows.catalogues.picture import CatalogueImage
from aftermap.workflows.catalogues.stac import Days, read_item
from aftermap.workflows.mapping.inputs.imagery import credit_of, taken_words
from aftermap.workflows.report.run import facts_of
from aftermap.workflows.review.images import open_images
from made_catalogue import CRS, EVENT, NORTH, WEST, Pass, catalogue, lonlat
from web_server import Site, serving

PASSES = (
    Pass("A1", "2022-07-11", seed=1),
    Pass("A2", "2019-01-01", (0,), off_nadir=25, seed=2),
    Pass("B1", "2023-02-08", off_nadir=25, seed=3),
    Pass("B2", "2023-02-20", (1,), cloud=0.4, seed=4),
    Pass("C", "2025-01-01", seed=5),
)
FILES = catalogue(PASSES)
QUAKE = {"before": "2023-02-06", "after": "2023-02-06"}


@pytest.fixture(scope="module")
def _server() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def site(_server: Site) -> Site:
    for held in (_server.faults, _server.asked, _server.posted, _server.answers):
        held.clear()
    _server.files = dict(FILES)
    return _server


@pytest.fixture(scope="module")
def aoi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Across two tiles."""
    path = tmp_path_factory.mktemp("aoi") / "aoi.geojson"
    box = shapely.box(WEST + 40, NORTH - 140, WEST + 340, NORTH - 40)
    geopandas.GeoDataFrame(geometry=[box], crs=CRS).to_file(path)
    return path


def find(site: Site, aoi: Path, path: str = EVENT, **options: object) -> Found:
    return aftermap.find(f"{site.base}{path}", aoi, **{**QUAKE, **options})  # type: ignore[arg-type]


def image(name: str, day: str, ground: shapely.Geometry, **more: object) -> CatalogueImage:
    when = datetime.fromisoformat(f"{day}T10:00:00+00:00")
    return CatalogueImage(
        name, f"https://h/{name}.json", f"https://h/{name}.tif", name[:1], when, ground, **more
    )  # type: ignore[arg-type]


def test_reasons_are_what_they_say() -> None:
    area = shapely.box(0, 0, 2, 1)
    one = image("a", "2022-01-01", shapely.box(0, 0, 2, 1), cloud=0.5, off_nadir=60.0, gsd=0.3)
    two = image("b", "2022-02-15", shapely.box(0, 0, 1, 1), cloud=0.2, off_nadir=0.0, gsd=1.2)
    (pair,) = propose([one], [two], area, event=(date(2022, 1, 31), date(2022, 2, 1)))
    assert pair.reasons.overlap == 0.5
    assert pair.reasons.clear == pytest.approx(0.5 * 0.8)
    assert pair.reasons.angle == pytest.approx(math.cos(math.radians(60)))
    assert pair.reasons.resolution == pytest.approx(0.6 / 1.2)
    assert pair.reasons.dates == pytest.approx(0.5 ** (30 / 730) * 0.5)
    assert pair.reasons.score == pytest.approx(0.5 * 0.4 * 0.5 * 0.5 * 0.5 ** (30 / 730) * 0.5)


def test_what_a_catalogue_does_not_tell_counts_in_between() -> None:
    area = shapely.box(0, 0, 1, 1)
    (pair,) = propose(
        [image("a", "2022-01-01", area)], [image("b", "2022-02-01", area)], area,
        event=(date(2022, 1, 1), date(2022, 2, 1)),
    )  # fmt: skip
    assert (pair.reasons.clear, pair.reasons.angle, pair.reasons.resolution) == (
        pytest.approx(0.49), pytest.approx(0.49), 0.7,
    )  # fmt: skip


def test_tiles_of_a_pass_are_one_acquisition_and_clouds_go_by_their_ground() -> None:
    area = shapely.box(0, 0, 4, 1)
    tiles = [
        image("a1", "2022-01-01", shapely.box(0, 0, 3, 1), cloud=0.0),
        image("a2", "2022-01-01", shapely.box(3, 0, 9, 1), cloud=0.8),
        image("a1", "2022-01-01", shapely.box(0, 0, 3, 1), cloud=0.0),
        image("a3", "2022-01-02", shapely.box(0, 0, 1, 1)),
    ]
    first, second = acquisitions(tiles, area)
    assert ([i.item for i in first.images], [i.item for i in second.images]) == (["a1", "a2"], ["a3"])
    assert first.mean("cloud") == pytest.approx(0.8 / 4)
    assert first.outline.equals(area)


def test_the_table_holds_each_ground_once_by_its_best_pair() -> None:
    area = shapely.box(0, 0, 2, 1)
    left, right = shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1)
    before = [image("a1", "2022-01-01", left, tile="L"), image("a2", "2022-01-01", right, tile="R")]
    after = [
        image("b1", "2022-02-01", left, tile="L", cloud=0.0),
        image("c1", "2022-02-01", left, tile="L", cloud=0.9),
        image("c2", "2022-02-01", right, tile="R", cloud=0.9),
    ]
    pairs = propose(before, after, area, event=(date(2022, 1, 1), date(2022, 2, 1)))
    assert [(t.name, t.before.item, t.after.item) for t in covering(pairs)] == [
        ("L_20220101_20220201", "a1", "b1"),
        ("R_20220101_20220201", "a2", "c2"),
    ]


def test_days_are_a_span_before_and_after_or_what_is_given() -> None:
    assert days_before("2023-02-06") == Days(date(2018, 2, 6), date(2023, 2, 5))
    assert days_after("2023-02-06") == Days(date(2023, 2, 6), date(2023, 5, 7))
    assert days_after("2023-02-06/2023-02-10") == Days(date(2023, 2, 6), date(2023, 2, 10))
    assert days_after("2023-02-06").hold(datetime(2023, 2, 6, 0, 0, tzinfo=UTC))
    for text in ("yesterday", "2023-02-30", "2023-02-06/2023-02-01", "2023-02-06/"):
        with pytest.raises(InputError, match="--after"):
            days_after(text)


def test_a_static_catalogue_is_walked_where_its_extents_leave_room(site: Site, aoi: Path) -> None:
    found = find(site, aoi, "/events/catalog.json")
    assert [(p.before.name, p.after.name) for p in found.pairs] == [("A1", "B1"), ("A1", "B2"), ("A2", "B1")]
    best = found.pairs[0]
    assert best.reasons.overlap == pytest.approx(1)
    assert best.reasons.angle == pytest.approx(
        math.cos(math.radians(10)) * math.cos(math.radians(25)), abs=1e-6
    )
    shown = best.before.images[0]
    assert (shown.licence, shown.credit, shown.platform, shown.tile) == (
        "CC-BY-NC-4.0",
        "Maxar",
        "WV02",
        "030",
    )
    assert shown.address == f"{site.base}/events/quake-23/ard/37/030/2022-07-11/A1-visual.tif"
    asked = {path for path, _ in site.asked}
    assert "/events/flood-20/collection.json" in asked and len(asked) == found.files == len(site.asked)
    assert not any("/C.json" in path or path.endswith(".tif") for path in asked)


def test_a_catalogue_of_files_is_read_likewise(tmp_path: Path, aoi: Path) -> None:
    for path, data in catalogue(PASSES, images=False).items():
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_bytes(data)
    found = aftermap.find(tmp_path / EVENT[1:], aoi, **QUAKE)
    assert found.pairs[0].name == "A1_B1"
    assert Address.parse(found.pairs[0].before.images[0].address).path.name == "A1-visual.tif"


def test_clouds_and_angles_can_be_limited(site: Site, aoi: Path) -> None:
    assert [p.name for p in find(site, aoi, most_cloud=0.3).pairs] == ["A1_B1", "A2_B1"]
    assert [p.name for p in find(site, aoi, most_off_nadir=20).pairs] == ["A1_B2"]
    with pytest.raises(DataError, match="no two of them show the same ground"):
        find(site, aoi, most_off_nadir=20, most_cloud=0.3)


def test_an_api_is_asked_by_its_search(site: Site, aoi: Path) -> None:
    items = [
        json.loads(data) for path, data in FILES.items() if "/ard/37/" in path and path.endswith(".json")
    ]
    for item in items:
        name = item["assets"]["visual"]["href"].removeprefix("./")
        item["assets"]["visual"]["href"] = f"{site.base}/pixels/{item['id']}/{name}"
        item["links"] = [
            {"rel": "self", "href": f"{site.base}/collections/x/items/{item['id']}"},
            {"rel": "collection", "href": f"{site.base}/collections/x"},
        ]
    core = "https://api.stacspec.org/v1.0.0"
    site.files["/"] = json.dumps({
        "type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "",
        "conformsTo": [f"{core}/core", f"{core}/item-search"],
        "links": [{"rel": "search", "href": f"{site.base}/search", "method": "POST", "type": "application/geo+json"},
                  {"rel": "root", "href": f"{site.base}/"}],
    }).encode()  # fmt: skip
    site.files["/collections/x"] = FILES[EVENT]
    site.answers["/search"] = json.dumps(
        {"type": "FeatureCollection", "features": items, "links": []}
    ).encode()
    found = find(site, aoi, "/", collections=["x"])
    assert found.pairs[0].name == "A1_B1"
    assert found.pairs[0].after.images[0].address == f"{site.base}/pixels/37/030/B1/B1-visual.tif"
    assert found.pairs[0].after.images[0].licence == "CC-BY-NC-4.0"
    body = json.loads(site.posted[0])
    assert body["collections"] == ["x"] and body["intersects"]["type"] == "Polygon"
    assert body["datetime"] == "2018-02-06T00:00:00Z/2023-02-05T23:59:59Z"


def test_what_is_no_catalogue_is_told_in_one_line(site: Site, aoi: Path) -> None:
    site.files |= {
        "/list.json": b"[1]",
        "/text.json": b"<html>",
        "/other.json": b'{"type": "Topology"}',
        "/bad.json": b'{"type": "Collection", "stac_version": "1.0.0", "links": []}',
        "/file.json": json.dumps({
            "type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "",
            "links": [{"rel": "child", "href": "file:///etc/passwd"}],
        }).encode(),
        "/private.json": json.dumps({
            "type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "",
            "links": [{"rel": "child", "href": "http://169.254.169.254/latest/meta-data"}],
        }).encode(),
    }  # fmt: skip
    for path, kind, said in (
        ("/none.json", RemoteError, "no such file"),
        ("/list.json", DataError, "holds a list"),
        ("/text.json", DataError, "is no JSON"),
        ("/other.json", DataError, "its type is Topology"),
        ("/bad.json", DataError, "no valid STAC"),
        ("/file.json", DataError, "links to a file of this machine"),
        ("/private.json", RemoteError, "private network"),
    ):
        with pytest.raises(kind, match=said):
            find(site, aoi, path)
    with pytest.raises(
        DataError, match=r"no image of the area from 2010-01-01 to 2010-02-01: pass another before"
    ):
        find(site, aoi, before="2010-01-01/2010-02-01")
    with pytest.raises(InputError, match="exchange them"):
        find(site, aoi, before="2023-03-01", after="2022-03-01")


def test_an_item_whose_image_is_a_file_of_this_machine_is_left_out(site: Site, aoi: Path) -> None:
    path = next(path for path in FILES if path.endswith("030/2023-02-08/B1.json"))
    site.files[path] = FILES[path].replace(b"./B1-visual.tif", b"file:///etc/passwd")
    found = find(site, aoi)
    assert any("names a file of this machine" in reason for reason in found.left_out)
    with pytest.raises(DataError, match="names a file of this machine"):
        read_item(Address.parse(site.base + path), Online(named=[site.base]))


def test_a_server_reads_catalogues_of_listed_hosts_only(site: Site, aoi: Path) -> None:
    with pytest.raises(RemoteError, match="only https"):
        find(site, aoi, online=Online(Reach.of_strangers(["127.0.0.1"])))
    assert not site.asked


def test_pairs_are_written_and_read_again(site: Site, aoi: Path, tmp_path: Path) -> None:
    found = find(site, aoi)
    path = write_pairs(tmp_path / "pairs.json", found.pairs, found.area, catalogue=found.catalogue)
    for wanted in ("2", found.pairs[1].name):
        chosen = read_pair(path, wanted)
        assert (chosen.before, chosen.after) == (found.pairs[1].before.images, found.pairs[1].after.images)
        assert chosen.area.equals_exact(found.area, 1e-9)
    assert part_rank(f"{path}:2") == (path, "2") and part_rank(str(path)) == (path, "1")
    import pystac

    tree = pairs_tree(found.pairs, found.area, catalogue=found.catalogue)
    items = [pystac.Item.from_dict(item) for item in tree["features"]]
    assert [sorted(item.assets) for item in items[:2]] == [
        ["post-1", "post-2", "pre-1", "pre-2"],
        ["post", "pre-1", "pre-2"],
    ]
    for wanted in ("0", "4", "x", ""):
        with pytest.raises(DataError, match="has no pair"):
            read_pair(path, wanted)
    (tmp_path / "other.json").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(DataError, match="holds no pairs"):
        read_pair(tmp_path / "other.json")
    table = write_pairs(tmp_path / "pairs.csv", found.pairs, found.area, catalogue=found.catalogue)
    from aftermap.workflows.many.pairs import read_pairs

    assert [(p.name, str(p.pre_date), Address.parse(p.post).name) for p in read_pairs(table)] == [
        ("030_20220711_20230208", "2022-07-11", "B1-visual.tif"),
        ("031_20220711_20230208", "2022-07-11", "B1-visual.tif"),
    ]


def test_a_map_of_a_pair_says_how_its_images_were_taken_and_whose_they_are(
    site: Site, aoi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "cache"))
    best = find(site, aoi).pairs[0]
    monkeypatch.setenv("AFTERMAP_BACKEND", "auto")
    with pytest.warns(aftermap.errors.AlignmentWarning):
        aftermap.map(best.before, best.after, tmp_path / "map", aoi=aoi)
    inputs = read_json(tmp_path / "map" / "provenance.json")["inputs"]
    assert inputs["post"]["acquired"] == "2023-02-08"
    assert inputs["post"]["imagery"] == {
        "acquired": "2023-02-08T08:10:39Z", "off_nadir": 25.0, "azimuth": 100.5, "sun_elevation": 40.0, "cloud": 0.0,
        "gsd": 0.5, "platform": "WV02", "licence": "CC-BY-NC-4.0", "credit": "Maxar", "collection": "B1",
    }  # fmt: skip
    assert [file["address"] for file in inputs["pre"]["files"]] == [
        image.address for image in best.before.images
    ]
    page = (tmp_path / "map" / "map.html").read_text()
    assert "Imagery: Maxar, CC-BY-NC-4.0." in page
    assert "After · 2023-02-08" in page and "After: WV02, 25° off nadir." in page
    from aftermap.workflows.mapping.finished import open_map

    sent = site.sent
    images = open_images(open_map(tmp_path / "map"))  # the copies that the map made
    assert [path.name for path in images.pair.pre.files] == ["001-A1-visual.tif", "002-A1-visual.tif"]
    images.close()
    assert site.sent == sent
    assert facts_of(open_map(tmp_path / "map"), "x").credit == "Maxar, CC-BY-NC-4.0"
    asked = [path for path, _ in site.asked if path.endswith(".tif")]
    assert len(asked) > 0 and all(part is not None for path, part in site.asked if path.endswith(".tif"))


def test_the_address_of_an_item_is_that_of_its_image(site: Site) -> None:
    path = next(path for path in FILES if path.endswith("031/2023-02-20/B2.json"))
    found = read_item(Address.parse(site.base + path), Online(named=[site.base]))
    assert found.address == f"{site.base}{path.removesuffix('.json')}-visual.tif"
    assert (found.cloud, found.off_nadir, found.licence, found.credit) == (0.4, 10.0, "CC-BY-NC-4.0", "Maxar")
    with pytest.raises(DataError, match=r"has no asset red: its assets are data-mask, ms_analytic, visual"):
        read_item(Address.parse(site.base + path), Online(named=[site.base]), asset="red")


def test_words_of_angles_and_credit() -> None:
    assert taken_words({"platform": "WV02", "off_nadir": 24.6}) == "WV02, 25° off nadir"
    assert taken_words({"off_nadir": 0.0}) == "0° off nadir" and taken_words(None) == ""
    ours, theirs = {"credit": "Maxar", "licence": "CC"}, {"licence": "CC0"}
    assert credit_of([ours, None, ours, theirs]) == "Maxar, CC; CC0"


def test_an_area_in_degrees_is_that_of_the_file(aoi: Path) -> None:
    box = shapely.box(WEST + 40, NORTH - 140, WEST + 340, NORTH - 40)
    assert area_lonlat(aoi).symmetric_difference(shapely.geometry.shape(lonlat(box))).area < 1e-11
