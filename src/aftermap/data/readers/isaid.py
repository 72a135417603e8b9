"""Reader of iSAID: aerial images of any size with coloured masks of fifteen kinds of objects, cut into tiles."""

import re
from collections.abc import Sequence
from pathlib import Path

from aftermap.data.legends import ISAID
from aftermap.data.preparing.class_dataset import class_dataset
from aftermap.data.preparing.dataset import Dataset, SourceScene
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.readers.class_labels import LABEL, LabelReader, Official, deal_validation
from aftermap.data.readers.colours import TOLERANCE, OffPalette
from aftermap.data.scene import Split
from aftermap.errors import DataError

TILING = Tiling(tile_px=512, overlap_px=64)
SKIPPED = ("P1527", "P1530")
"""Images that the development kit of iSAID leaves out."""

_LABEL_ENDING = "_instance_color_RGB"
_SUBSETS = {"train": ("train", "training"), "valid": ("valid", "val", "validation")}
_IMAGE = re.compile(r"[^_.][^_]*")


def isaid_dataset(
    source: Path,
    *,
    tiling: Tiling = TILING,
    valid_is: Official = "test",
    validation: float = 0.1,
    seed: int = 0,
    skip: Sequence[str] = SKIPPED,
    off_palette: OffPalette = "refuse",
    tolerance: float = TOLERANCE,
) -> Dataset:
    """The images of iSAID to cut into tiles with masks of its classes.

    Smaller images are one tile of their own size; a training pads its crops with unknown pixels. Every image is an event.

    Args:
        source: folder with `train` and `valid` (or `val`), each with images and their `_instance_color_RGB` masks in
            one or several folders below it.
        tiling: how images are cut.
        valid_is: what the official validation set, the last with published labels, is used as.
        validation: with `test`, the share of the training images whose tiles are for validation.
        seed: of the choice of these.
        skip: names of images to leave out.
        off_palette: what becomes of label colours that no class has.
        tolerance: see `data.colours.decode_colours`.

    Raises:
        DataError: files are missing or do not fit.
    """
    share = validation if valid_is == "test" else 0.0
    images = find_isaid(source, valid_is=valid_is, validation=share, seed=seed, skip=skip)
    return class_dataset(
        images,
        ISAID,
        LabelReader(ISAID, off_palette, tolerance).of,
        kind="isaid",
        tiling=tiling,
        options={
            "off_palette": off_palette,
            "tolerance": f"{tolerance:g}",
        },
        notes={
            "source": str(source.resolve()),
            "skipped": ",".join(skip),
            "split": "event",
            "split_valid_is": valid_is,
            "split_validation": f"{share:g}",
            "split_seed": str(seed),
        },
    )


def find_isaid(
    source: Path, *, valid_is: Official, validation: float, seed: int, skip: Sequence[str]
) -> list[SourceScene]:
    """The images of both sets with their masks.

    Raises:
        DataError: none is found, or an image has no mask.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: expected train/ and valid/ of iSAID")
    pairs: dict[str, dict[str, tuple[Path, Path]]] = {}
    for subset, names in _SUBSETS.items():
        folder = next((source / name for name in names if (source / name).is_dir()), None)
        if folder is not None:
            pairs[subset] = _pairs(folder, skip)
    if not any(pairs.values()):
        inside = ", ".join(sorted(path.name for path in source.iterdir())[:6]) or "nothing"
        raise DataError(
            f"{source} holds {inside}: expected train/ and valid/ with P0000.png and P0000{_LABEL_ENDING}.png"
        )
    train = pairs.get("train", {})
    judged = deal_validation(list(train), validation, seed) if train else frozenset[str]()
    images = []
    for subset, mine in pairs.items():
        for name, (image, label) in mine.items():
            split: Split = valid_is if subset == "valid" else "validation" if name in judged else "train"
            official = "hold" if subset == "valid" else "train"
            images.append(
                SourceScene(
                    name=name,
                    event=name,
                    pre=image,
                    labels={LABEL: label},
                    split=split,
                    source_split=official,
                )
            )
    return images


def _pairs(folder: Path, skip: Sequence[str]) -> dict[str, tuple[Path, Path]]:
    """Image and mask by name, in natural order."""
    files = sorted(folder.rglob("*.png"))
    labels = {
        path.stem.removesuffix(_LABEL_ENDING): path for path in files if path.stem.endswith(_LABEL_ENDING)
    }
    images = {path.stem: path for path in files if _IMAGE.fullmatch(path.stem) and path.stem not in skip}
    if lacking := sorted(images.keys() - labels.keys()):
        raise DataError(
            f"{images[lacking[0]]} has no mask {lacking[0]}{_LABEL_ENDING}.png ({len(lacking)} such images): add them, "
            "or leave them out with --skip"
        )
    return {name: (images[name], labels[name]) for name in sorted(images, key=_natural)}


def _natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    parts = re.findall(r"\d+|\D+", name)
    return tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)
