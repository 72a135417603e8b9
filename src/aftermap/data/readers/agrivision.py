"""Reader of Agriculture-Vision: farmland in four bands, with masks of what went wrong on it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.band_files import read_file, size_of
from aftermap.data.legends import AGRIVISION
from aftermap.data.preparing.class_dataset import class_dataset
from aftermap.data.preparing.class_image import ClassMask
from aftermap.data.preparing.dataset import Dataset, SourceScene
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.readers.class_labels import Official, deal_validation
from aftermap.data.scene import Split
from aftermap.errors import DataError
from aftermap.wording import counted

STORM_DAMAGE = 9
"""The tenth class, which hardly occurs and is background. Source: MiB-CD."""

_SUBSETS = {"train": ("train",), "hold": ("val", "valid", "validation"), "test": ("test",)}
_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif")
_OTHER_NAMES = {"standing_water": "water"}
_LEFT_OUT = ("storm_damage",)
_NUMBERS = "gt"
_KNOWN_PIXELS = ("boundaries", "masks")
_EXPECTED = (
    "expected train/ and val/ with images/rgb, images/nir, and either gt/ (class numbers) or labels/CLASS with "
    "boundaries/ and masks/"
)


def agrivision_dataset(
    source: Path,
    *,
    val_is: Official = "validation",
    validation: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Agriculture-Vision with masks of its classes; images stay where they are, infrared as a layer.

    Pixels outside of a field (`boundaries`) or without data (`masks`) are unknown. Where several classes mark a
    pixel, the last of the legend counts. A field, the part of a name before `_`, is an event.

    Args:
        source: folder with train, val and, without labels, test.
        val_is: what the official validation set is used as.
        validation: with `test`, the share of the training fields that are for validation.
        seed: of the choice of these.

    Raises:
        DataError: files are missing or do not fit.
    """
    share = validation if val_is == "test" else 0.0
    return class_dataset(
        find_agrivision(source, val_is=val_is, validation=share, seed=seed),
        AGRIVISION,
        read_agrivision,
        kind="agrivision",
        tiling=Tiling(),
        options={},
        notes={
            "source": str(source.resolve()),
            "split": "event",
            "split_val_is": val_is,
            "split_validation": f"{share:g}",
            "split_seed": str(seed),
        },
    )


def find_agrivision(source: Path, *, val_is: Official, validation: float, seed: int) -> list[SourceScene]:
    """The images of all sets with their label files.

    Raises:
        DataError: no images, or some without infrared or labels.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: {_EXPECTED}")
    images: list[SourceScene] = []
    for official, names in _SUBSETS.items():
        folder = next((source / name for name in names if (source / name / "images").is_dir()), None)
        if folder is not None:
            images += _subset(folder, official)
    if not images:
        inside = ", ".join(sorted(path.name for path in source.iterdir())[:6]) or "nothing"
        raise DataError(f"{source} holds {inside}: {_EXPECTED}")
    fields = [image.event for image in images if image.source_split == "train"]
    judged = deal_validation(fields, validation, seed) if fields else frozenset[str]()
    splits: dict[str | None, Split] = {"hold": val_is, "test": "test", "train": "train"}
    return [
        replace(
            image,
            split="validation"
            if image.source_split == "train" and image.event in judged
            else splits[image.source_split],
        )
        for image in images
    ]


def read_agrivision(source: SourceScene) -> ClassMask | None:
    """The mask of one image.

    Raises:
        DataError: files of other sizes, or of classes that there are not.
    """
    if not source.labels:
        return None
    if _NUMBERS in source.labels:
        return ClassMask(_numbers(source.labels[_NUMBERS]))
    _, height, width, _ = size_of(source.pre)
    mask = np.zeros((height, width), np.uint8)
    unknown = np.zeros((height, width), bool)
    for index, name in enumerate(AGRIVISION.names):
        for folder in (name, *(other for other, own in _OTHER_NAMES.items() if own == name)):
            if folder in source.labels:
                mask[_marked(source.labels[folder], height, width)] = index
    for folder in _KNOWN_PIXELS:
        if folder in source.labels:
            unknown |= ~_marked(source.labels[folder], height, width)
    mask[unknown] = IGNORE
    return ClassMask(mask)


def _subset(folder: Path, official: str) -> list[SourceScene]:
    rgb, nir = (_by_stem(folder / "images" / kind) for kind in ("rgb", "nir"))
    if not rgb:
        raise DataError(f"{folder / 'images' / 'rgb'} holds no images: {_EXPECTED}")
    if lacking := sorted(rgb.keys() - nir.keys()):
        raise DataError(
            f"{rgb[lacking[0]]} has no infrared image in {folder / 'images' / 'nir'} ({len(lacking)} such)"
        )
    labels = _labels(folder)
    lone = sorted(name for name in rgb if not labels.get(name))
    if lone and (official != "test" or len(lone) < len(rgb)):
        raise DataError(f"{rgb[lone[0]]} has no labels in {folder} ({len(lone)} such images): {_EXPECTED}")
    return [
        SourceScene(
            name=name,
            event=name.split("_")[0],
            pre=path,
            labels=labels.get(name, {}),
            layers={"nir": nir[name]},
            source_split=official,
        )
        for name, path in rgb.items()
    ]


def _labels(folder: Path) -> dict[str, dict[str, Path]]:
    """Label files by image: one of class numbers, or one per class with those of what is known."""
    if numbers := _by_stem(folder / _NUMBERS):
        return {name: {_NUMBERS: path} for name, path in numbers.items()}
    classes = sorted(path for path in (folder / "labels").glob("*") if path.is_dir())
    known = {*AGRIVISION.names[1:], *_OTHER_NAMES, *_LEFT_OUT}
    if strange := [path for path in classes if path.name not in known]:
        raise DataError(
            f"{strange[0]} is no class of Agriculture-Vision: expected {', '.join(sorted(known))}"
        )
    wanted = [path for path in classes if path.name not in _LEFT_OUT]
    if not wanted:
        return {}
    found: dict[str, dict[str, Path]] = {}
    for kind in (*wanted, *(folder / name for name in _KNOWN_PIXELS)):
        for name, path in _by_stem(kind).items():
            found.setdefault(name, {})[kind.name] = path
    return {name: files for name, files in found.items() if files.keys() - {*_KNOWN_PIXELS}}


def _by_stem(folder: Path) -> Mapping[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*")) if path.suffix.lower() in _SUFFIXES}


def _numbers(path: Path) -> np.ndarray:
    """Class numbers, storm damage as background."""
    array = read_file(path).array
    if array.dtype != np.uint8 or len(array) != 1:
        raise DataError(
            f"{path} has {counted(len(array), 'band')} of {array.dtype}, expected one of 8 bits with class numbers"
        )
    mask: np.ndarray = np.where(array[0] == STORM_DAMAGE, np.uint8(0), array[0])
    wrong = mask[(mask >= len(AGRIVISION.names)) & (mask != IGNORE)]
    if wrong.size:
        raise DataError(
            f"{path} holds the value {wrong[0]}, expected 0 to {STORM_DAMAGE}, or {IGNORE} for unknown pixels"
        )
    return mask


def _marked(path: Path, height: int, width: int) -> np.ndarray:
    """Where a file of black and white is white, bool (H, W)."""
    array = read_file(path).array
    if array.shape[1:] != (height, width):
        raise DataError(
            f"{path} has {array.shape[2]} x {array.shape[1]} pixels, its image {width} x {height}"
        )
    marked: np.ndarray = array[0] > 0
    return marked
