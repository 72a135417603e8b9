"""Finished maps as a STAC collection."""

import hashlib
import json
from pathlib import Path

import pystac
import pytest

import finished_maps
from aftermap import api
from aftermap.errors import GeoreferenceError, InputError
from aftermap.geo.grid import Grid

SOURCE = "https://host/items/B1.json"


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("maps")
    made = [
        finished_maps.finish(
            folder / name, finished_maps.table([(10, 10), (20, 20)], ["destroyed", "no-damage"])
        )
        for name in ("north", "süd")
    ]
    told = json.loads((made[0] / "provenance.json").read_text())
    told["inputs"]["post"] |= {
        "files": [
            {"name": "b.tif", "item_address": SOURCE},
            {"name": "c.tif", "item_address": "file:///x.json"},
        ],
        "imagery": {"licence": "CC-BY-NC-4.0", "off_nadir": 25.0},
    }
    (made[0] / "provenance.json").write_text(json.dumps(told))
    return made


def test_a_collection_is_read_by_pystac_and_its_links_lead_to_files(maps: list[Path]) -> None:
    files = api.collect(maps, maps[0].parent / "catalogue", name="town", licence="CC-BY-4.0")
    collection = pystac.Collection.from_file(str(files[0]))
    assert (collection.id, collection.license) == ("town", "CC-BY-4.0")
    items = list(collection.get_items())
    assert [item.id for item in items] == ["north", "süd"]
    for item, path in zip(items, files[1:], strict=True):
        assert item.get_self_href() == str(path) and item.get_collection() is collection
        assert {"buildings.gpkg", "damage.tif", "provenance.json"} <= set(item.assets)
        for asset in item.assets.values():
            file = Path(asset.get_absolute_href() or "")
            assert (
                asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(file.read_bytes()).hexdigest()
            )
        assert item.properties["proj:code"] == "EPSG:32615" and item.properties["proj:shape"] == [80, 120]
    boxes = collection.extent.spatial.bboxes
    assert boxes[0] == items[0].bbox and len(boxes) == 3
    assert collection.extent.temporal.intervals[0][0].isoformat() == "2011-05-24T00:00:00+00:00"


def test_an_item_names_those_of_its_images(maps: list[Path], tmp_path: Path) -> None:
    first, second = (json.loads(path.read_text()) for path in api.collect(maps, tmp_path / "c")[1:])
    derived = [link["href"] for link in first["links"] if link["rel"] == "derived_from"]
    assert derived == [SOURCE]  # no file of this machine
    assert first["properties"]["aftermap:imagery"]["after"]["licence"] == "CC-BY-NC-4.0"
    assert "aftermap:imagery" not in second["properties"]


def test_what_cannot_be_collected_is_told(maps: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="north is named twice: a map is one item"):
        api.collect([maps[0], maps[0]], tmp_path / "c")
    with pytest.raises(InputError, match="not a finished map"):
        api.collect([tmp_path], tmp_path / "c")
    grid = Grid.pixels(120, 80)
    plain = finished_maps.finish(
        tmp_path / "plain", finished_maps.table([(10, 10)], ["destroyed"], grid), grid
    )
    with pytest.raises(GeoreferenceError, match="in pixels"):
        api.collect([plain], tmp_path / "c")
    assert not (tmp_path / "c").exists()
