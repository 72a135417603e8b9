"""Layouts of plain folders: which files are images, which are their masks, and which are the two dates of a pair."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aftermap.data.file_content import IMAGE_SUFFIXES
from aftermap.data.preparing.dataset import SourceScene
from aftermap.errors import DataError

MASK_ENDINGS = ("_mask", "_target")
_PAIRS, _SINGLE = ("pre", "post"), "images"
_MASK_FOLDERS = ("masks", "targets")
LAYOUT = (
    "expected images/ and masks/ (one date), pre/, post/ and masks/ (pairs with the same file names), or images with "
    "NAME_mask.png beside them"
)


def find_scenes(source: Path, *, event: str | None = None) -> list[SourceScene]:
    """List the images of a folder with their masks and partners.

    Args:
        source: `images` (one date) or `pre` and `post`, with masks of the same names in `masks` or `targets` or beside
            the images; or a tree of images with their masks beside them, whose scenes are named after their
            folders.
        event: name of all scenes' event; by default the source's name, or in a tree that of the image's folder.

    Raises:
        DataError: another layout, missing partners, or masks without image.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: {LAYOUT}")
    dates = [name for name in _PAIRS if (source / name).is_dir()] or [_SINGLE]
    if dates == [_SINGLE] and not (source / _SINGLE).is_dir():
        return _tree(source, event)
    if dates not in ([*_PAIRS], [_SINGLE]):
        raise DataError(f"{source} holds {_inside(source)}: {LAYOUT}")
    found = [_by_stem(source / name) for name in dates]
    images = [{stem: path for stem, path in mine.items() if not _is_mask(stem)} for mine in found]
    masks = {_image_of(s): path for mine in found for s, path in mine.items() if _is_mask(s)}
    for name in _MASK_FOLDERS:
        masks |= {_image_of(stem): path for stem, path in _by_stem(source / name).items()}
    if not images[0]:
        raise DataError(f"no images in {source / dates[0]}: {LAYOUT}")
    for name, mine, other in zip(dates, images, reversed(images), strict=True):
        if alone := sorted(mine.keys() - other.keys()):
            partner = next(date for date in dates if date != name)
            raise DataError(
                f"{mine[alone[0]]} has no partner in {source / partner} ({len(alone)} such images)"
            )
    _check_masks(masks, images[0], source / dates[0])
    return [
        SourceScene(
            name=stem,
            event=event or source.resolve().name,
            pre=images[0][stem],
            post=images[1][stem] if len(images) > 1 else None,
            labels=_label(masks.get(stem)),
        )
        for stem in sorted(images[0])
    ]


def _tree(source: Path, event: str | None) -> list[SourceScene]:
    """Images anywhere below a folder, each with the mask beside it."""
    folders = [source, *sorted(path for path in source.rglob("*") if path.is_dir())]
    if known := [path for path in folders[1:] if path.name in (_SINGLE, *_PAIRS, *_MASK_FOLDERS, "labels")]:
        raise DataError(
            f"{source} has a folder {known[0].name} in {known[0].parent}: prepare that one, {LAYOUT}"
        )
    scenes: list[SourceScene] = []
    for folder in folders:
        files = _by_stem(folder)
        masks = {_image_of(stem): path for stem, path in files.items() if _is_mask(stem)}
        images = {stem: path for stem, path in files.items() if not _is_mask(stem)}
        _check_masks(masks, images, folder)
        prefix = "-".join(folder.relative_to(source).parts)
        scenes += [
            SourceScene(
                name=f"{prefix}-{stem}" if prefix else stem,
                event=event or folder.resolve().name,
                pre=images[stem],
                labels=_label(masks.get(stem)),
            )
            for stem in sorted(images)
        ]
    if not scenes:
        raise DataError(f"{source} holds {_inside(source)}: {LAYOUT}")
    return _unique(scenes)


def _unique(scenes: Sequence[SourceScene]) -> list[SourceScene]:
    """Scenes by name, of which those that are there before get a number."""
    taken: dict[str, SourceScene] = {}
    for scene in scenes:
        name, number = scene.name, 2
        while name in taken:
            name, number = f"{scene.name}-{number}", number + 1
        taken[name] = replace(scene, name=name)
    return [taken[name] for name in sorted(taken)]


def _check_masks(masks: dict[str, Path], images: dict[str, Path], folder: Path) -> None:
    if alone := sorted(masks.keys() - images.keys()):
        raise DataError(f"{masks[alone[0]]} has no image of that name in {folder} ({len(alone)} such masks)")


def _is_mask(stem: str) -> bool:
    return stem.endswith(MASK_ENDINGS)


def _image_of(stem: str) -> str:
    """Name of the image that a mask belongs to."""
    for ending in MASK_ENDINGS:
        stem = stem.removesuffix(ending)
    return stem


def _label(mask: Path | None) -> dict[str, Path]:
    return {} if mask is None else {"pre_label": mask}


def _inside(source: Path) -> str:
    return ", ".join(sorted(path.name for path in source.iterdir())[:6]) or "nothing"


def _by_stem(folder: Path) -> dict[str, Path]:
    """Image files by name without suffix.

    Raises:
        DataError: two that differ in their suffixes only.
    """
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise DataError(
                f"{found[path.stem]} and {path.name} differ in their suffix only: keep one of them"
            )
        found[path.stem] = path
    return found
