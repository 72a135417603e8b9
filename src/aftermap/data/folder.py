"""Reader of plain folders: images with class masks, at one date or two."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from aftermap.classes import BUILDING, DAMAGE, IGNORE
from aftermap.data.geotransform import scene_grid
from aftermap.data.prepare import IMAGE_SUFFIXES, Labels, Progress, SourceScene, prepare, read_bytes
from aftermap.data.scene import Manifest, SceneGrid
from aftermap.errors import DataError
from aftermap.geo.grid import Grid

Target = Literal["building", "damage"]
_PAIRS, _SINGLE = ("pre", "post"), "images"
_LAYOUT = "expected images/ and masks/ (one date), or pre/, post/ and masks/ (pairs with the same file names)"


def prepare_folder(
    source: Path,
    out: Path,
    *,
    labels: Literal["auto", "building", "damage"] = "auto",
    event: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Prepare images with masks: `images/` and `masks/`, or `pre/`, `post/` and `masks/`, matched by file name.

    Masks are single-band 8-bit images: buildings as 0 and 1 or 0 and 255, or damage classes 0 to 4 with 255 where
    the class is unknown. Scenes without a mask are unlabelled. GeoTIFF images bring their georeference.

    Args:
        source: folder of the layout above.
        out: folder for the manifest and the masks; images stay where they are.
        labels: what masks hold. `auto` looks at all of them: a value from 2 to 4 anywhere makes them damage
            classes.
        event: name of the event; by default the folder's name.
        workers: processes.
        overwrite: write into a folder that holds other things.
        progress: called with the number of finished scenes and of all.

    Raises:
        DataError: another layout, unreadable files, or values that fit no scheme.
        OutputError: `out` cannot be used.
    """
    scenes = find_scenes(source, event=event or source.resolve().name)
    masks = [scene.pre_label for scene in scenes if scene.pre_label is not None]
    values = mask_values(masks)
    target = labels if labels != "auto" else _guess(values, source)
    if target == "damage" and scenes[0].post is None:
        raise DataError(f"{source} has damage masks but one date only: damage needs pre/ and post/ images")
    scheme = DAMAGE if target == "damage" else BUILDING
    # 255 beside 1 can only mean "unknown"; alone it is how many tools write "building".
    foreground = 255 if target == "building" and values <= {0, 255} else 1
    return prepare(
        scenes,
        partial(read_labels, target=target, foreground=foreground),
        out,
        kind="folder",
        scheme=scheme.name,
        options={"labels": target, "foreground": str(foreground)},
        notes={"source": str(source.resolve())},
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


def find_scenes(source: Path, *, event: str) -> list[SourceScene]:
    """List the images of a folder with their masks and partners.

    Raises:
        DataError: another layout, missing partners, or masks without image.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: {_LAYOUT}")
    dates = [name for name in _PAIRS if (source / name).is_dir()] or [_SINGLE]
    if dates not in ([*_PAIRS], [_SINGLE]) or not (source / dates[0]).is_dir():
        inside = ", ".join(sorted(path.name for path in source.iterdir())[:6]) or "nothing"
        raise DataError(f"{source} holds {inside}: {_LAYOUT}")
    images = [_by_stem(source / name) for name in dates]
    masks = _by_stem(source / "masks")
    if not images[0]:
        raise DataError(f"no images in {source / dates[0]}: {_LAYOUT}")
    for name, mine, other in zip(dates, images, reversed(images), strict=True):
        if alone := sorted(mine.keys() - other.keys()):
            partner = next(date for date in dates if date != name)
            raise DataError(
                f"{mine[alone[0]]} has no partner in {source / partner} ({len(alone)} such images)"
            )
    if alone := sorted(masks.keys() - images[0].keys()):
        raise DataError(
            f"{masks[alone[0]]} has no image of that name in {source / dates[0]} ({len(alone)} such masks)"
        )
    return [
        SourceScene(
            name=stem,
            event=event,
            pre=images[0][stem],
            post=images[1][stem] if len(images) > 1 else None,
            pre_label=masks.get(stem),
        )
        for stem in sorted(images[0])
    ]


def mask_values(masks: Sequence[Path]) -> set[int]:
    """All values that occur in the masks."""
    present = np.zeros(256, bool)
    for path in masks:
        present[np.unique(read_mask_file(path))] = True
    return {int(value) for value in np.flatnonzero(present)}


def read_mask_file(path: Path) -> np.ndarray:
    """Read a single-band 8-bit mask (H, W); three equal bands count as one.

    Raises:
        DataError: unreadable, or of another kind.
    """
    mask = cv2.imdecode(np.frombuffer(read_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise DataError(f"{path} is not a readable mask (truncated, or another format)")
    if mask.ndim == 3 and (mask[..., :1] == mask[..., :3]).all():
        mask = mask[..., 0]
    if mask.ndim != 2 or mask.dtype != np.uint8:
        bands = 1 if mask.ndim == 2 else mask.shape[2]
        raise DataError(
            f"{path} has {bands} bands of {mask.dtype}, expected a single-band 8-bit mask of classes"
        )
    return np.asarray(mask)


def read_labels(scene: SourceScene, /, *, height: int, width: int, target: Target, foreground: int) -> Labels:
    """The mask of one scene, as class indices.

    Raises:
        DataError: size or values that do not fit.
    """
    grid = read_grid(scene.pre)
    post = read_grid(scene.post) if scene.post is not None else grid
    if problem := grid_mismatch(grid, post):
        raise DataError(f"{scene.pre} and {scene.post} {problem}: warp one to the other")
    if scene.pre_label is None:
        return Labels(grid=grid)
    mask = read_mask_file(scene.pre_label)
    if mask.shape != (height, width):
        raise DataError(
            f"{scene.pre_label} has {mask.shape[1]} x {mask.shape[0]} pixels, its image {width} x {height}"
        )
    scheme = DAMAGE if target == "damage" else BUILDING
    if foreground != 1:
        mask = (mask == foreground).astype(np.uint8)
    wrong = np.setdiff1d(mask, [*range(len(scheme)), IGNORE])
    if wrong.size:
        raise DataError(
            f"{scene.pre_label} holds the value {wrong[0]}, expected 0 to {len(scheme) - 1}, or {IGNORE} for unknown"
        )
    return Labels(
        building=mask if target == "building" else None,
        damage=mask if target == "damage" else None,
        grid=grid,
    )


def grid_mismatch(pre: SceneGrid | None, post: SceneGrid | None) -> str | None:
    """What differs between the georeferences of two dates by more than half a pixel, in words; None where nothing."""
    if pre is None and post is None:
        return None
    if pre is None or post is None:
        return "have a reference system at one date only"
    if pre.crs != post.crs:
        return f"differ in reference system ({pre.crs[:40]}, {post.crs[:40]})"
    step = max(abs(pre.transform[0]), abs(pre.transform[1]))
    apart = np.abs(np.subtract(pre.transform, post.transform)) / step
    if apart[[2, 5]].max() > 0.5 or apart[[0, 1, 3, 4]].max() > 1e-3:
        return "lie on different grids"
    return None


def _guess(values: set[int], source: Path) -> Target:
    classes = values - {0, IGNORE}
    if classes <= {1}:
        return "building"
    if classes <= set(range(len(DAMAGE))):
        return "damage"
    shown = ", ".join(str(value) for value in sorted(values)[:8])
    raise DataError(
        f"masks in {source / 'masks'} hold {shown}, expected 0/1, 0/255, or damage classes 0 to 4"
    )


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}


def read_grid(path: Path) -> SceneGrid | None:
    """Georeference of a TIFF image; other images have none.

    Raises:
        DataError: a TIFF that cannot be read, or is not RGB of 8 bits.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as image:
                grid = Grid(image.crs, image.transform, image.width, image.height)
                kinds, count = set(image.dtypes), image.count
    except RasterioIOError:
        raise DataError(f"{path} is not a TIFF that can be read") from None
    if kinds != {"uint8"} or count != 3:
        raise DataError(
            f"{path} has {count} bands of {', '.join(kinds)}, expected 3 bands of 8 bits (red, green, blue): "
            "convert it with gdal_translate -ot Byte -scale -b 1 -b 2 -b 3"
        )
    return scene_grid(grid)
