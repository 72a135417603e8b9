"""Many finished maps as one STAC collection: a file that any catalogue takes in, and an item for each map.

    FOLDER/collection.json
    FOLDER/NAME/NAME.json       an item, whose assets are the files of the map where they lie

Source: STAC specification 1.1.0, collection and item; best practices of static catalogues.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aftermap.errors import GeoreferenceError, InputError, OutputError
from aftermap.files import make_folder, read_json, write_json
from aftermap.products.exchange.stac import stac_item
from aftermap.products.lineage import Lineage
from aftermap.wording import counted
from aftermap.workflows.mapping.finished import FinishedMap, open_map

COLLECTION = "collection.json"
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*( (AND|OR|WITH) [A-Za-z0-9][A-Za-z0-9.+-]*)*")
_GEOJSON, _JSON = "application/geo+json", "application/json"


def write_collection(
    maps: Sequence[Path],
    folder: Path,
    *,
    name: str | None = None,
    title: str = "",
    licence: str = "other",
) -> list[Path]:
    """Write a STAC collection of finished maps of damage.

    Args:
        maps: their folders; names of folders become ids, so no two may be the same.
        folder: where to write; it refers to the maps by relative paths.
        name: id of the collection; the folder's name by default.
        title: of the collection.
        licence: SPDX, or `other`; the items tell what images and model ask for.

    Returns:
        `collection.json` and the items.

    Raises:
        InputError: one is not a finished map of damage, two have the same name, or the licence has no form of SPDX.
        GeoreferenceError: one is in pixels.
        OutputError: the folder holds other things, or something cannot be written.
    """
    if not maps:
        raise InputError("a collection needs a map at least")
    places = [path.resolve() for path in maps]
    if again := sorted({str(each) for each in maps if places.count(each.resolve()) > 1}):
        raise InputError(f"{again[0]} is named twice: a map is one item")
    names = [path.name for path in places]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise InputError(
            f"two maps are called {twice[0]}: rename the folder of one, its name is the id of its item"
        )
    opened = [open_map(path, also=("post-only", "pre-only")) for path in maps]
    for each in opened:
        if each.grid.crs is None:
            raise GeoreferenceError(f"{each.folder} is a map in pixels, which has no place in a catalogue")
    _check_licence(licence)
    _check_folder(folder)
    identity = name or folder.resolve().name
    written = [_write_item(each, item, folder, identity) for each, item in zip(opened, names, strict=True)]
    tree = _collection([item for _, item in written], identity, title, licence, opened)
    return [write_json(make_folder(folder) / COLLECTION, tree), *(path for path, _ in written)]


def _check_licence(licence: str) -> None:
    """Refuse words where catalogues expect an identifier."""
    if not _SPDX.fullmatch(licence):
        raise InputError(
            f"--licence {licence} is no SPDX identifier: pass one such as CC-BY-4.0, CC-BY-NC-4.0 or ODbL-1.0, or other"
        )


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier collection."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        earlier = read_json(folder / COLLECTION) if (folder / COLLECTION).is_file() else None
    except InputError:
        earlier = None
    summaries = earlier.get("summaries") if isinstance(earlier, dict) else None
    if not (isinstance(summaries, dict) and "aftermap:model" in summaries):
        raise OutputError(
            f"{folder} is there and holds no collection of 'aftermap collect': choose another output folder"
        )


def sources_of(provenance: Any) -> list[str]:
    """Addresses of the STAC items of a map's images, where it was made of such."""
    found: dict[str, None] = {}
    inputs = provenance.get("inputs") if isinstance(provenance, dict) else None
    for date in ("pre", "post"):
        described = inputs.get(date) if isinstance(inputs, dict) else None
        for file in (described.get("files") or ()) if isinstance(described, dict) else ():
            address = file.get("item_address") if isinstance(file, dict) else None
            if isinstance(address, str) and address.startswith(("https://", "http://")):
                found[address] = None
    return list(found)


def imagery_of(provenance: Any) -> dict[str, Any]:
    """What catalogues said of a map's images, by date."""
    inputs = provenance.get("inputs") if isinstance(provenance, dict) else None
    told = {
        word: described["imagery"]
        for date, word in (("pre", "before"), ("post", "after"))
        if isinstance(inputs, dict)
        and isinstance(described := inputs.get(date), dict)
        and isinstance(described.get("imagery"), dict)
    }
    return {"aftermap:imagery": told} if told else {}


def _write_item(found: FinishedMap, name: str, folder: Path, collection: str) -> tuple[Path, dict[str, Any]]:
    place = make_folder(folder / name)
    steps = os.path.relpath(found.folder.resolve(), place.resolve()).replace(os.sep, "/") + "/"
    item = stac_item(
        found.folder,
        found.grid,
        Lineage.of(found.provenance),
        name=name,
        also={},
        steps=steps,
        sources=sources_of(found.provenance),
        properties=imagery_of(found.provenance),
        scheme=found.scheme,
    )
    up = f"../{COLLECTION}"
    item["collection"] = collection
    item["links"] = [
        *({"rel": rel, "href": up, "type": _JSON} for rel in ("root", "parent", "collection")),
        *item["links"],
    ]
    return write_json(place / f"{name}.json", item), item


def _collection(
    items: Sequence[dict[str, Any]], name: str, title: str, licence: str, maps: Sequence[FinishedMap]
) -> dict[str, Any]:
    boxes = [item["bbox"] for item in items]
    begun = [item["properties"].get("start_datetime") or item["properties"]["datetime"] for item in items]
    ended = [item["properties"].get("end_datetime") or item["properties"]["datetime"] for item in items]
    models = sorted({str(item["properties"]["aftermap:model"]) for item in items})
    buildings = sum(len(each.buildings) for each in maps)
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": name,
        **({"title": title} if title else {}),
        "description": (
            f"{_told(maps)} {buildings:,} buildings on {counted(len(items), 'map')}, estimated from images by "
            f"{', '.join(models)}. Rapid assessment, not validated in the field."
        ),
        "license": licence,
        "extent": {
            "spatial": {"bbox": [_around(boxes), *(boxes if len(boxes) > 1 else ())]},
            "temporal": {"interval": [[min(begun), max(ended)]]},
        },
        "summaries": {
            "gsd": sorted({round(item["properties"]["gsd"], 3) for item in items}),
            "proj:code": sorted({str(item["properties"]["proj:code"]) for item in items}),
            "aftermap:model": models,
        },
        "links": [
            {"rel": "root", "href": f"./{COLLECTION}", "type": _JSON},
            *(
                {"rel": "item", "href": f"./{i['id']}/{i['id']}.json", "type": _GEOJSON, "title": i["id"]}
                for i in items
            ),
        ],
    }


def _told(maps: Sequence[FinishedMap]) -> str:
    """What all of the maps tell, and no more than one of them."""
    modes = {each.one_date for each in maps}
    if modes == {None}:
        return "Damage of"
    if modes == {"post-only"}:
        return "Destroyed or not, from the image after alone, of"
    return "What each item says, of" if len(modes) > 1 else "Buildings before the event, without damage:"


def _around(boxes: Sequence[Sequence[float]]) -> list[float]:
    """The box around boxes; the whole turn where one of them crosses 180 degrees."""
    if any(box[0] > box[2] for box in boxes):
        return [-180.0, min(box[1] for box in boxes), 180.0, max(box[3] for box in boxes)]
    west, south = (min(box[side] for box in boxes) for side in (0, 1))
    east, north = (max(box[side] for box in boxes) for side in (2, 3))
    return [west, south, east, north]
