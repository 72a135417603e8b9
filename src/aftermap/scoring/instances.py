"""Buildings of a mask, one by one: numbered, given a class by their pixels, matched with those of another mask."""

import cv2
import numpy as np

MIN_AREA_PX = 10
"""Smaller components of a mask are slivers between touching polygons or noise, not buildings."""


def label_components(mask: np.ndarray, *, min_area_px: int = MIN_AREA_PX) -> np.ndarray:
    """Number the connected parts (over edges, not corners) of a mask.

    Args:
        mask: (H, W) bool.
        min_area_px: smaller parts are left out.

    Returns:
        int32 (H, W): 1 to n, 0 elsewhere.
    """
    return _without_small(cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1], min_area_px)


def label_classes(damage: np.ndarray, *, min_area_px: int = MIN_AREA_PX) -> np.ndarray:
    """Number the connected parts of each damage class 1 to 4 of a mask (H, W), like `label_components`."""
    labels = np.zeros(damage.shape, np.int32)
    count = 0
    for value in range(1, 5):
        mask = damage == value
        inside = np.flatnonzero(mask)
        if len(inside):
            parts, numbered = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
            labels.ravel()[inside] = numbered.ravel()[inside] + count
            count += parts - 1
    return _without_small(labels, min_area_px)


def building_classes(prediction: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """The damage class of each building, voted by its pixels.

    Args:
        prediction: class map (H, W) of 0 to 4, where every pixel has one vote, or class probabilities
            (5, H, W), where it has a share of one in each class.
        instances: (H, W), 1 to n numbers the buildings, 0 elsewhere.

    Returns:
        uint8 (n,): the class 1 to 4 with most votes (ties: the lower one); 0 (missed) for buildings with more
        than half of the votes on background, and for numbers without a pixel.
    """
    inside, labels = _numbered(instances)
    labels, count = labels - 1, _count_labels(instances)
    if prediction.ndim == 2:
        votes = np.bincount(labels * 5 + prediction.ravel()[inside], minlength=count * 5).reshape(count, 5)
    else:
        votes = np.stack(
            [np.bincount(labels, plane.ravel()[inside], minlength=count) for plane in prediction], axis=1
        )
    classes = votes[:, 1:].argmax(axis=1) + 1
    missed = (2 * votes[:, 0] > votes.sum(axis=1)) | (votes[:, 1:].sum(axis=1) == 0)
    voted: np.ndarray = np.where(missed, 0, classes).astype(np.uint8)
    return voted


def count_found(
    predicted: np.ndarray, target: np.ndarray, unknown: np.ndarray, *, iou: float = 0.5
) -> np.ndarray:
    """How many buildings were found, made up and lost.

    Args:
        predicted: (H, W), 1 to n numbers the predicted buildings.
        target: (H, W), 1 to m numbers the target buildings.
        unknown: (H, W) bool, where the target says nothing; a prediction that lies mostly there is neither right
            nor wrong unless it matches.
        iou: see `match_buildings`.

    Returns:
        int64 (3,): pairs that match, predictions without a match, targets without a match.
    """
    judged = is_judged(predicted, unknown)
    matches = match_buildings(predicted, target, iou=iou)
    judged[matches[:, 0] - 1] = True
    found = len(matches)
    return np.array([found, np.count_nonzero(judged) - found, _count_labels(target) - found])


def match_buildings(predicted: np.ndarray, target: np.ndarray, *, iou: float = 0.5) -> np.ndarray:
    """Pair predicted with target buildings, best overlap first, each at most once.

    Args:
        predicted: (H, W), 1 to n numbers the predicted buildings.
        target: (H, W), 1 to m numbers the target buildings.
        iou: intersection over union that a pair must exceed; from 0.5 on the pairs are unique by themselves.

    Returns:
        int64 (pairs, 2): numbers of the predicted and the target building.
    """
    columns = _count_labels(target) + 1
    inside, numbers = _numbered(predicted)
    others = target.ravel()[inside]
    both = others > 0
    keys, overlap = np.unique(numbers[both].astype(np.int64) * columns + others[both], return_counts=True)
    pairs = np.stack([keys // columns, keys % columns], axis=1)
    areas = np.bincount(numbers), np.bincount(_numbered(target)[1])
    union = areas[0][pairs[:, 0]] + areas[1][pairs[:, 1]] - overlap
    share = overlap / union
    order = np.argsort(-share, kind="stable")
    order = order[share[order] > iou]
    if iou >= 0.5:
        unique: np.ndarray = pairs[order]
        return unique
    taken: tuple[set[int], set[int]] = (set(), set())
    chosen = []
    for first, second in pairs[order].tolist():
        if first not in taken[0] and second not in taken[1]:
            taken[0].add(first)
            taken[1].add(second)
            chosen.append((first, second))
    return np.array(chosen, np.int64).reshape(-1, 2)


def _without_small(labels: np.ndarray, min_area_px: int) -> np.ndarray:
    """Instances of at least `min_area_px` pixels, numbered anew."""
    inside, numbers = _numbered(labels)
    kept = np.bincount(numbers, minlength=1) >= min_area_px
    kept[0] = False
    if kept[1:].all():
        return labels
    renumbered = np.zeros(labels.shape, np.int32)
    renumbered.ravel()[inside] = np.where(kept, np.cumsum(kept), 0)[numbers]
    return renumbered


def _numbered(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels have a number, in the flat array, and which; few do, so that places are cheaper than a mask."""
    inside = np.flatnonzero(instances > 0)
    return inside, instances.ravel()[inside]


def _count_labels(instances: np.ndarray) -> int:
    return int(instances.max(initial=0))


def is_judged(predicted: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Which instances lie on unknown ground by half at most, bool (n,)."""
    judged: np.ndarray = shares(unknown, predicted) <= 0.5
    return judged


def shares(mask: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """The share of each instance's pixels on `mask`, (n,)."""
    inside, numbers = _numbered(instances)
    areas = np.bincount(numbers, minlength=1)[1:]
    held = numbers[mask.ravel()[inside]]
    share: np.ndarray = np.bincount(held, minlength=len(areas) + 1)[1:] / np.maximum(areas, 1)
    return share
