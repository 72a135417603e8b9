"""Reader of xBD and xView2 data: image pairs with JSON polygons, or with target masks."""

import re
import reprlib
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.band_files import read_file
from aftermap.data.file_content import IMAGE_SUFFIXES, checksum, read_bytes
from aftermap.data.geotransform import fit_polygons, read_geotransforms
from aftermap.data.masks import Unclassified, draw_building_mask, draw_damage_mask, subtype_index
from aftermap.data.preparing.dataset import Dataset, Labels, SourceScene
from aftermap.data.preparing.whole_scenes import WholeScenes
from aftermap.data.scene import SceneGrid
from aftermap.errors import DataError, DataWarning
from aftermap.files import read_json
from aftermap.wording import counted

SPLIT_FOLDERS = ("train", "tier3", "test", "hold")
DATES = ("pre", "post")
PRE_LABEL, POST_LABEL = "pre_label", "post_label"
LICENCE = "CC BY-NC-SA 4.0 (xBD)"
EVENTS = frozenset(
    [
        "guatemala-volcano",
        "hurricane-florence",
        "hurricane-harvey",
        "hurricane-matthew",
        "hurricane-michael",
        "joplin-tornado",
        "lower-puna-volcano",
        "mexico-earthquake",
        "midwest-flooding",
        "moore-tornado",
        "nepal-flooding",
        "palu-tsunami",
        "pinery-bushfire",
        "portugal-wildfire",
        "santa-rosa-wildfire",
        "socal-fire",
        "sunda-tsunami",
        "tuscaloosa-tornado",
        "woolsey-fire",
    ]
)
"""Disasters of xBD (Gupta et al. 2019): scenes of these names are its own; others share the layout alone."""
FARTHEST = 1e6
"""Coordinates beyond this, in pixels or degrees, are a mistake."""

_SHOWN = 60
_NAMES = (
    re.compile(r"(?P<event>.+)_(?P<id>\d+)_(?P<date>pre|post)_disaster"),
    re.compile(r"(?P<event>.+)_(?P<date>pre|post)_(?P<id>\d+)"),
)


@dataclass(frozen=True, slots=True)
class LabelFile:
    """The content of one xBD label file.

    Attributes:
        polygons: in pixel coordinates, in file order.
        subtypes: one per polygon; None where the file gives none (pre-disaster files).
        uids: one per polygon.
        degrees: polygons in longitude and latitude by uid.
        metadata: sensor, acquisition and size as the file states them.
    """

    polygons: tuple[Polygon | MultiPolygon, ...]
    subtypes: tuple[str | None, ...]
    uids: tuple[str, ...]
    degrees: Mapping[str, Polygon | MultiPolygon] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """Scenes of a folder, and the images whose partner of the other date is missing."""

    scenes: tuple[SourceScene, ...]
    unpaired: tuple[Path, ...]


def xbd_dataset(
    source: Path, *, unclassified: Unclassified = "no-damage", geotransforms: Path | None = None
) -> Dataset:
    """Image pairs of xBD with masks from polygons and georeference.

    Args:
        source: a folder with `images` and `labels` (or `targets`), or a folder of such folders.
        unclassified: what `un-classified` buildings become. The default is what the published systems and the
            official scoring targets do; `ignore` keeps them out of training and scores.
        geotransforms: JSON of image name -> [six GDAL numbers, WKT or EPSG code]; without it, georeference is
            fitted to the labels.

    Raises:
        DataError: no pairs, or a geotransforms file that cannot be used.
    """
    found = find_scenes(source)
    options: dict[str, str] = {"unclassified": unclassified}
    grids: Mapping[str, SceneGrid] = {}
    if geotransforms is not None:
        grids = read_geotransforms(geotransforms)
        options["geotransforms"] = checksum(read_bytes(geotransforms))[:16]
    notes = {"source": str(source.resolve())}
    if found.unpaired:
        notes["unpaired"] = ",".join(path.name for path in found.unpaired)
        names = ", ".join(path.name for path in found.unpaired[:5])
        warnings.warn(
            f"{counted(len(found.unpaired), 'image has', 'images have')} no partner of the other date: left out: {names}",
            DataWarning,
            2,
        )
    if half := [scene.name for scene in found.scenes if len(scene.labels) == 1]:
        warnings.warn(
            f"{len(half)} pairs have one of their two labels only, so the damage or the outlines from before are unknown "
            f"there: {', '.join(half[:5])}: add the other label, or remove these pairs",
            DataWarning,
            2,
        )
    return Dataset(
        kind="xbd",
        scheme=DAMAGE.name,
        scenes=found.scenes,
        make=WholeScenes(partial(read_labels, unclassified=unclassified, grids=grids), len(DAMAGE)),
        options=options,
        notes=notes,
        licence=LICENCE if {scene.event for scene in found.scenes} <= EVENTS else None,
    )


def find_scenes(source: Path) -> Found:
    """List the pairs of a folder in the layouts in which xBD is handed around.

    Known are `images` and `labels` (or `targets`) in the folder itself, in each of `train`, `tier3`, `test`
    and `hold`, or in one folder per event.

    Raises:
        DataError: the folder is missing or holds no pair.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: give the folder that holds xBD's 'images' and 'labels'")
    folders = [
        folder
        for pattern in ("images", "*/images", "*/*/images")
        for folder in sorted(source.glob(pattern))
        if folder.is_dir()
    ]
    scenes: dict[str, SourceScene] = {}
    unpaired: list[Path] = []
    for folder in folders:
        for (event, number), dates in sorted(_images(folder).items()):
            if len(dates) < 2:
                unpaired.extend(dates.values())
                continue
            scene = _source_scene(folder.parent, event, number, dates)
            if scene.name in scenes:
                unique = f"{folder.parent.name}-{scene.name}"
                warnings.warn(
                    f"scene {scene.name} is there twice, the one in {folder} becomes {unique}", DataWarning, 2
                )
                scene = replace(scene, name=unique)
            scenes[scene.name] = scene
    if not scenes:
        expected = "<event>_<id>_pre_disaster.png with its ..._post_disaster.png in a folder named 'images'"
        alone = f", only {counted(len(unpaired), 'image')} without partner" if unpaired else ""
        raise DataError(f"no image pairs in {source}{alone}: expected {expected}")
    return Found(tuple(scenes[name] for name in sorted(scenes)), tuple(unpaired))


def read_label_file(path: Path) -> LabelFile:
    """Read an xBD label JSON.

    Raises:
        DataError: unreadable, without the parts that are needed, or with coordinates that no image has.
    """
    tree = read_json(path, error=DataError)
    features = tree.get("features") if isinstance(tree, dict) else None
    if not isinstance(features, dict) or "xy" not in features:
        raise _other_form(path, "no features.xy")
    entries = _entries(features["xy"], "xy", path)
    geographic = _entries(features.get("lng_lat") or [], "lng_lat", path)
    metadata = tree.get("metadata") or {}
    if not isinstance(metadata, dict) or not isinstance(metadata.get("disaster") or "", str):
        raise _other_form(path, f"metadata {_shown(metadata)}")
    subtypes = [properties.get("subtype") for properties, _ in entries]
    if wrong := [subtype for subtype in subtypes if not isinstance(subtype, str | None)]:
        raise _other_form(path, f"subtype {_shown(wrong[0])}")
    return LabelFile(
        polygons=tuple(geometry for _, geometry in entries),
        subtypes=tuple(subtypes),
        uids=tuple(str(properties.get("uid", index)) for index, (properties, _) in enumerate(entries)),
        degrees={str(properties.get("uid", index)): g for index, (properties, g) in enumerate(geographic)},
        metadata=metadata,
    )


def read_labels(
    scene: SourceScene,
    /,
    *,
    height: int,
    width: int,
    unclassified: Unclassified = "no-damage",
    grids: Mapping[str, SceneGrid] | None = None,
) -> Labels:
    """Masks, polygon counts and georeference of one pair.

    Raises:
        DataError: a label file that is not xBD's, or does not fit the image.
    """
    files = [_read(scene.labels.get(role), height, width) for role in (PRE_LABEL, POST_LABEL)]
    pre, post = files
    masks: dict[str, np.ndarray] = {}
    polygons: dict[str, int] = {}
    if isinstance(pre, LabelFile):
        masks["building"] = draw_building_mask(pre.polygons, height=height, width=width)
    elif pre is not None:
        masks["building"] = np.where(pre == IGNORE, IGNORE, pre > 0).astype(np.uint8)
    if isinstance(post, LabelFile):
        values = [_value(subtype, unclassified, scene.labels[POST_LABEL]) for subtype in post.subtypes]
        masks["damage"] = draw_damage_mask(post.polygons, values, height=height, width=width)
        polygons = dict(Counter(str(subtype) for subtype in post.subtypes))
    elif post is not None:
        masks["damage"] = post
    elif isinstance(pre, LabelFile):
        polygons = {"building": len(pre.polygons)}
    labels = [file for file in files if isinstance(file, LabelFile)]
    grid = (grids or {}).get(scene.pre.stem) or _fit(labels, height=height, width=width)
    event = next((name for file in labels if (name := file.metadata.get("disaster"))), None)
    return Labels(masks, polygons, grid, event)


def _images(folder: Path) -> dict[tuple[str, str], dict[str, Path]]:
    """Images by (event, id) and date."""
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        match = next((match for pattern in _NAMES if (match := pattern.fullmatch(path.stem))), None)
        if match is not None:
            found.setdefault((match["event"], match["id"]), {}).setdefault(match["date"], path)
    return found


def _source_scene(root: Path, event: str, number: str, dates: Mapping[str, Path]) -> SourceScene:
    labels = {
        PRE_LABEL: _first(root, dates["pre"].stem, f"{event}_localization_{number}"),
        POST_LABEL: _first(root, dates["post"].stem, f"{event}_damage_{number}"),
    }
    return SourceScene(
        name=f"{event}_{number}",
        event="unknown" if event in SPLIT_FOLDERS else event,
        pre=dates["pre"],
        post=dates["post"],
        labels={role: path for role, path in labels.items() if path is not None},
        source_split=root.name if root.name in SPLIT_FOLDERS else None,
    )


def _first(root: Path, stem: str, competition: str) -> Path | None:
    candidates = (
        root / "labels" / f"{stem}.json",
        root / "targets" / f"{stem}_target.png",
        root / "targets" / f"{competition}_target.png",
    )
    return next((path for path in candidates if path.is_file()), None)


def _read(path: Path | None, height: int, width: int) -> LabelFile | np.ndarray | None:
    if path is None:
        return None
    if path.suffix == ".json":
        file = read_label_file(path)
        told = file.metadata.get("width"), file.metadata.get("height")
        stated = tuple(
            own if value is None else value for value, own in zip(told, (width, height), strict=True)
        )
        if stated != (width, height):
            raise DataError(
                f"{path} is for {_shown(stated[0])} x {_shown(stated[1])} pixels, its image has {width} x {height}: "
                "scale the polygons in features.xy with the image"
            )
        return file
    return _read_target(path, height, width)


def _read_target(path: Path, height: int, width: int) -> np.ndarray:
    bands = read_file(path).array
    if len(bands) != 1 or bands.dtype != np.uint8:
        raise DataError(f"{path} is not a single-band 8-bit mask")
    target: np.ndarray = bands[0]
    if target.shape != (height, width):
        raise DataError(
            f"{path} has {target.shape[1]} x {target.shape[0]} pixels, its image {width} x {height}: they must agree"
        )
    wrong = np.setdiff1d(target, [*range(len(DAMAGE)), IGNORE])
    if wrong.size:
        raise DataError(
            f"{path} holds the value {wrong[0]}, expected 0 to {len(DAMAGE) - 1}, or {IGNORE} for unknown"
        )
    return target


def _entries(entries: Any, key: str, path: Path) -> list[tuple[dict[str, Any], Polygon | MultiPolygon]]:
    """Properties and geometry of the features of one system."""
    if not isinstance(entries, list):
        raise _other_form(path, f"features.{key} is {_shown(entries)}")
    properties, texts = [], []
    for entry in entries:
        own = entry.get("properties") if isinstance(entry, dict) else None
        if not isinstance(own, dict) or not isinstance(entry.get("wkt"), str):
            raise _other_form(path, f"features.{key} holds {_shown(entry)}")
        properties.append(own)
        texts.append(entry["wkt"])
    return list(zip(properties, _geometries(texts, path), strict=True))


def _geometries(texts: list[str], path: Path) -> list[Polygon | MultiPolygon]:
    """Polygons of WKT, all at once where there is nothing to tell of one."""
    for wkt in texts:
        kind = wkt.split("(", 1)[0].split()
        if not kind or kind[0].upper() not in ("POLYGON", "MULTIPOLYGON"):  # others may be nested without end
            raise DataError(f"{path} holds a geometry that is not WKT of a polygon: {_shown(wkt)}")
    geometries = np.array([None] * len(texts), dtype=object)
    with (
        np.errstate(all="ignore"),
        suppress(ValueError),
    ):  # numbers beyond all are infinite, and refused below
        geometries = shapely.from_wkt(np.array(texts, dtype=object), on_invalid="ignore")
    missing = np.flatnonzero(shapely.is_missing(geometries))
    if len(missing):
        raise DataError(f"{path} holds a geometry that is not WKT: {_shown(texts[missing[0]])}")
    points, owner = shapely.get_coordinates(geometries, return_index=True)
    far = ~(np.abs(points) <= FARTHEST).all(axis=1)
    if far.any():
        wkt = texts[owner[np.argmax(far)]]
        raise DataError(f"{path} holds a polygon with coordinates that no image has: {_shown(wkt)}")
    found: list[Polygon | MultiPolygon] = geometries.tolist()
    return found


def _other_form(path: Path, what: str) -> DataError:
    return DataError(
        f"{path} is not an xBD label file ({what}): expected features.xy with wkt and properties"
    )


def _shown(value: object) -> str:
    """The beginning of a value, whatever it is."""
    return reprlib.repr(value)[:_SHOWN]


def _value(subtype: str | None, unclassified: Unclassified, path: Path) -> int | None:
    try:
        return subtype_index(subtype or "", unclassified=unclassified)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _fit(labels: list[LabelFile], *, height: int, width: int) -> SceneGrid | None:
    for file in labels:
        pixels = dict(zip(file.uids, file.polygons, strict=True))
        fit = fit_polygons(pixels, file.degrees, height=height, width=width)
        if fit is not None and fit.is_usable:
            return fit.grid()
    return None
