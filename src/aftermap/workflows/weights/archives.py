"""Folders of published checkpoints: which file is which network, by the names that the original systems gave."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aftermap.errors import ModelError

System = Literal["xview2", "kd-student", "metadamagenet", "opencities"]

STEMS = {
    "res34_loc": "xview2-resnet34-localization",
    "res50_loc": "xview2-seresnext50-localization",
    "dpn92_loc": "xview2-dpn92-localization",
    "se154_loc": "xview2-senet154-localization",
    "res34_cls2": "xview2-resnet34-damage",
    "res50_cls_cce": "xview2-seresnext50-damage",
    "dpn92_cls_cce": "xview2-dpn92-damage",
    "se154_cls_cce": "xview2-senet154-damage",
}
"""Start of the winner's file names; `_<seed>_<stage>_best` follows."""

STAGES = ("tuned2", "tuned", "1", "0")
"""Last part of the winner's file names, best first; `tuned2` is what the evaluated container loaded."""

UNTUNED = ("xview2-resnet34-localization", "xview2-senet154-localization")
"""The winner's networks of which there is no tuned version: their files end in `_1_best`."""

SEEDS = (0, 1, 2)

STUDENTS = {"loc": "kd-student-localization", "cls": "kd-student-damage"}

META = {
    "resnet34unet": "metadamagenet-resnet34",
    "seresnext50unet": "metadamagenet-seresnext50",
    "dpn92unet": "metadamagenet-dpn92",
    "senet154unet": "metadamagenet-senet154",
    "efficientunetb0": "metadamagenet-efficientunet-b0",
    "efficientunetb0scse": "metadamagenet-efficientunet-b0-scse",
    "efficientunetwideseb0": "metadamagenet-efficientunet-wide-se-b0",
    "efficientunetb0big": "metadamagenet-efficientunet-b0-big",
    "efficientunetb4": "metadamagenet-efficientunet-b4",
    "efficientunetb4scse": "metadamagenet-efficientunet-b4-scse",
    "efficientunetb4big": "metadamagenet-efficientunet-b4-big",
    "segformer": "metadamagenet-segformer-b0",
}
"""MetaDamageNet's classes in lower case, without `Localizer` or `Classifier`."""

OPEN_CITIES = {
    "m40000.pth": "opencities-b1",
    "ave.pth": "opencities-b2",
    "ave2.pth": "opencities-b2",
    "mb2-m20000.pth": "opencities-b2",
    "mb2-m35000.pth": "opencities-b2",
    "model-b2-1.pth": "opencities-b2",
    "model-b2-2.pth": "opencities-b2",
}
"""Names of the Open Cities files; their number in this list stands for the seed, which they do not tell."""

_WINNER = re.compile(rf"({'|'.join(STEMS)})_(\d+)_({'|'.join(STAGES)})_best(?:\.\w+)?")
_STUDENT = re.compile(r"(loc|cls)_KD_(\d+)_best(?:_best)?(?:\.\w+)?")
_RENAMED_STUDENT = re.compile(r"res50_(loc|cls)_(\d+)_KD_best(?:\.\w+)?")
_META = re.compile(
    rf"({'|'.join(sorted(META, key=len, reverse=True))})(localizer|classifier)v(\w+?)s(\d+)", re.I
)


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint of a published network.

    Attributes:
        name: of the network.
        seed: of its run; where file names carry the time at which the run was started instead, that.
        path: the file.
        stage: what the file name says of the training: `tuned`, a version; empty where it says nothing.
    """

    name: str
    seed: int
    path: Path
    stage: str

    @property
    def final(self) -> bool:
        """Whether the published system predicted with such a file, not with one that was trained further."""
        return (
            not self.name.startswith("xview2-")
            or self.stage.startswith("tuned")
            or (self.name in UNTUNED and self.stage == "1")
        )


def recognise(folder: Path) -> dict[tuple[str, int], Path]:
    """Checkpoints of the published systems in a folder, and in the folders inside it, by network and seed."""
    return {key: found.path for key, found in find_checkpoints(folder).items()}


def find_checkpoints(folder: Path) -> dict[tuple[str, int], Found]:
    """Like `recognise`, with what the file names say; of several files of a run the one trained longest is taken.

    Raises:
        ModelError: no such folder.
    """
    if not folder.is_dir():
        raise ModelError(f"no folder {folder}: give the folder into which the published archive was unpacked")
    found: dict[tuple[str, int], Found] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        one = recognise_file(path)
        if one is None:
            continue
        other = found.get((one.name, one.seed))
        if other is None or _rank(one) > _rank(other):
            found[one.name, one.seed] = one
    return found


def recognise_file(path: Path) -> Found | None:
    """What a file's name says it is; None where it is no name of a published system."""
    if match := _WINNER.fullmatch(path.name):
        return Found(STEMS[match[1]], int(match[2]), path, match[3])
    if match := _STUDENT.fullmatch(path.name) or _RENAMED_STUDENT.fullmatch(path.name):
        return Found(STUDENTS[match[1]], int(match[2]), path, "")
    if path.name in OPEN_CITIES:
        return Found(OPEN_CITIES[path.name], list(OPEN_CITIES).index(path.name), path, "")
    if path.name == "model.pth" and (match := _META.fullmatch(path.parent.name)):
        role = "localization" if match[2].lower() == "localizer" else "damage"
        return Found(f"{META[match[1].lower()]}-{role}", int(match[4]), path, match[3])
    return None


def choose_system(found: Iterable[Found], wanted: System | None = None) -> System:
    """The system that checkpoints are of.

    Raises:
        ModelError: none, or several and none is wanted.
    """
    systems: list[System] = [system_of(one.name) for one in found]
    kinds = list(dict.fromkeys(systems))
    if wanted is not None and wanted in kinds:
        return wanted
    if len(kinds) == 1 and wanted is None:
        return kinds[0]
    if not kinds or wanted is not None:
        what = wanted or "a published system"
        raise ModelError(
            f"no file here has a name of {what}: 'aftermap weights list' shows the names, --as takes any file"
        )
    counts = ", ".join(f"{systems.count(kind)} of {kind}" for kind in kinds)
    raise ModelError(f"checkpoints of several systems are here ({counts}): choose one with --system")


def system_of(name: str) -> System:
    """The system that a published network belongs to."""
    systems: tuple[System, ...] = ("xview2", "kd-student", "metadamagenet", "opencities")
    return next(system for system in systems if name.startswith(system))


def expected_of(system: System) -> list[tuple[str, int]]:
    """Networks and seeds that the published ensemble of a system consists of; empty where none is published."""
    return [(name, seed) for name in STEMS.values() for seed in SEEDS] if system == "xview2" else []


def file_name(name: str, seed: int) -> str:
    """How the file of one of the winner's networks is called."""
    stem = next(stem for stem, known in STEMS.items() if known == name)
    return f"{stem}_{seed}_{'1' if name in UNTUNED else 'tuned'}_best"


def file_names(name: str) -> str:
    """How the files of a network are called, for a list."""
    for stem, known in STEMS.items():
        if name == known:
            stages = ("1",) if name in UNTUNED else STAGES[:2]
            return ", ".join(f"{stem}_<seed>_{stage}_best" for stage in stages)
    for short, known in STUDENTS.items():
        if name == known:
            return f"{short}_KD_<time>_best_best, res50_{short}_<seed>_KD_best"
    for short, known in META.items():
        if name.rpartition("-")[0] == known:
            kind = "localizer" if name.endswith("localization") else "classifier"
            return f"{short}{kind}V<version>S<seed>/model.pth"
    return ", ".join(file for file, known in OPEN_CITIES.items() if name == known)


def _rank(found: Found) -> tuple[int, int, int]:
    """Orders the files of one run: tuned ones last, then by number."""
    number = re.search(r"\d+", found.stage)
    return (found.stage.lower().startswith("tuned"), int(number[0]) if number else 0, -len(found.path.parts))
