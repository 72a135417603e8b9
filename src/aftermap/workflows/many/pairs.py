"""The list of scenes: a CSV or JSON table of pairs, or a STAC collection whose items hold both images.

    name,pre,post,footprints,cloud_mask,pre_date,post_date
    north,north_pre.tif,north_post.tif,,,2011-05-20,2011-05-24

Paths are relative to the list. Only `pre` and `post` are needed; a scene without a name is called after its first image.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from aftermap.errors import InputError, shown
from aftermap.geo.raster import RasterSource
from aftermap.remote.addresses import is_address, unknown_scheme

COLUMNS = ("name", "pre", "post", "footprints", "cloud_mask", "pre_date", "post_date")
_NEEDED = ("pre", "post")
_FILES = ("pre", "post", "footprints", "cloud_mask")
_DATES = ("pre_date", "post_date")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|/vsi")
_UNSAFE = re.compile(r"[^\w.+-]+")
_LONGEST = 80
_MOST_BYTES = 200_000_000
_ASSETS = {"pre": ("pre", "before", "pre_event"), "post": ("post", "after", "post_event")}


@dataclass(frozen=True)
class Pair:
    """A scene.

    Attributes:
        name: unique in the list, and part of a file's name.
        pre: image from before, or folder of tiles: a path or an address.
        post: image from after.
        footprints: buildings to judge; None where they are traced, or all scenes have the same.
        cloud_mask: raster, not 0 where the ground is hidden.
        pre_date: when the first image was taken, where the list says so.
        post_date: the same of the second.
        block: which block of rows of how many, counted from 0; None for the whole scene.
    """

    name: str
    pre: str
    post: str
    footprints: str | None = None
    cloud_mask: str | None = None
    pre_date: date | None = None
    post_date: date | None = None
    block: tuple[int, int] | None = None


def in_blocks(pairs: Sequence[Pair], megapixels: float) -> list[Pair]:
    """The scenes, those of more than so many megapixels in blocks of rows; scenes elsewhere stay whole.

    An image that cannot be read stays whole, too: its job says why.
    """
    found: list[Pair] = []
    for pair in pairs:
        count = 1
        if not _ADDRESS.match(pair.pre):
            with suppress(InputError):
                grid = RasterSource.open(Path(pair.pre), nodata="declared").grid
                count = math.ceil(grid.width * grid.height / (megapixels * 1e6))
        if count <= 1:
            found.append(pair)
        else:
            found += [
                replace(pair, name=f"{pair.name}-{number + 1}of{count}", block=(number, count))
                for number in range(count)
            ]
    return found


def read_pairs(path: Path) -> list[Pair]:
    """Read a list of scenes, and check that what it names is there.

    Raises:
        InputError: the row and the column that are wrong.
    """
    if is_address(path):
        raise InputError(
            f"cannot read the list of pairs {path}: copy it to a file here; what it lists may be addresses"
        )
    if not path.is_file():
        found = "it is a folder" if path.is_dir() else "no such file"
        raise InputError(
            f"cannot read the list of pairs {path}: {found}, expected a CSV, a JSON or a STAC file"
        )
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path} has more than {_MOST_BYTES // 10**6} MB: that is no list of pairs")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text in UTF-8, expected a CSV, a JSON or a STAC file") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    is_json = text.lstrip()[:1] in ("[", "{")
    rows = list(_json_rows(text, path) if is_json else _csv_rows(text, path))
    if not rows:
        raise InputError(f"{path} lists no pair")
    return _checked(rows, path)


def _csv_rows(text: str, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True))
    except csv.Error as error:
        raise InputError(f"{path} is no CSV: {error}") from None
    head = [cell.strip().casefold() for cell in lines[0]] if lines else []
    for needed in _NEEDED:
        if needed not in head:
            have = ", ".join(head[:12]) or "nothing"
            raise InputError(
                f"{path} row 1: there is no column {needed} (it has {have}): name one pre and one post"
            )
    _check_columns(head, f"{path} row 1")
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(head):
            raise InputError(f"{path} row {number}: it has {len(cells)} cells, the first row has {len(head)}")
        yield f"row {number}", {name: cell.strip() for name, cell in zip(head, cells, strict=True)}


def _delimiter(text: str) -> str:
    """Comma, semicolon or tab: the one that the first line has most of."""
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _json_rows(text: str, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    tree = _parsed(text, path)
    if isinstance(tree, dict) and tree.get("type") in (
        "Collection",
        "FeatureCollection",
        "Feature",
        "Catalog",
    ):
        yield from _stac_rows(tree, path)
        return
    listed = tree.get("pairs") if isinstance(tree, dict) else tree
    if not isinstance(listed, list):
        raise InputError(
            f'{path} holds no list: expected [{{"pre": ..., "post": ...}}, ...] or a STAC collection'
        )
    for number, row in enumerate(listed, start=1):
        if not isinstance(row, dict):
            raise InputError(
                f"{path} row {number}: {shown(row)} is no pair, expected an object with pre and post"
            )
        cells = {str(name).strip().casefold(): value for name, value in row.items()}
        _check_columns(list(cells), f"{path} row {number}")
        for name, value in cells.items():
            if value is not None and not isinstance(value, str):
                raise InputError(f"{path} row {number}, column {name}: {shown(value)} is no text")
        yield f"row {number}", cells


def _check_columns(names: Sequence[str], place: str) -> None:
    for name in names:
        if name not in COLUMNS:
            raise InputError(f"{place}: column {shown(name)} is not known: use {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise InputError(f"{place}: column {name} appears twice")


def _stac_rows(tree: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A scene for each item: a collection with links to item files beside it, or items in one file."""
    if tree["type"] == "Feature":
        found = [(path, tree)]
    elif tree["type"] == "FeatureCollection":
        found = [(path, item) for item in _listed(tree, "features", path)]
    else:
        links = [link for link in _listed(tree, "links", path) if isinstance(link, dict)]
        hrefs = [str(link.get("href", "")) for link in links if link.get("rel") == "item"]
        found = [(file, _parsed_file(file)) for file in (path.parent / href for href in hrefs)]
        if not found:
            raise InputError(f"{path} links to no item (rel: item): pass the collection that holds the pairs")
    for number, (file, item) in enumerate(found, start=1):
        named = item.get("id") if isinstance(item, dict) else None
        place = f"item {number}" + (f" ({named})" if named else "")
        if not isinstance(item, dict) or item.get("type") != "Feature":
            raise InputError(f"{file} {place}: it is no STAC item")
        assets = item.get("assets")
        row: dict[str, Any] = {"name": str(named or "")}
        for column in _NEEDED:
            href = _asset(assets if isinstance(assets, dict) else {}, column)
            if href is None:
                raise InputError(f"{path} {place}, asset {column}: {_why_no_asset(assets, column)}")
            row[column] = href if _ADDRESS.match(href) else str(file.parent / href)
        properties = item.get("properties")
        for column in _DATES:
            day = properties.get(f"aftermap:{column}") if isinstance(properties, dict) else None
            row[column] = str(day)[:10] if day else ""
        yield place, row


def _asset(assets: Mapping[str, Any], column: str) -> str | None:
    """The address of one date: the asset of that name, or the only one with that role."""
    for name in _ASSETS[column]:
        if isinstance(assets.get(name), dict) and assets[name].get("href"):
            return str(assets[name]["href"])
    found = _with_role(assets, column)
    return found[0] if len(found) == 1 else None


def _with_role(assets: Mapping[str, Any], column: str) -> list[str]:
    """The addresses of all assets that play the role of a date."""
    return [
        str(asset["href"])
        for asset in assets.values()
        if isinstance(asset, dict)
        and asset.get("href")
        and isinstance(asset.get("roles"), list)
        and set(_ASSETS[column]) & {str(role) for role in asset["roles"]}
    ]


def _why_no_asset(assets: Any, column: str) -> str:
    """What an item lacks."""
    count = len(_with_role(assets if isinstance(assets, dict) else {}, column))
    if count > 1:
        return f"there are {count}, and a scene has one: pass the list of single images, by 'aftermap find -o pairs.csv'"
    return "there is none; each item needs the assets pre and post"


def _listed(tree: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    found = tree.get(key)
    if not isinstance(found, list):
        raise InputError(f"{path} has no list {key!r}, as a STAC file of type {tree['type']} has")
    return found


def _parsed_file(path: Path) -> Any:
    try:
        return _parsed(path.read_text(encoding="utf-8-sig"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the item {path}: {getattr(error, 'strerror', None) or error}"
        ) from None


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from None


def _checked(rows: Sequence[tuple[str, Mapping[str, Any]]], path: Path) -> list[Pair]:
    """The pairs, with names of their own and everything where the list says."""
    pairs: list[Pair] = []
    taken: dict[str, str] = {}
    same: dict[tuple[str, str], str] = {}
    for place, row in rows:
        at = f"{path} {place}"
        cells = {name: str(row.get(name) or "").strip() for name in COLUMNS}
        for column in _NEEDED:
            if not cells[column]:
                raise InputError(f"{at}, column {column}: it is empty, expected an image")
        files = {column: _located(cells[column], path.parent, f"{at}, column {column}") for column in _FILES}
        days = {column: _day(cells[column], f"{at}, column {column}") for column in _DATES}
        both = (str(files["pre"]), str(files["post"]))
        if both in same:
            raise InputError(f"{at}: it is the pair of {same[both]} again")
        if both[0] == both[1]:
            raise InputError(f"{at}, column post: it is the image from before")
        same[both] = place
        name = _file_name(cells["name"] or Path(cells["pre"].partition("?")[0]).stem)
        if name.casefold() in taken:
            if cells["name"]:
                raise InputError(
                    f"{at}, column name: {shown(name)} is the name of {taken[name.casefold()]} too"
                )
            name = _free(name, taken)
        taken[name.casefold()] = place
        pairs.append(
            Pair(name, *both, files["footprints"], files["cloud_mask"], days["pre_date"], days["post_date"])
        )
    return pairs


def _located(cell: str, folder: Path, at: str) -> str | None:
    """A path from the list's folder on, or an address as it is."""
    if not cell:
        return None
    if why := unknown_scheme(cell):
        raise InputError(f"{at}: {why}")
    if _ADDRESS.match(cell):
        return cell
    path = folder / cell
    try:
        if path.exists() or (":" in cell and (folder / cell.rpartition(":")[0]).is_file()):
            return str(path.absolute())
    except (OSError, ValueError) as error:
        raise InputError(f"{at}: {shown(cell)} cannot be a path: {error}") from None
    raise InputError(f"{at}: there is no {path}")


def _day(cell: str, at: str) -> date | None:
    if not cell:
        return None
    try:
        return date.fromisoformat(cell)
    except ValueError:
        raise InputError(f"{at}: {shown(cell)} is no day, expected one such as 2011-05-24") from None


def _file_name(text: str) -> str:
    """A text as a part of a file's name."""
    return (_UNSAFE.sub("_", text).strip("._-") or "scene")[:_LONGEST]


def _free(name: str, taken: Mapping[str, str]) -> str:
    number = 2
    while f"{name}-{number}".casefold() in taken:
        number += 1
    return f"{name}-{number}"
