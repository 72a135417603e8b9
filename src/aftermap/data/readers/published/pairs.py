"""Where releases of two dates have their images and masks, and how those masks are read.

What each layout was taken from, and what could not be confirmed, stands with its release in `releases.RELEASES`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.band_files import read_file
from aftermap.data.file_content import IMAGE_SUFFIXES, read_bytes
from aftermap.data.geotransform import scene_grid
from aftermap.data.legends import Legend
from aftermap.data.preparing.dataset import Labels, SourceScene
from aftermap.data.readers.class_labels import LABEL
from aftermap.data.readers.folder import read_mask_file
from aftermap.data.readers.published.release import Found, folders_named, split_of
from aftermap.data.scene import SceneGrid
from aftermap.errors import DataError, InputError, ReadingError
from aftermap.files import read_json
from aftermap.geo.grid import Grid

PRE_MASK = "pre_label"
"""Role of a mask of buildings that was drawn on the first date."""

CHANGE_FOLDERS = {
    "levir-cd": ("A", "B", "label"),
    "s2looking": ("Image1", "Image2", "label"),
    "fotbcd": ("before", "after", "label"),
}
"""Folders of the first date, of the second and of the masks."""

_MASK_FOLDERS = ("masks", "targets", "labels")
_ENDINGS = ("", "_target", "_mask", "_label")
_NUMBER = re.compile(r"[_-]?\d+$")
_LISTS = {
    "train_set.txt": "train",
    "val_set.txt": "val",
    "test_set.txt": "test",
    "train_setlevel.txt": "train",
    "holdout_setlevel.txt": "val",
    "val_setlevel.txt": "test",
}
"""BRIGHT's lists of names, and the set that each is: those of the paper, and those of the contest of 2025."""


def find_change(source: Path, folders: tuple[str, str, str]) -> Found:
    """Images of the same name in the folders of two dates, with a mask of that name, each a scene.

    The set is that of the folder above, else that with which a name begins (`train_1.png`).
    """
    before, after, masks = folders
    scenes: list[SourceScene] = []
    unpaired: list[Path] = []
    for first in folders_named(source, before):
        root = first.parent
        second, third = root / after, root / masks
        if not second.is_dir():
            continue
        for image in _images(first):
            partner, mask = _beside(image, second), _beside(image, third)
            if partner is None:
                unpaired.append(image)
                continue
            split, published = split_of(root.name)
            prefix = "" if published is None else f"{published}-" if root != source else ""
            if published is None:
                split, published = split_of(image.stem.partition("_")[0])
            scenes.append(
                SourceScene(
                    name=f"{prefix}{image.stem}",
                    event=source.resolve().name,
                    pre=image,
                    post=partner,
                    labels={} if mask is None else {LABEL: mask},
                    split=split,
                    source_split=published,
                )
            )
    return Found(tuple(scenes), tuple(unpaired))


def find_bright(source: Path) -> Found:
    """`pre-event/N_pre_disaster.tif`, `post-event/N_post_disaster.tif` and `target/N_building_damage.tif`.

    The event is N without its number. Lists of names such as `train_set.txt`, below the source, give the sets.
    """
    listed = _listed(source)
    scenes: list[SourceScene] = []
    unpaired: list[Path] = []
    for folder in folders_named(source, "post-event"):
        root = folder.parent
        for post in sorted(folder.glob("*_post_disaster.tif")):
            name = post.stem.removesuffix("_post_disaster")
            pre = root / "pre-event" / f"{name}_pre_disaster.tif"
            mask = root / "target" / f"{name}_building_damage.tif"
            if not pre.is_file():
                unpaired.append(post)
                continue
            split, published = split_of(listed.get(name, ""))
            scenes.append(
                SourceScene(
                    name=name,
                    event=_NUMBER.sub("", name),
                    pre=pre,
                    post=post,
                    labels={LABEL: mask} if mask.is_file() else {},
                    split=split,
                    source_split=published,
                )
            )
    return Found(tuple(scenes), tuple(unpaired))


def find_levels(source: Path) -> Found:
    """`images/N_pre_disaster.*` and `images/N_post_disaster.*` with masks of 0 to 4 in `masks/` (or targets, labels).

    Masks are called like the image from after, with `_target`, `_mask`, `_label` or nothing behind, or like N; one called
    like the image from before tells the buildings there. The set is that of the folder above.
    """
    scenes: list[SourceScene] = []
    unpaired: list[Path] = []
    for folder in folders_named(source, "images"):
        root = folder.parent
        masks = {
            path.stem: path
            for name in _MASK_FOLDERS
            if (root / name).is_dir()
            for path in _images(root / name)
        }
        images = {path.stem: path for path in _images(folder)}
        for stem, post in images.items():
            name = stem.removesuffix("_post_disaster")
            if name == stem:
                continue
            pre = images.get(f"{name}_pre_disaster")
            if pre is None:
                unpaired.append(post)
                continue
            damage = _first(masks, stem) or _first(masks, name)
            building = _first(masks, pre.stem)
            split, published = split_of(root.name)
            roles = {PRE_MASK: building, LABEL: damage}
            scenes.append(
                SourceScene(
                    name=name,
                    event=_NUMBER.sub("", name) or source.resolve().name,
                    pre=pre,
                    post=post,
                    labels={role: path for role, path in roles.items() if path is not None},
                    split=split,
                    source_split=published,
                )
            )
    return Found(tuple(scenes), tuple(unpaired))


def find_sentinel(source: Path) -> Found:
    """xBD-S12: Sentinel-2 in true colours, `s2_tci/N_pre_disaster_s2_tci.tif`, with `masks/N_mask.tif`.

    `xbd_s12_metadata.geojson` tells the set by event (`event_split`) and the set of xBD (`xbd_tier`).

    Raises:
        DataError: metadata that cannot be read.
    """
    scenes: list[SourceScene] = []
    unpaired: list[Path] = []
    for folder in folders_named(source, "s2_tci"):
        root = folder.parent
        told = _metadata(root / "xbd_s12_metadata.geojson")
        for post in sorted(folder.glob("*_post_disaster_s2_tci.tif")):
            name = post.name.removesuffix("_post_disaster_s2_tci.tif")
            pre, mask = folder / f"{name}_pre_disaster_s2_tci.tif", root / "masks" / f"{name}_mask.tif"
            if not pre.is_file():
                unpaired.append(post)
                continue
            entry = told.get(name, {})
            scenes.append(
                SourceScene(
                    name=name,
                    event=str(entry.get("disaster") or _NUMBER.sub("", name)),
                    pre=pre,
                    post=post,
                    labels={LABEL: mask} if mask.is_file() else {},
                    split=split_of(str(entry.get("event_split", "")))[0],
                    source_split=str(entry["xbd_tier"]) if entry.get("xbd_tier") else None,
                )
            )
    return Found(tuple(scenes), tuple(unpaired))


def _metadata(path: Path) -> dict[str, dict[str, object]]:
    """Properties of xBD-S12's patches, by their names; nothing where the file is missing."""
    if not path.is_file():
        return {}
    tree = read_json(path, error=DataError)
    features = tree.get("features") if isinstance(tree, dict) else None
    entries = (
        [f.get("properties") for f in features if isinstance(f, dict)] if isinstance(features, list) else []
    )
    return {str(e["xbd_uid"]): e for e in entries if isinstance(e, dict) and "xbd_uid" in e}


Meaning = Mapping[str, int]
"""Value in a mask of damage of each class of a legend."""


def read_meaning(text: str, legend: Legend) -> Meaning:
    """What classes of a release are on the Joint Damage Scale, from `intact=no-damage,damaged=major-damage,...`.

    Every class but the background has to be told: a level, `background`, or `unknown`.

    Raises:
        InputError: a class that the legend lacks or that is left out, or a level that there is not.
    """
    known = {name: index for index, name in enumerate(DAMAGE.names)} | {"unknown": IGNORE}
    told = dict(part.strip().split("=", 1) for part in text.split(",") if part.count("=") == 1)
    wanted = [name for number, name in enumerate(legend.names) if number != legend.background]
    example = f"--damage {','.join(f'{name}={level}' for name, level in zip(wanted, _LEVELS, strict=False))}"
    if len(told) != len(text.split(",")) or set(told) != set(wanted):
        raise InputError(
            f"--damage {text} does not say once what each of {', '.join(wanted)} is: pass for example {example}"
        )
    if wrong := [level for level in told.values() if level not in known]:
        raise InputError(f"--damage {text}: {wrong[0]} is none of {', '.join(known)}")
    background = {} if legend.background is None else {legend.names[legend.background]: 0}
    return background | {name: known[level] for name, level in told.items()}


_LEVELS = ("no-damage", "major-damage", "destroyed")


@dataclass(frozen=True, slots=True)
class PairLabels:
    """Reads the mask of a pair.

    Attributes:
        legend: classes of the masks.
        form: `change` for masks of 0 and 255 (or 0 and 1), `levels` for class numbers.
        unknown: further numbers of masks that mean that the class is unknown.
        meaning: what the classes are on the Joint Damage Scale; None keeps them as they are. For a release that has
            this scale itself, its own classes.
        reduce: masks have so many times the images' pixels along each side; a pixel gets the class with most of them.
    """

    legend: Legend
    form: Literal["change", "levels"]
    unknown: tuple[int, ...] = ()
    meaning: Meaning | None = None
    reduce: int = 1

    def __call__(self, scene: SourceScene, /, *, height: int, width: int) -> Labels:
        """The labels of one pair.

        Raises:
            DataError: a mask that does not fit.
        """
        grid = _grid(scene.pre)
        masks: dict[str, np.ndarray] = {}
        if (path := scene.labels.get(PRE_MASK)) is not None:
            mask = self._numbers(path)
            masks["building"] = np.where(mask == IGNORE, IGNORE, mask > 0).astype(np.uint8)
        if (path := scene.labels.get(LABEL)) is not None:
            mask = self._reduced(self._numbers(path), path)
            if self.meaning is None:
                masks["classes"] = mask
            else:
                lookup = np.full(256, IGNORE, np.uint8)
                for number, name in enumerate(self.legend.names):
                    lookup[number] = self.meaning[name]
                masks["damage"] = lookup[mask]
        for role, mask in masks.items():
            if mask.shape != (height, width):
                raise DataError(
                    f"the {role} mask of {scene.name} has {mask.shape[1]} x {mask.shape[0]} pixels, its images "
                    f"{width} x {height}"
                )
        return Labels(masks, grid=grid)

    def _numbers(self, path: Path) -> np.ndarray:
        """Class indices of a mask file, IGNORE where unknown."""
        mask = read_mask_file(path)
        values = {int(value) for value in np.unique(mask)}
        if self.form == "change":
            if not (values <= {0, 1} or values <= {0, 255}):
                odd = sorted(values - {0, 255})
                raise ReadingError(
                    f"{path} holds {odd[0]}, a mask of change holds 0 and 255: was it stored as JPEG or resized? "
                    "Take the publisher's file"
                )
            return (mask > 0).astype(np.uint8)
        known = {*range(len(self.legend.names)), *self.unknown, IGNORE}
        if wrong := sorted(values - known):
            shown = ", ".join(f"{number} {name}" for number, name in enumerate(self.legend.names))
            raise ReadingError(f"{path} holds the value {wrong[0]}, expected {shown}")
        return np.where(np.isin(mask, self.unknown), np.uint8(IGNORE), mask).astype(np.uint8)

    def _reduced(self, mask: np.ndarray, path: Path) -> np.ndarray:
        """The most frequent class of every square of `reduce` pixels; of several the lowest."""
        step = self.reduce
        if step == 1:
            return mask
        height, width = mask.shape
        if height % step or width % step:
            raise DataError(f"{path} has {width} x {height} pixels, which {step} does not divide")
        classes = [*range(len(self.legend.names)), IGNORE]
        squares = mask.reshape(height // step, step, width // step, step)
        counts = np.stack([(squares == value).sum(axis=(1, 3)) for value in classes])
        reduced: np.ndarray = np.array(classes, np.uint8)[counts.argmax(axis=0)]
        return reduced


def _grid(path: Path) -> SceneGrid | None:
    pixels = read_file(path)
    height, width = pixels.array.shape[1:]
    return scene_grid(Grid(pixels.crs, pixels.transform, width, height))


def _images(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]


def _beside(image: Path, folder: Path) -> Path | None:
    """The file of an image's name in another folder, whatever its suffix."""
    same = folder / image.name
    if same.is_file():
        return same
    others = (folder / f"{image.stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES))
    return next((path for path in others if path.is_file()), None)


def _first(masks: Mapping[str, Path], stem: str) -> Path | None:
    return next((masks[stem + ending] for ending in _ENDINGS if stem + ending in masks), None)


def _listed(source: Path) -> dict[str, str]:
    """The set of each name in BRIGHT's lists below a folder."""
    found: dict[str, str] = {}
    for file in sorted(source.glob("**/*.txt")):
        if file.name in _LISTS:
            for line in read_bytes(file).decode(errors="replace").split():
                found[Path(line).name.removesuffix("_building_damage.tif")] = _LISTS[file.name]
    return found
