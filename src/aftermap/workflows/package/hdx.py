"""The layout of a dataset for the Humanitarian Data Exchange: CSV with HXL hashtags, and the metadata of a dataset."""

from pathlib import Path
from typing import Any

from aftermap.classes import DAMAGE
from aftermap.files import csv_text, write_json, write_text
from aftermap.workflows.package.release import STATUS, Layout, Release

_COLUMNS: dict[str, tuple[str, str]] = {
    "building_id": ("building_id", "#loc+building+id"),
    "damage": ("damage", "#severity+damage+name"),
    "scale": ("scale", "#meta+scale+name"),
    "confidence": ("confidence", "#indicator+confidence+num"),
    "area_m2": ("area_m2", "#indicator+area+m2+num"),
    "latitude": ("lat", "#geo+lat"),
    "longitude": ("lon", "#geo+lon"),
    "reason": ("reason", "#meta+reason"),
}
_CAVEATS = (
    "Made by a model from images taken from above; no building was visited. Walls, interiors and water that has "
    "gone are not seen. The class of a single building is a hint. Buildings that could not be assessed may be "
    "damaged. Counts without a checked sample have no interval."
)


_ONE_IMAGE = (
    "It rests on the image after alone: a building that is not destroyed may still be damaged, and one of which "
    "nothing is left may be missing."
)
_TOLD = {False: f" in the {DAMAGE.name}", True: ": destroyed or not, from the image after alone"}
_METHOD = {
    False: "compared images from before and after",
    True: "looked at the image after alone and told destroyed from not",
}


def _stem(code: str, number: int) -> str:
    return f"{code}-aoi{number:02d}-building-damage"


def _write(release: Release, folder: Path) -> None:
    name = f"{release.stem}_v{release.version}"
    write_text(folder / f"{name}.csv", csv_text(_rows(release)))
    counts = release.frame["damage"].value_counts()
    totals: list[list[Any]] = [
        ["damage", "scale", "buildings"],
        ["#severity+damage+name", "#meta+scale+name", "#affected+buildings+num"],
        *[[kind, release.map.scheme.name, int(counts[kind])] for kind in sorted(counts.index)],
    ]
    write_text(folder / f"{name}_totals.csv", csv_text(totals))
    write_json(folder / f"{name}_metadata.json", _metadata(release, name))


def _rows(release: Release) -> list[list[Any]]:
    frame = release.frame.assign(scale=release.map.scheme.name)
    columns = [[_cell(value) for value in frame[column]] for column, _ in _COLUMNS.values()]
    date = release.acquired("post") or None
    columns.append([date] * len(frame))
    rows: list[list[Any]] = [
        [*_COLUMNS, "image_date"],
        [*(tag for _, tag in _COLUMNS.values()), "#date+image"],
    ]
    return rows + [list(row) for row in zip(*columns, strict=True)]


def _cell(value: Any) -> Any:
    if value is None or value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def _metadata(release: Release, name: str) -> dict[str, Any]:
    """What a dataset on HDX asks for, by the names of its fields."""
    told, day = release.map.provenance, release.acquired("post")
    model = told["model"]
    return {
        "name": release.stem.lower(),
        "title": f"{release.map.folder.resolve().name}: damage to buildings from images, version {release.version}",
        "notes": f"{STATUS}. Damage to {len(release.frame):,} buildings{_TOLD[release.is_post_only]}.",
        "dataset_source": release.organisation or "not stated",
        "dataset_date": f"[{day}T00:00:00 TO {day}T23:59:59]" if day else None,
        "license_id": "hdx-other",
        "license_other": release.licence or "not stated: ask whoever handed this on before it is used",
        "methodology": "Other",
        "methodology_other": (
            f"Several sources were pooled building by building: {', '.join(each['name'] for each in told['sources'])}."
            if told.get("mode") == "fused"
            else f"Model {model['name']} {model['version']} {_METHOD[release.is_post_only]}."
        ),
        "caveats": " ".join(
            (_CAVEATS, *([_ONE_IMAGE] if release.is_post_only else []), str(model.get("limits") or ""))
        ).strip(),
        "tags": ["damage assessment", "hxl"],
        "private": True,
        "resources": [
            {
                "name": f"{name}.csv",
                "format": "csv",
                "description": f"Buildings; scale {release.map.scheme.name}; HXL hashtags",
            },
            {
                "name": f"{name}_totals.csv",
                "format": "csv",
                "description": "Buildings by class; HXL hashtags",
            },
        ],
    }


HDX = Layout(
    agency="hdx",
    title="Humanitarian Data Exchange datasets",
    scale=DAMAGE.name,
    stem=_stem,
    code="event",
    write=_write,
    confirmed=(
        "that maps of damage are published there with notices on their use, CSV with HXL hashtags in the second "
        "row, and caveats"
    ),
    unconfirmed=(
        "the hashtags and the names of the metadata fields follow the HXL 1.1 core schema and CKAN as we know "
        "them, and were not checked against their pages; HDX has the last word on licence and tags. The dataset "
        "is marked private until its owner publishes it"
    ),
)
