"""Folders of class masks: what their file names tell, and reading them without believing them."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from aftermap.classes import IGNORE
from aftermap.data.mask_png import read_plain
from aftermap.errors import DataError
from aftermap.wording import counted

Role = Literal["prediction", "target"]
Kind = Literal["localization", "damage"]

UNKNOWN_EVENT = "unknown"

_SUFFIXES = {".png", ".tif", ".tiff"}
_SPLITS = {"test", "hold", "train", "tier1", "tier3", "validation", "val"}
_ROLE = re.compile(r"_(prediction|target)$")
_FORMATS = ("PNG", "TIFF", "WEBP")  # others can make Pillow start programs
_KIND = re.compile(r"_(?:(localization|building|damage)(?:_disaster)?|(pre|post)_disaster)(?=_|$)")
_EVENT = re.compile(r"(.+?)_\d+$")


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """The mask files of one scene, at least one; without localization, buildings are where damage is not 0."""

    damage: Path | None
    localization: Path | None

    @property
    def first(self) -> Path:
        """One of the files, to name the scene by."""
        path = self.damage or self.localization
        assert path is not None
        return path


def find_masks(folder: Path, role: Role) -> dict[str, MaskFiles]:
    """The masks in a folder by scene name, sorted; files of the other role are left out.

    Raises:
        DataError: no such folder, no masks in it, two files for one mask, or damage masks of which only some
            have a localization mask.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give the folder that holds the {role} masks")
    found: dict[Kind, dict[str, Path]] = {"localization": {}, "damage": {}}
    others = 0
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or not path.is_file():
            continue
        scene, kind, named_role = parse_name(path.stem)
        if named_role not in (None, role):
            others += 1
            continue
        if scene in found[kind]:
            first = found[kind][scene].name
            raise DataError(
                f"{first} and {path.name} in {folder} are both {kind} of {scene}: keep one of them"
            )
        found[kind][scene] = path
    damage, localization = found["damage"], found["localization"]
    if not damage and not localization:
        raise DataError(_explain_empty(folder, role, others))
    alone = sorted(damage.keys() - localization.keys()) if localization else []
    if alone:
        raise DataError(
            f"{len(alone)} of {len(damage)} damage masks in {folder} have no localization mask beside them, the "
            f"first is {damage[alone[0]].name}: add them, or keep only damage masks"
        )
    scenes = sorted(damage.keys() | localization.keys())
    return {scene: MaskFiles(damage.get(scene), localization.get(scene)) for scene in scenes}


def parse_name(stem: str) -> tuple[str, Kind, str | None]:
    """(scene, kind of mask, role) that a file's name tells; a name that tells no kind is a damage mask."""
    role = _ROLE.search(stem)
    if role:
        stem = stem[: role.start()]
    marks = list(_KIND.finditer(stem))
    if not marks:
        return stem, "damage", role and role.group(1)
    word = marks[-1].group(1) or marks[-1].group(2)
    scene = stem[: marks[-1].start()] + stem[marks[-1].end() :]
    return scene, "damage" if word in ("damage", "post") else "localization", role and role.group(1)


def read_class_mask(path: Path, role: Role) -> np.ndarray:
    """Read a single-band mask of 0 to 4 (targets: or 255, unknown) as uint8 (H, W).

    Raises:
        DataError: unreadable, several bands, or another value.
    """
    try:
        plain = read_plain(path)
        if plain is None:
            with Image.open(path, formats=_FORMATS) as image:
                bands = len(image.getbands())
                mask = np.asarray(image)
        else:
            bands, mask = 1, plain
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image: {error}") from None
    if bands != 1 or mask.ndim != 2:
        raise DataError(f"{path} has {counted(bands, 'band')}, expected one band of class indices 0 to 4")
    if mask.dtype.kind not in "bui":
        raise DataError(f"{path} holds {mask.dtype} values, expected class indices 0 to 4 as 8-bit integers")
    highest, lowest = mask.max(initial=0), mask.min(initial=0)
    if lowest < 0 or highest > 4:
        wrong = mask[(mask < 0) | ((mask > 4) & ((mask != IGNORE) if role == "target" else True))]
        if wrong.size:
            hint = ": write a 0/255 mask as 0 and 1" if wrong.flat[0] == 255 else ""
            expected = "0 to 4, or 255 for unknown" if role == "target" else "0 to 4"
            raise DataError(f"{path} holds the value {wrong.flat[0]}, expected {expected}{hint}")
    return mask.astype(np.uint8, copy=False)


def read_masks(files: MaskFiles, role: Role) -> tuple[np.ndarray, np.ndarray | None]:
    """(building, damage) masks of a scene, uint8 (H, W) both; damage is None where there is no file.

    Raises:
        DataError: a file is no mask, their sizes differ, or a building target of 0 and 255 contradicts the damage.
    """
    damage = None if files.damage is None else read_class_mask(files.damage, role)
    if files.localization is None:
        assert damage is not None
        return np.where(damage == IGNORE, IGNORE, damage > 0).astype(np.uint8), damage
    building = read_class_mask(files.localization, role)
    if damage is None:
        return building, None
    if building.shape != damage.shape:
        raise DataError(
            f"{files.localization} is {size_text(building)} px, but {files.first.name} is {size_text(damage)}: "
            f"both {role} masks of a scene must have one size"
        )
    unknown = building == IGNORE
    only_unknown = unknown.any() and not ((building > 0) & ~unknown).any()
    if only_unknown and ((damage > 0) & (damage < IGNORE) & unknown).any():
        raise DataError(
            f"{files.localization} holds only 0 and 255 where {files.first.name} has buildings, and 255 means "
            "unknown: write a 0/255 mask as 0 and 1"
        )
    return building, damage


def size_text(mask: np.ndarray) -> str:
    """Width x height, for messages."""
    return f"{mask.shape[1]} x {mask.shape[0]}"


def scene_events(path: Path | None, targets: dict[str, MaskFiles]) -> dict[str, str]:
    """The event of each scene.

    Args:
        path: CSV (scene, event) or JSON object; None takes events from names such as `<event>_<id>`.
        targets: the scenes.

    Raises:
        DataError: the file cannot be used, or leaves a scene out.
    """
    if path is None:
        return {scene: _event_in(scene) for scene in targets}
    given = _read_events(path)
    found = {}
    for scene, files in targets.items():
        names = (scene, scene.rpartition("_")[2], files.first.stem, files.first.name)
        event = next((given[name] for name in names if name in given), None)
        if event is not None:
            found[scene] = event
    missing = [scene for scene in targets if scene not in found]
    if missing:
        raise DataError(
            f"{path} names no event for {len(missing)} of {counted(len(targets), 'scene')}, the first is {missing[0]}"
        )
    return found


def _event_in(scene: str) -> str:
    match = _EVENT.match(scene)
    return UNKNOWN_EVENT if match is None or match.group(1) in _SPLITS else match.group(1)


def _read_events(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if path.suffix.lower() == ".json":
        try:
            given = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(given, dict) or not all(isinstance(event, str) for event in given.values()):
            raise DataError(
                f'{path} is not an object of scene names and events, such as {{"test_00000": "flood"}}'
            )
        return given
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != 2), None)
    if wrong is not None:
        raise DataError(f"{path} row {wrong} has {len(rows[wrong - 1])} columns, expected two: scene, event")
    return {scene: event for scene, event in rows if (scene, event) != ("scene", "event")}


def _explain_empty(folder: Path, role: Role, others: int) -> str:
    if others:
        other = "target" if role == "prediction" else "prediction"
        return (
            f"{folder} holds {others} {other} masks, not {role} masks: give predictions first, then targets"
        )
    inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    hint = f"; it has the folders {', '.join(inside[:5])}" if inside else ""
    return f"{folder} holds no masks (.png or .tif){hint}: give the folder that holds the {role} masks"
