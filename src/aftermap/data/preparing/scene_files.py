"""The files of one prepared scene."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.mask_png import count_values, encode_mask
from aftermap.data.preparing.dataset import Labels, SourceScene
from aftermap.data.preparing.journal import MASKS, SOFT
from aftermap.data.scene import Scene
from aftermap.data.soft_labels import write_soft
from aftermap.files import write_bytes

_FIELDS = {"building": "building_mask", "damage": "damage_mask", "classes": "class_mask"}


def write_scene(
    folder: Path,
    source: SourceScene,
    labels: Labels,
    *,
    name: str,
    pre: Path,
    post: Path | None = None,
    size: tuple[int, int],
    resolution_m: float | None,
    classes: int,
    checksums: Mapping[str, str],
    **more: Any,
) -> Scene:
    """Write the masks and soft labels of a scene whose images are there.

    Args:
        folder: of the prepared dataset.
        source: what the scene is made of.
        labels: what is written.
        name: of the scene.
        pre: its image.
        post: that of the second date.
        size: height and width in pixels.
        resolution_m: metres per pixel, where known.
        classes: how many the finest mask may hold.
        checksums: of the files that the scene depends on.
        more: further fields of the scene.

    Raises:
        OutputError: a file cannot be written.
    """
    masks: dict[str, Any] = {
        _FIELDS[kind]: _write_mask(folder / MASKS / f"{name}_{kind}.png", mask)
        for kind, mask in labels.masks.items()
    }
    finest = next(reversed(list(labels.masks.values())), None)
    soft = None if labels.soft is None else folder / SOFT / f"{name}.tif"
    if soft is not None and labels.soft is not None:
        write_soft(soft, labels.soft, labels.grid)
    return Scene(
        name=name,
        event=labels.event or source.event,
        split=source.split,
        source_split=source.source_split,
        pre=pre,
        post=post,
        soft=soft,
        height=size[0],
        width=size[1],
        grid=labels.grid,
        resolution_m=resolution_m,
        class_pixels=[] if finest is None else class_pixels(finest, classes),
        polygons=dict(labels.polygons),
        checksums=dict(checksums),
        **masks,
        **more,
    )


def has_its_files(scene: Scene) -> bool:
    """Whether everything that was written for a scene is still there."""
    written = (scene.pre, scene.building_mask, scene.damage_mask, scene.class_mask, scene.soft)
    return all(path.is_file() for path in written if path is not None)


def class_pixels(mask: np.ndarray, classes: int) -> list[int]:
    """Pixels of each class in a mask, those without a known class left out."""
    counts: list[int] = count_values(mask)[:IGNORE].tolist()
    highest = max((value for value, count in enumerate(counts) if count), default=0)
    return counts[: max(classes, highest + 1)]


def _write_mask(path: Path, mask: np.ndarray) -> Path:
    """Write uint8 (H, W) as PNG; whole or not at all."""
    return write_bytes(path, encode_mask(mask), parents=True, sync=False)
