"""`aftermap package OUT --package ems`: a finished map in the names, layers and attributes of an agency, by versions.

    OUT/package/ems/EMSR000_AOI01_GRA_PRODUCT_v1/     the layers, lineage.json, README.txt, grades.csv
    OUT/package/ems/EMSR000_AOI01_GRA_PRODUCT_v2/     written when something changed, with changes.csv

A version that is out is never written over. Where nothing changed since the last one no new one is made.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import geopandas
import pandas as pd
from pyogrio.errors import DataLayerError, DataSourceError

from aftermap import __version__
from aftermap.classes import DESTROYED_OR_NOT, NOT_ASSESSED
from aftermap.errors import GeoreferenceError, InputError, shown
from aftermap.files import (
    csv_text,
    make_folder,
    read_json,
    replacing_folder,
    sha256_of,
    write_json,
    write_text,
)
from aftermap.products.vectors import in_degrees
from aftermap.scales import one_scale, scale_named, to_scale
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.package.ems import EMS
from aftermap.workflows.package.fema import FEMA
from aftermap.workflows.package.hdx import HDX
from aftermap.workflows.package.release import AGENCIES, STATUS, Layout, Release
from aftermap.workflows.package.unosat import UNOSAT

FOLDER = "package"
LINEAGE, GRADES, CHANGES, README = "lineage.json", "grades.csv", "changes.csv", "README.txt"
NOT_DESTROYED = DESTROYED_OR_NOT.names[1]
_ONE_IMAGE = (
    "It rests on the image after alone: only Destroyed is claimed. Buildings without a grade may be undamaged or badly "
    "damaged."
)
_VERSION = re.compile(r"_v(\d+)$")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}")


@dataclass(frozen=True)
class PackageResult:
    """What came of it.

    Attributes:
        folder: of the version.
        version: from 1.
        is_new: False where nothing changed since that version, so that none was written.
        counts: buildings by grade.
        changed: buildings whose grade is another one than in the version before, came or went.
    """

    folder: Path
    version: int
    is_new: bool
    counts: Mapping[str, int]
    changed: int = 0
    files: tuple[Path, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": self.folder,
            "version": self.version,
            "is_new": self.is_new,
            "counts": dict(self.counts),
            "changed_buildings": self.changed,
            "files": list(self.files),
        }


class AgencyOptions(TypedDict, total=False):
    """Keywords of `write_agency_package`."""

    code: str | None
    number: int
    event: str
    organisation: str
    licence: str


def write_agency_package(
    folder: Path,
    agency: str,
    *,
    to: Path | None = None,
    code: str | None = None,
    number: int = 1,
    event: str = "",
    organisation: str = "",
    licence: str = "",
) -> PackageResult:
    """Write a finished map in an agency's layout, as a new version where something changed.

    Args:
        folder: of the map.
        agency: ems, unosat, fema or hdx.
        to: folder of the versions; by default `package/AGENCY` in the map's.
        code: of the activation (EMSR123), of the event (TO20110522USA), of the disaster (DR-1980), or a name for HDX;
            letters, digits and hyphens.
        number: of the area of interest.
        event: what happened, such as `3-Storm` for Copernicus EMS or `Tornado`.
        organisation: who hands it on.
        licence: under which the data may be used.

    Raises:
        InputError: there is no finished map of damage, no such agency, or the code cannot be part of a name.
        GeoreferenceError: the map is in pixels.
        OutputError: it cannot be written, or the folder of the versions holds something else.
    """
    layout = layout_of(agency)
    code = layout.code if code is None else code
    if not _WORD.fullmatch(code):
        raise InputError(
            f"--code {shown(code)} cannot be part of a file's name: pass letters, digits and hyphens, such as "
            f"{layout.code}"
        )
    if not 1 <= number <= 99:
        raise InputError(f"--aoi-number {number} is not between 1 and 99")
    found = open_map(folder, also=("post-only",))
    if found.grid.crs is None:
        raise GeoreferenceError(f"{folder} is a map in pixels: a package needs longitude and latitude")
    place = folder / FOLDER / layout.agency if to is None else to
    stem = layout.stem(code, number)
    before = _latest(place, stem)
    frame = graded(found, layout.scale)
    previous = None if before is None else _grades(before[1], layout.scale)
    changes = _changes(previous, frame)
    if before is not None and not changes:
        known = read_json(before[1] / LINEAGE)
        return PackageResult(before[1], before[0], False, known.get("counts", {}))
    version = 1 if before is None else before[0] + 1
    release = Release(
        found, frame, scale_named(layout.scale), stem, version, code, number, event, organisation, licence
    )
    counts = _counts(frame)
    target = make_folder(place) / f"{stem}_v{version}"
    with replacing_folder(target, ours=("*",), also=(DataSourceError, DataLayerError)) as part:
        layout.write(release, part)
        write_text(part / GRADES, csv_text(_grade_rows(frame, found.scheme.name)))
        if before is not None:
            write_text(part / CHANGES, csv_text(_change_rows(changes, before, counts, version)))
        write_text(part / README, _readme(release, layout, counts, before, changes))
        write_json(part / LINEAGE, _lineage(release, layout, counts, part, before, changes))
    files = tuple(sorted(path for path in target.rglob("*") if path.is_file()))
    return PackageResult(target, version, True, counts, len(changes), files)


def layout_of(agency: str) -> Layout:
    """The layout of an agency.

    Raises:
        InputError: there is none.
    """
    layouts: dict[str, Layout] = {layout.agency: layout for layout in (EMS, UNOSAT, FEMA, HDX)}
    found = layouts.get(agency)
    if found is None:
        raise InputError(f"--package {shown(agency)} is no agency: expected one of {', '.join(AGENCIES)}")
    return found


def graded(map_: FinishedMap, scale: str) -> geopandas.GeoDataFrame:
    """The buildings in EPSG:4326 with their grade, None where nothing can be claimed, and the scale's name.

    Of a map of the image after alone, `not-destroyed` has no grade in any scale.
    """
    frame = map_.buildings
    # "not destroyed" is no grade of anybody's: it may be undamaged or badly damaged
    known = set(frame["damage"]) - {NOT_DESTROYED}
    grades = {NOT_DESTROYED: None} | {name: to_scale(name, scale) for name in known}
    found = geopandas.GeoDataFrame(
        {
            **{
                name: frame[name].to_numpy()
                for name in ("building_id", "damage", "confidence", "area_m2", "lon", "lat", "reason")
            },
            "grade": pd.Series([grades[name] for name in frame["damage"]], dtype=object),
            "scale": scale_named(scale).name,
        },
        geometry=in_degrees(frame),
        crs="EPSG:4326",
    )
    return found


def _latest(place: Path, stem: str) -> tuple[int, Path] | None:
    """The last version and its folder."""
    versions = []
    for path in place.glob(f"{stem}_v*"):
        found = _VERSION.search(path.name)
        if found and path.name == f"{stem}_v{int(found[1])}" and (path / LINEAGE).is_file():
            versions.append((int(found[1]), path))
    return max(versions, default=None)


def _grade_rows(frame: geopandas.GeoDataFrame, made_in: str) -> list[list[Any]]:
    rows: list[list[Any]] = [["building_id", "damage", "damage_scale", "grade", "scale"]]
    rows += [
        [name, damage, made_in, grade, scale]
        for name, damage, grade, scale in zip(
            frame["building_id"], frame["damage"], frame["grade"], frame["scale"], strict=True
        )
    ]
    return rows


def _grades(folder: Path, scale: str) -> dict[str, str]:
    """Class and grade by building of an earlier version.

    Raises:
        InputError: it cannot be read, or is in another scale.
    """
    path = folder / GRADES
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        one_scale([scale, *(row["scale"] for row in rows)], str(path))
        return {_plain(row["building_id"]): f"{row['damage']}|{row['grade']}" for row in rows}
    except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} of the version before cannot be read: {error}") from None


def _plain(cell: str) -> str:
    """A cell without the apostrophe that keeps spreadsheets from running it."""
    return cell[1:] if cell[:1] == "'" else cell


def _changes(previous: Mapping[str, str] | None, frame: geopandas.GeoDataFrame) -> list[tuple[str, str, str]]:
    """(building, before, now) of all that changed; empty texts where a building was not there, or is not any more."""
    if previous is None:
        return []
    now = {
        _plain(str(name)): f"{damage}|{grade or ''}"
        for name, damage, grade in zip(frame["building_id"], frame["damage"], frame["grade"], strict=True)
    }
    names = sorted({*previous, *now})
    return [
        (name, previous.get(name, ""), now.get(name, ""))
        for name in names
        if previous.get(name) != now.get(name)
    ]


def _counts(frame: geopandas.GeoDataFrame) -> dict[str, int]:
    """Buildings by grade; those of which nothing can be claimed are counted apart."""
    silent = {NOT_ASSESSED: "not assessed", NOT_DESTROYED: "not destroyed: no grade from one image"}
    counted = Counter(
        grade if grade is not None else silent.get(damage, "no claim from above")
        for grade, damage in zip(frame["grade"], frame["damage"], strict=True)
    )
    return dict(sorted(counted.items()))


def _change_rows(
    changes: list[tuple[str, str, str]], before: tuple[int, Path], counts: Mapping[str, int], version: int
) -> list[list[Any]]:
    """Counts of both versions, then each building that changed."""
    old = read_json(before[1] / LINEAGE).get("counts", {})
    rows: list[list[Any]] = [["what", "name", f"v{before[0]}", f"v{version}", "difference"]]
    for grade in sorted({*old, *counts}):
        was, now = int(old.get(grade, 0)), counts.get(grade, 0)
        rows.append(["count", grade, was, now, now - was])
    for name, was_told, now_told in changes:
        rows.append(["building", name, was_told.replace("|", ": "), now_told.replace("|", ": "), None])
    return rows


def _lineage(
    release: Release,
    layout: Layout,
    counts: Mapping[str, int],
    part: Path,
    before: tuple[int, Path] | None,
    changes: list[tuple[str, str, str]],
) -> dict[str, Any]:
    told = release.map.provenance
    return {
        "layout": layout.title,
        "not_a_product_of": f"made by aftermap in the layout of {layout.title}; not issued or checked by that agency",
        "version": release.version,
        "replaces": None if before is None else before[1].name,
        "changed_buildings": len(changes) if before is not None else None,
        "status": STATUS,
        "mode": told.get("mode"),
        "assessment_type": "Remote Sensing",
        "code": release.code,
        "organisation": release.organisation or None,
        "licence": release.licence or None,
        "scale": {
            "name": release.scale.name,
            "made_from": release.map.scheme.name,
            "claims": {
                name: grade
                for name, grade in release.scale.claims.items()
                if name in (*release.map.scheme.names, NOT_ASSESSED)
            },
            "allowed": _ONE_IMAGE if release.is_post_only else release.scale.allowed,
            "source": release.scale.source,
            "unconfirmed": release.scale.unconfirmed or None,
        },
        "layout_confirmed": layout.confirmed,
        "layout_unconfirmed": layout.unconfirmed,
        "counts": dict(counts),
        "map": {
            "made": told["created"],
            "outlines_sha256": release.map.outlines_sha256,
            "model": {
                key: told["model"].get(key) for key in ("name", "version", "sha256", "licence", "limits")
            },
            "images": {"pre": release.acquired("pre") or None, "post": release.acquired("post") or None},
            "warnings": told.get("warnings", []),
        },
        "software": f"aftermap {__version__}",
        "files": {
            path.relative_to(part).as_posix(): sha256_of(path)
            for path in sorted(part.rglob("*"))
            if path.is_file() and path.name != LINEAGE
        },
    }


def _made_from(release: Release) -> str:
    return "destroyed or not" if release.is_post_only else f"the {release.map.scheme.name}"


def _readme(
    release: Release,
    layout: Layout,
    counts: Mapping[str, int],
    before: tuple[int, Path] | None,
    changes: list[tuple[str, str, str]],
) -> str:
    lines = [
        f"{release.stem}, version {release.version}",
        "",
        f"{STATUS}.",
        f"In the layout of {layout.title}; made by aftermap {__version__}, not issued or checked by that agency.",
        f"Scale of damage: {release.scale.title} ({release.scale.name}), made from {_made_from(release)}.",
        *([] if release.is_post_only else [release.scale.allowed]),
        f"Source of the scale: {release.scale.source}.",
        *([f"Not confirmed: {release.scale.unconfirmed}."] if release.scale.unconfirmed else []),
        *([_ONE_IMAGE] if release.is_post_only else []),
        ("" if release.is_post_only else f"Image before: {release.acquired('pre') or 'date not stated'}. ")
        + f"Image after: {release.acquired('post') or 'date not stated'}.",
        f"Licence: {release.licence or 'not stated'}.",
        "",
        *(f"{grade}: {number}" for grade, number in counts.items()),
        "",
        f"First version, {len(release.frame)} buildings."
        if before is None
        else f"Replaces version {before[0]}: {len(changes)} buildings changed, see {CHANGES}.",
    ]
    return "\n".join(lines) + "\n"
