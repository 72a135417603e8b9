"""Reader of plain folders of images with masks of many classes, coloured or as numbers, described by a legend."""

import re
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from aftermap.data.band_files import size_of
from aftermap.data.file_content import IMAGE_SUFFIXES
from aftermap.data.legends import Legend, read_legend
from aftermap.data.preparing.class_dataset import class_dataset
from aftermap.data.preparing.class_image import SKIPPED_BAND, ClassMask
from aftermap.data.preparing.dataset import Dataset, SourceScene
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.readers.class_labels import LABEL, LabelReader
from aftermap.data.readers.colours import TOLERANCE, OffPalette
from aftermap.data.scene import RGB
from aftermap.errors import DataError, DataWarning

LAYOUTS = (
    ("images", "masks"),
    ("images", "masks_index"),
    ("images", "masks_rgb"),
    ("images", "labels"),
    ("img_dir", "ann_dir"),
    ("images_png", "masks_png"),
    ("sat", "gt"),
)
"""Folders of images and of their masks that are looked for where none are named."""

MASK_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_gt")
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "hold",
    "valid": "hold",
    "validation": "hold",
    "test": "test",
}
_BAND = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class FolderLayout:
    """Where a folder has what, and what its names say.

    Attributes:
        images: folder of the images below the source; None looks for one of `LAYOUTS`.
        masks: folder of the masks below the source; likewise.
        bands: names of the images' bands in their order, `SKIPPED_BAND` for those to leave out; None expects three.
        event: of all images; by default the source's name.
        event_pattern: regular expression; what it matches in an image's name, or its first group, is the event.
        missing_mask: what an image without mask is; None refuses it.
    """

    images: str | None = None
    masks: str | None = None
    bands: tuple[str, ...] | None = None
    event: str | None = None
    event_pattern: str | None = None
    missing_mask: Literal["unlabelled", "background"] | None = None


USUAL_LAYOUT, WHOLE_IMAGES = FolderLayout(), Tiling()


def class_folder_dataset(
    source: Path,
    legend: Legend | str | Path,
    *,
    layout: FolderLayout = USUAL_LAYOUT,
    tiling: Tiling = WHOLE_IMAGES,
    off_palette: OffPalette = "refuse",
    tolerance: float = TOLERANCE,
    first_value: int | None = None,
    stretch: tuple[float, float] | None = None,
) -> Dataset:
    """A folder of images with masks of a legend's classes.

    Masks have the names of their images, with one of `MASK_ENDINGS`; folders below those of the images are matched,
    and where they are called train, val or test they are the publisher's split.

    Args:
        source: the folder.
        legend: of the masks; one that comes along by its name, or a file of one.
        layout: where what lies.
        tiling: how images are cut.
        off_palette: what becomes of colours that the legend does not list.
        tolerance: see `data.colours.decode_colours`.
        first_value: number of the first class in masks of numbers, where it is not the legend's.
        stretch: percentiles that become 0 and 255; by default only of images that are not 8-bit, 2 and 98.

    Raises:
        DataError: another layout, masks that are missing or do not fit.
    """
    legend = legend if isinstance(legend, Legend) else read_legend(str(legend))
    images = find_class_images(source, layout)
    if layout.missing_mask == "background" and legend.background is None:
        raise DataError(f"legend {legend.name} has no background, which --missing-mask background needs")
    read = partial(
        _read,
        reader=LabelReader(legend, off_palette, tolerance, first_value),
        background=legend.background if layout.missing_mask == "background" else None,
    )
    return class_dataset(
        images,
        legend,
        read,
        kind="class-folder",
        tiling=tiling,
        options={
            "off_palette": off_palette,
            "tolerance": f"{tolerance:g}",
            "first_value": "" if first_value is None else str(first_value),
            "missing_mask": layout.missing_mask or "",
            "bands": ",".join(layout.bands or ()),
        },
        notes={"source": str(source.resolve())},
        stretch=stretch,
    )


def find_class_images(source: Path, layout: FolderLayout) -> list[SourceScene]:
    """The images of a folder with their masks, in the order of their names.

    Raises:
        DataError: another layout, no images, images without mask or masks without image.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: {_expected()}")
    bands = check_bands(layout.bands) if layout.bands is not None else RGB
    pattern = _pattern(layout.event_pattern)
    images_in, masks_in = _folders(source, layout)
    images, masks = _files(images_in), _files(masks_in)
    if not images:
        raise DataError(f"no images in {images_in}: {_expected()}")
    found: list[SourceScene] = []
    used: set[str] = set()
    lacking: list[Path] = []
    for key, path in sorted(images.items()):
        mask = next((key + ending for ending in MASK_ENDINGS if key + ending in masks), None)
        if mask is None:
            lacking.append(path)
        else:
            used.add(mask)
        parts = key.split("/")
        split = next((_SPLITS[part.lower()] for part in parts[:-1] if part.lower() in _SPLITS), None)
        event = layout.event or source.resolve().name
        found.append(
            SourceScene(
                name="-".join(parts),
                event=event if pattern is None else _event(pattern, parts[-1], path),
                pre=path,
                labels={} if mask is None else {LABEL: masks[mask]},
                bands=bands,
                source_split=split,
            )
        )
    if lacking and layout.missing_mask is None:
        raise DataError(
            f"{lacking[0]} has no mask of its name in {masks_in} ({len(lacking)} such images): add them, or say with "
            "--missing-mask what they are"
        )
    if alone := sorted(masks.keys() - used):
        raise DataError(
            f"{masks[alone[0]]} has no image of its name in {images_in} ({len(alone)} such masks)"
        )
    return found


def check_bands(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Names of bands, as given.

    Raises:
        DataError: one twice, one that is no name, or none that is kept.

    Warns:
        DataWarning: none that recipes and pictures ask for.
    """
    kept = [name for name in bands if name != SKIPPED_BAND]
    wrong = [name for name in kept if not _BAND.fullmatch(name)]
    if wrong or not kept or len(set(kept)) < len(kept):
        raise DataError(
            f"--bands {','.join(bands)} does not name each band once: pass names in the file's order, such as "
            f"red,green,blue,nir, with '{SKIPPED_BAND}' for a band to leave out"
        )
    if not {*RGB, "nir"} & set(kept):
        warnings.warn(
            f"none of the bands {', '.join(kept)} is called red, green, blue or nir: recipes ask for bands by name, "
            "and have to say yours",
            DataWarning,
            stacklevel=2,
        )
    return bands


def _read(source: SourceScene, reader: LabelReader, background: int | None) -> ClassMask | None:
    if source.labels:
        return reader.of(source)
    if background is None:
        return None
    _, height, width, _ = size_of(source.pre)
    return ClassMask(np.full((height, width), background, np.uint8))


def _folders(source: Path, layout: FolderLayout) -> tuple[Path, Path]:
    """Folders of the images and of the masks."""
    for images, masks in LAYOUTS:
        pair = source / (layout.images or images), source / (layout.masks or masks)
        if all(folder.is_dir() for folder in pair):
            return pair
    named = [name for name in (layout.images, layout.masks) if name is not None]
    if lacking := [name for name in named if not (source / name).is_dir()]:
        raise DataError(f"{source / lacking[0]} is not a folder: name one below {source}")
    inside = ", ".join(sorted(path.name for path in source.iterdir())[:6]) or "nothing"
    raise DataError(f"{source} holds {inside}: {_expected()}")


def _files(folder: Path) -> dict[str, Path]:
    """Image files anywhere below a folder, by their path in it without suffix."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            raise DataError(f"{found[key]} and {path.name} differ in their suffix only: keep one of them")
        found[key] = path
    return found


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise DataError(f"--event-pattern {text} is not a regular expression: {error}") from None


def _event(pattern: re.Pattern[str], name: str, path: Path) -> str:
    match = pattern.search(name)
    event = match and (match[1] if pattern.groups else match[0])
    if not event:
        raise DataError(f"the name of {path} holds nothing that --event-pattern {pattern.pattern} matches")
    return event


def _expected() -> str:
    pairs = ", ".join(f"{images}/ and {masks}/" for images, masks in LAYOUTS[:5])
    return f"expected {pairs}, or folders named by --images and --masks"
