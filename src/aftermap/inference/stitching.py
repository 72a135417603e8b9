"""Tiles of large images scored as if the images were whole: every pixel counts once, however many tiles show it."""

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from itertools import pairwise

import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.scene import Scene, Target, read_bands, read_images, read_mask
from aftermap.errors import DataError
from aftermap.geo.grid import Window
from aftermap.inference.postprocess import likeliest
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import DEFAULT_HALO_PX, DEFAULT_WINDOW_PX, predict_held
from aftermap.scoring.class_scores import Confusion
from aftermap.wording import counted

OnScene = Callable[[Scene, np.ndarray, np.ndarray, np.ndarray], None]
"""Takes a scene, its images (T, C, H, W), its truth after the lookup and the predicted classes, both (H, W)."""


def owned(scenes: Sequence[Scene]) -> list[tuple[Window, ...]]:
    """The part of each scene that counts, so that every pixel of a large image counts once.

    Where tiles of one image overlap the cut runs midway between their edges; an edge that is the image's own takes no
    part in that. On a full grid each part is one rectangle; beside missing tiles it may be several. A scene without
    `tile` owns all of itself, padding beyond the image's edge is nobody's, and of equal tiles the first owns all.

    Returns:
        For each scene disjoint windows in its own pixels, from top to bottom.
    """
    sources: dict[tuple[str, int, int], list[int]] = {}
    for index, scene in enumerate(scenes):
        if scene.tile is not None:
            key = (scene.tile.source, scene.tile.height, scene.tile.width)
            sources.setdefault(key, []).append(index)
    parts: list[tuple[Window, ...]] = [(Window(0, 0, scene.height, scene.width),) for scene in scenes]
    for (_, height, width), members in sources.items():
        boxes = np.array([_box(scenes[index]) for index in members])
        depths = [
            (_depth(top, bottom, height), _depth(left, right, width)) for top, left, bottom, right in boxes
        ]
        for number, index in enumerate(members):
            parts[index] = _windows(_own(number, boxes, depths), boxes[number], scenes[index])
    return parts


def evaluate_classes(
    predictor: AnyPredictor,
    scenes: Sequence[Scene],
    *,
    lookups: np.ndarray | Sequence[np.ndarray] | None = None,
    classes: int,
    target: Target = "classes",
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int = DEFAULT_HALO_PX,
    compat_tiles: Collection[int] | None = None,
    on_scene: OnScene | None = None,
) -> Confusion:
    """Confusion matrix of a model's likeliest classes on labelled scenes, pooled; see `evaluate_images`."""
    pooled = Confusion(classes)
    for confusion in evaluate_images(
        predictor,
        scenes,
        lookups=lookups,
        classes=classes,
        target=target,
        window_px=window_px,
        halo_px=halo_px,
        compat_tiles=compat_tiles,
        on_scene=on_scene,
    ).values():
        pooled.merge(confusion)
    return pooled


def evaluate_images(
    predictor: AnyPredictor,
    scenes: Sequence[Scene],
    *,
    lookups: np.ndarray | Sequence[np.ndarray] | None = None,
    classes: int,
    target: Target = "classes",
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int = DEFAULT_HALO_PX,
    compat_tiles: Collection[int] | None = None,
    on_scene: OnScene | None = None,
) -> dict[str, Confusion]:
    """Confusion matrix of every large image: a tile counts where it is the one that owns the pixel.

    Scenes without a known pixel in their part are passed over.

    Args:
        predictor: the model; what it calls likeliest is its prediction.
        scenes: labelled tiles or whole images.
        lookups: uint8 (256,) from mask values to the model's classes, for all scenes or one per scene; IGNORE takes
            no part. None leaves masks as they are.
        classes: of the matrix; the truth after the lookup and the prediction are among them.
        target: which masks are the truth.
        window_px: scenes larger than this are predicted in overlapping windows.
        halo_px: half of that overlap.
        compat_tiles: classes (after the lookup) that are new in the step: only tiles that hold one of them count, each
            in full, with pixels in overlaps more than once.
        on_scene: called with every scene that was predicted.

    Returns:
        By name of the large image (`Scene.tile.source`), or of the scene where it is whole, in order of scenes.

    Raises:
        ValueError: lookups and scenes differ in number, or a mask or prediction holds another class.
        DataError: no scene has a known pixel, or one cannot be read.
    """
    tables = _tables(lookups, len(scenes))
    parts = owned(scenes) if compat_tiles is None else [()] * len(scenes)
    by_image: dict[str, Confusion] = {}
    for scene, table, windows in zip(scenes, tables, parts, strict=True):
        truth = read_mask(scene, target=target)
        truth = truth if table is None else table[truth]
        if compat_tiles is not None:
            if not np.isin(truth, list(compat_tiles)).any():
                continue
            windows = (Window(0, 0, *truth.shape),)
        if all((truth[window.slices] == IGNORE).all() for window in windows):
            continue
        images = _read(scene, predictor)
        predicted = predict_classes(predictor, images, window_px=window_px, halo_px=halo_px)
        if predicted.shape != truth.shape:
            raise DataError(
                f"the mask of {scene.name} is {truth.shape[1]} x {truth.shape[0]} px, "
                f"its image {predicted.shape[1]} x {predicted.shape[0]} px: prepare the data again"
            )
        name = scene.name if scene.tile is None else scene.tile.source
        confusion = by_image.setdefault(name, Confusion(classes))
        for window in windows:
            confusion.add(truth[window.slices], predicted[window.slices])
        if on_scene is not None:
            on_scene(scene, images, truth, predicted)
    if not by_image:
        raise DataError(
            f"none of {counted(len(scenes), 'scene')} has a pixel of a class to evaluate: "
            "check their masks and the classes of the task"
        )
    return by_image


def predict_classes(
    predictor: AnyPredictor,
    images: np.ndarray,
    *,
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int = DEFAULT_HALO_PX,
) -> np.ndarray:
    """Likeliest class uint8 (H, W) of images (T, C, H, W) of any size; the first of several equally likely ones."""
    with closing(predict_held(predictor, images, window_px=window_px, halo_px=halo_px)) as bands:
        classes = [likeliest(band.probabilities) for band in bands]
    return np.concatenate(classes)


def _read(scene: Scene, predictor: AnyPredictor) -> np.ndarray:
    if predictor.dates == 2:
        return read_images(scene, dates=2)
    return read_bands(scene, predictor.card.given_bands)[None]


def _tables(lookups: np.ndarray | Sequence[np.ndarray] | None, count: int) -> Sequence[np.ndarray | None]:
    if lookups is None:
        return [None] * count
    if isinstance(lookups, np.ndarray) and lookups.ndim == 1:
        return [lookups] * count
    if len(lookups) != count:
        raise ValueError(f"{len(lookups)} lookups for {count} scenes, expected one each or one for all")
    return list(lookups)


def _box(scene: Scene) -> tuple[int, int, int, int]:
    """First row and column, and those after the last, of a tile in its image; without what lies beyond it."""
    tile = scene.tile
    assert tile is not None
    bottom, right = min(tile.row + scene.height, tile.height), min(tile.col + scene.width, tile.width)
    return max(tile.row, 0), max(tile.col, 0), bottom, right


def _depth(start: int, stop: int, length: int) -> np.ndarray:
    """Distance of pixels `start` to `stop` from the nearer end that is not an end of the image, in half pixels."""
    distance = np.full(max(stop - start, 0), 2 * length, np.int64)
    steps = 2 * np.arange(len(distance)) + 1
    if start > 0:
        distance = np.minimum(distance, steps)
    if stop < length:
        distance = np.minimum(distance, steps[::-1])
    return distance


def _own(number: int, boxes: np.ndarray, depths: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Bool (h, w) over box `number`: where it is deeper than every other one, in rows times columns.

    In the overlap of two boxes of a grid this is the half nearer to it; whatever the boxes, one of them has the pixel.
    """
    top, left, bottom, right = boxes[number]
    mine = np.ones((max(bottom - top, 0), max(right - left, 0)), bool)
    meeting = (boxes[:, 0] < bottom) & (boxes[:, 2] > top) & (boxes[:, 1] < right) & (boxes[:, 3] > left)
    for other in np.flatnonzero(meeting).tolist():
        if other == number:
            continue
        first_row, first_col = max(top, boxes[other, 0]), max(left, boxes[other, 1])
        last_row, last_col = min(bottom, boxes[other, 2]), min(right, boxes[other, 3])
        own, its = (
            np.multiply.outer(
                depths[box][0][first_row - boxes[box, 0] : last_row - boxes[box, 0]],
                depths[box][1][first_col - boxes[box, 1] : last_col - boxes[box, 1]],
            )
            for box in (number, other)
        )
        comes_first = (*boxes[number], number) < (*boxes[other], other)
        deeper = own >= its if comes_first else own > its
        mine[first_row - top : last_row - top, first_col - left : last_col - left] &= deeper
    return mine


def _windows(mine: np.ndarray, box: np.ndarray, scene: Scene) -> tuple[Window, ...]:
    """A mask over a box as disjoint windows in the scene's pixels: runs of columns over runs of equal rows."""
    if not mine.size:
        return ()
    assert scene.tile is not None
    down, across = int(box[0]) - scene.tile.row, int(box[1]) - scene.tile.col
    changes = np.flatnonzero((mine[1:] != mine[:-1]).any(axis=1)) + 1
    rows = [0, *changes.tolist(), len(mine)]
    windows = []
    for first, stop in pairwise(rows):
        edges = np.flatnonzero(np.diff(np.pad(mine[first].astype(np.int8), 1)))
        for left, right in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            windows.append(Window(down + first, across + left, stop - first, right - left))
    return tuple(windows)
