"""Mapped scenes as one finished map, which every other command opens."""

import hashlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pandas as pd
import shapely
from rasterio.crs import CRS

from aftermap.classes import DAMAGE
from aftermap.errors import DataWarning, InputError
from aftermap.files import make_folder, read_json, write_json
from aftermap.geo.alignment.align import Shift
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.products.overview import draw_overview
from aftermap.products.page.page import write_page
from aftermap.products.styles import DAMAGE_STYLE, style_layer
from aftermap.products.summary import summarise
from aftermap.products.vectors import LAYER, write_buildings
from aftermap.products.view import Picture, damage_view, dated
from aftermap.wording import counted
from aftermap.workflows.many.depth import Depth
from aftermap.workflows.many.layout import Part, common_grid, grid_of, offset_in, overlapping
from aftermap.workflows.many.mosaic import Points, write_mosaic
from aftermap.workflows.many.once import TOUCH_PX, Candidates, Once, count_once, table_of
from aftermap.workflows.many.parts import unpack
from aftermap.workflows.mapping.draft import FILES as PICTURES
from aftermap.workflows.mapping.draft import read_pictures
from aftermap.workflows.mapping.finished import read_raw_buildings
from aftermap.workflows.mapping.overview import block_px
from aftermap.workflows.mapping.provenance import describe_grid, versions
from aftermap.workflows.mapping.work import MARKER

MOST_ON_A_PAGE = 500_000
"""With more buildings than that no page is written: a browser could not show them."""

_PICTURE_PX = 8_000_000
_SMALL = ("provenance.json", "buildings.gpkg", *PICTURES)
_SHOWN_WARNINGS = 20


@dataclass(frozen=True)
class Merged:
    """A map of many scenes.

    Attributes:
        buildings: the table.
        summary: what `summary.json` holds.
        grid: of the map.
        doubles: rows that were left out because another stands for them.
        joined: buildings that were put together from halves.
        warnings: of the scenes and of putting them together, each once.
    """

    buildings: geopandas.GeoDataFrame
    summary: dict[str, Any]
    grid: Grid
    doubles: int
    joined: int
    warnings: tuple[str, ...]


def merge(
    files: Mapping[str, Path],
    folder: Path,
    scratch: Path,
    *,
    title: str,
    crs: str | None = None,
    failed: Sequence[str] = (),
    threads: int = 1,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Merged:
    """Put mapped scenes together.

    Args:
        files: the part of each scene, by its name, in the order of the list.
        folder: where the map goes; made by the caller.
        scratch: for small files of the parts.
        title: of page and picture.
        crs: reference system of the map; by default the one that most scenes have.
        failed: names of scenes that are not there.
        threads: of this process.
        progress: called with the stage, what is done and all.

    Raises:
        GeoreferenceError: the scenes do not go into one map.
        InputError: a part cannot be used, or the scenes were mapped by different models.
        OutputError: the map cannot be written.
    """
    parts = _opened(files, scratch)
    grid = common_grid(parts, crs=crs)

    def table_of_part(part: Part) -> geopandas.GeoDataFrame:
        return read_raw_buildings(scratch / str(part.number) / f"{LAYER}.gpkg", part.grid)

    # with one thread nothing runs beside anything else: its work is done where the result is asked for
    with ThreadPoolExecutor(threads, thread_name_prefix="merging") as pool:
        tables = []
        for number, table in enumerate((pool.map if threads > 1 else map)(table_of_part, parts)):
            tables.append(table)
            progress("reading tables", number + 1, len(parts))
        drawn = pool.submit(_pictures, parts, grid, scratch) if threads > 1 else None
        depths = {number: Depth.of(parts[number]) for number in overlapping(parts, grid)}
        found, points = _candidates(parts, depths, tables, grid)
        owner = write_mosaic(
            parts,
            depths,
            grid,
            folder,
            points,
            threads=threads,
            progress=lambda done, total: progress("mosaic", done, total),
        )
        pictures = _pictures(parts, grid, scratch) if drawn is None else drawn.result()
    found.owner[:] = owner
    progress("buildings", 0, 1)
    once = count_once(found)
    frame = table_of(found, once, [part.name for part in parts])
    write_buildings(frame, folder)
    style_layer(folder, "buildings", DAMAGE_STYLE, list(frame.columns))
    summary = summarise(frame, grid) | {"scenes": {"merged": len(parts), "failed": len(failed)}}
    write_json(folder / "summary.json", summary)
    told = _warnings(parts, failed)
    progress("buildings", 1, 1)
    _write_views(parts, frame, grid, summary, folder, pictures, title=title, told=told)
    progress("views", 1, 1)
    write_json(folder / MARKER, _provenance(parts, grid, once, told, failed, crs))
    return Merged(frame, summary, grid, once.doubles, len(once.joined), told)


def parts_digest(names: Iterable[str]) -> str:
    """What tells the parts that a map was made of, by their names in their order."""
    return hashlib.sha256(repr(list(names)).encode()).hexdigest()


def _opened(files: Mapping[str, Path], scratch: Path) -> list[Part]:
    """The parts, their small files unpacked into `scratch/NUMBER`; all of one model."""
    shutil.rmtree(scratch, ignore_errors=True)
    parts: list[Part] = []
    for number, (name, file) in enumerate(files.items()):
        place = unpack(file, make_folder(scratch / str(number)), _SMALL)
        provenance = read_json(place / "provenance.json")
        parts.append(Part(number, name, file, grid_of(provenance), provenance))
    models = {part.provenance["model"]["sha256"] for part in parts}
    if len(models) > 1:
        raise InputError("the scenes were mapped by different models: map them again with one")
    return parts


def _candidates(
    parts: Sequence[Part], depths: Mapping[int, Depth], tables: Sequence[geopandas.GeoDataFrame], grid: Grid
) -> tuple[Candidates, Points]:
    """The buildings of all scenes in the reference system of the map; owners are filled in later."""
    depth, cut, moved = [], [], []
    for part, table in zip(parts, tables, strict=True):
        if part.number in depths:
            points = shapely.get_coordinates(shapely.point_on_surface(table.geometry.to_numpy()))
            depth.append(depths[part.number].at(points[:, 0], points[:, 1]))
        else:
            depth.append(np.zeros(len(table), np.float32))
        cut.append(_is_cut(table, part.grid))
        with transforming():
            moved.append(table if part.grid.crs == grid.crs else table.to_crs(_text(grid.crs)))
    with warnings.catch_warnings():
        # columns that are empty in some scenes; pandas will tell their type from the others
        warnings.filterwarnings("ignore", message=".*empty or all-NA entries.*")
        frame = pd.concat(
            [table.set_crs(_text(grid.crs), allow_override=True) for table in moved], ignore_index=True
        )
    frame = geopandas.GeoDataFrame(frame, geometry=frame.geometry.name, crs=_text(grid.crs))
    points = shapely.get_coordinates(shapely.point_on_surface(frame.geometry.to_numpy()))
    sizes = [len(table) for table in tables]
    found = Candidates(
        frame=frame,
        scene=np.repeat(np.arange(len(parts)), sizes),
        owner=np.full(len(frame), -1),
        depth=np.concatenate(depth),
        cut=np.concatenate(cut),
        source=np.repeat(np.array([part.footprints for part in parts], dtype=object), sizes),
        pixel=grid.transform.a,
    )
    return found, Points(points[:, 0], points[:, 1])


def _is_cut(table: geopandas.GeoDataFrame, grid: Grid) -> np.ndarray:
    """Whether buildings touch the edge of their image."""
    t = ~grid.transform
    shapes = shapely.transform(
        table.geometry.to_numpy(),
        lambda xy: np.column_stack([xy @ (t.a, t.b) + t.c, xy @ (t.d, t.e) + t.f]),
    )
    west, north, east, south = shapely.bounds(shapes).reshape(-1, 4).T
    near = TOUCH_PX / 2
    touches: np.ndarray = (
        (west < near) | (north < near) | (east > grid.width - near) | (south > grid.height - near)
    )
    return touches


def _write_views(
    parts: Sequence[Part],
    frame: geopandas.GeoDataFrame,
    grid: Grid,
    summary: dict[str, Any],
    folder: Path,
    pictures: tuple[Picture, Picture],
    *,
    title: str,
    told: Sequence[str],
) -> None:
    """The page and the picture."""
    model = parts[0].provenance["model"]
    view = damage_view(frame, *pictures, grid, summary)
    view = dated(view, [_days(parts, date) or "" for date in ("pre", "post")])
    limits = [str(model["limits"])] if model.get("limits") else []
    shown = [*told[:_SHOWN_WARNINGS], *limits]
    if len(told) > _SHOWN_WARNINGS:
        shown.insert(_SHOWN_WARNINGS, f"{len(told) - _SHOWN_WARNINGS} more warnings are in provenance.json")
    used = f"{model['name']} {model['version']}"
    if len(frame) <= MOST_ON_A_PAGE:
        write_page(folder / "map.html", view, grid, title=title, model=used, warnings=shown)
    else:
        warnings.warn(
            f"{len(frame):,} buildings are too many for a page: map.html is left out, buildings.pmtiles has them all",
            DataWarning,
            stacklevel=4,
        )
    draw_overview(folder / "overview.png", view, grid, title=title, warnings=shown)


def _pictures(parts: Sequence[Part], grid: Grid, scratch: Path) -> tuple[Picture, Picture]:
    """Both dates of the whole map in small; where scenes overlap, the first of the list is seen."""
    step = block_px(grid, _PICTURE_PX)
    height, width = -(-grid.height // step), -(-grid.width // step)
    small = Grid(
        grid.crs,
        grid.transform @ grid.transform.scale(grid.width / width, grid.height / height),
        width,
        height,
    )
    canvas = [np.zeros((height, width, 4), np.uint8) for _ in range(2)]
    for part in reversed(parts):
        pictures = read_pictures(scratch / str(part.number))
        for target, picture in zip(canvas, (pictures.before, pictures.after), strict=True):
            _paste(target, small, picture, part.grid)
    first, second = (
        Picture(name, np.ascontiguousarray(pixels[:, :, :3]), pixels[:, :, 3] >= 128)
        for name, pixels in zip(("Before", "After"), canvas, strict=True)
    )
    return first, second


def _paste(target: np.ndarray, small: Grid, picture: np.ndarray, grid: Grid) -> None:
    """Put the picture of a scene where it belongs, by four of its corners."""
    height, width = picture.shape[:2]
    xs, ys = (np.array(v) for v in zip(*grid.corners, strict=True))
    if grid.crs != small.crs:
        from rasterio.warp import transform as warp_points

        xs, ys = (np.array(v) for v in warp_points(grid.crs, small.crs, xs.tolist(), ys.tolist())[:2])
    t = ~small.transform
    corners = np.column_stack([t.a * xs + t.b * ys + t.c, t.d * xs + t.e * ys + t.f])
    (left, top), (right, bottom) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    left, top = max(int(left), 0), max(int(top), 0)
    right, bottom = min(int(right), small.width), min(int(bottom), small.height)
    if left >= right or top >= bottom:
        return
    own = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(own, (corners - (left, top)).astype(np.float32))
    if width > 2 * (right - left):  # means of what falls together, before it is thinned
        share = (right - left) / width
        size = max(1, round(width * share)), max(1, round(height * share))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([width / size[0], height / size[1], 1.0])
    drawn = cv2.warpPerspective(picture, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    place = target[top:bottom, left:right]
    seen = drawn[:, :, 3] >= 128
    drawn[:, :, 3] = 255
    if seen.all():
        place[:] = drawn
    else:
        np.copyto(place, drawn, where=seen[:, :, None])


def _days(parts: Sequence[Part], date: str) -> str | None:
    """The day of one date, or the first and the last where they differ; None where none is known."""
    days = sorted({day for part in parts if (day := part.provenance["inputs"].get(date, {}).get("acquired"))})
    if not days:
        return None
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _warnings(parts: Sequence[Part], failed: Sequence[str]) -> tuple[str, ...]:
    """What the scenes were warned about, each once with the scenes; and which are missing."""
    by_text: dict[str, list[str]] = {}
    for part in parts:
        for text in part.provenance.get("warnings", []):
            by_text.setdefault(str(text), []).append(part.name)
    told = [
        text if len(names) == len(parts) else f"{_listed(names)}: {text}" for text, names in by_text.items()
    ]
    missing = [f"{counted(len(failed), 'scene')} could not be mapped: {_listed(failed)}"] if failed else []
    return (*missing, *told)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _provenance(
    parts: Sequence[Part], grid: Grid, once: Once, told: Sequence[str], failed: Sequence[str], crs: str | None
) -> dict[str, Any]:
    """What the map was made of: as the report of one scene, with all of them listed."""
    first = parts[0].provenance
    inputs: dict[str, Any] = {}
    for date in ("pre", "post"):
        described = [part.provenance["inputs"][date] for part in parts]
        files = {str(file): file for each in described for file in each["files"]}
        inputs[date] = {
            "files": list(files.values()),
            "grid": describe_grid(grid),
            "dtype": described[0]["dtype"],
            "bands": described[0]["bands"],
            "acquired": _one_day(parts, date),
        }
    for name in ("footprints", "aoi"):
        found = {
            str(each): each for part in parts if (each := part.provenance["inputs"].get(name)) is not None
        }
        if found:
            listed: list[dict[str, Any]] = list(found.values())
            names = ", ".join(dict.fromkeys(str(each.get("name")) for each in listed))
            inputs[name] = listed[0] if len(listed) == 1 else {"name": names, "files": listed}
    scenes = [
        {
            "name": part.name,
            "images": {
                date: [file["name"] for file in part.provenance["inputs"][date]["files"]]
                for date in ("pre", "post")
            },
            "acquired": {date: part.provenance["inputs"][date].get("acquired") for date in ("pre", "post")},
            "grid": part.provenance["grid"],
            "shift": part.provenance.get("shift"),
            "created": part.provenance["created"],
            "resampled": offset_in(part.grid, grid) is None,
        }
        for part in parts
    ]
    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": first["mode"],
        "scale": DAMAGE.name,
        "model": first["model"],
        "inputs": inputs,
        "grid": describe_grid(grid),
        "shift": Shift(0.0, 0.0, 0.0, 0.0, None, 0, None, None, False, "each scene has its own"),
        "stretch": None,
        "options": first["options"] | {"merge_crs": crs},
        "warnings": list(told),
        "notes": [
            f"merged from {counted(len(parts), 'scene')}: {counted(once.doubles, 'double')} left out, "
            f"{counted(len(once.joined), 'building')} joined from halves",
        ],
        "scenes": scenes,
        "failed_scenes": list(failed),
        "parts_sha256": parts_digest(part.file.stem for part in parts),
        "versions": versions(),
    }


def _one_day(parts: Sequence[Part], date: str) -> str | None:
    days = {part.provenance["inputs"][date].get("acquired") for part in parts}
    return days.pop() if len(days) == 1 else None


def _text(crs: CRS | None) -> str:
    assert crs is not None
    return str(crs.to_wkt())
