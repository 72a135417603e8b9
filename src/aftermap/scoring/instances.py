"""Buildings of a mask, one by one: numbered, given a class by their pixels, matched with those of another mask."""

from dataclasses import dataclass

import cv2
import numpy as np

MIN_AREA_PX = 10
"""Smaller components of a mask are slivers between touching polygons or noise, not buildings."""


@dataclass(frozen=True, slots=True)
class Instances:
    """Numbered buildings, whose pixels are looked for once: few have a number, so that places are cheaper than masks.

    Attributes:
        labels: int (H, W), 1 to n, 0 elsewhere.
        inside: where pixels have a number, in the flat array.
        numbers: which.
        count: n.
    """

    labels: np.ndarray
    inside: np.ndarray
    numbers: np.ndarray
    count: int

    @classmethod
    def of(cls, instances: "np.ndarray | Instances") -> "Instances":
        """Of labels (H, W); what is numbered already stays."""
        if isinstance(instances, Instances):
            return instances
        inside = np.flatnonzero(instances > 0)
        numbers = instances.ravel()[inside]
        return cls(instances, inside, numbers, int(numbers.max(initial=0)))

    @classmethod
    def components(cls, mask: np.ndarray, *, min_area_px: int = MIN_AREA_PX) -> "Instances":
        """The connected parts (over edges, not corners) of a mask; see `label_components`."""
        return cls._large(mask.shape, *_connected(mask), min_area_px)

    @classmethod
    def classes(cls, damage: np.ndarray, *, min_area_px: int = MIN_AREA_PX) -> "Instances":
        """The connected parts of each damage class 1 to 4 of a mask (H, W)."""
        found, numbers, count = [], [], 0
        for value in range(1, 5):
            inside, parts = _connected(damage == value)
            found.append(inside)
            numbers.append(parts + np.int32(count))
            count += int(parts.max(initial=0))
        return cls._large(damage.shape, np.concatenate(found), np.concatenate(numbers), min_area_px)

    @classmethod
    def _large(
        cls, shape: tuple[int, ...], inside: np.ndarray, numbers: np.ndarray, min_area_px: int
    ) -> "Instances":
        """Instances of at least `min_area_px` pixels, numbered anew."""
        kept = np.bincount(numbers, minlength=1) >= min_area_px
        kept[0] = False
        if not kept[1:].all():
            numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[numbers]
            inside, numbers = inside[numbers > 0], numbers[numbers > 0]
        labels = np.zeros(shape, np.int32)
        labels.ravel()[inside] = numbers
        return cls(labels, inside, numbers, int(np.count_nonzero(kept)))


def label_components(mask: np.ndarray, *, min_area_px: int = MIN_AREA_PX) -> np.ndarray:
    """Number the connected parts (over edges, not corners) of a mask.

    Args:
        mask: (H, W) bool.
        min_area_px: smaller parts are left out.

    Returns:
        int32 (H, W): 1 to n, 0 elsewhere.
    """
    return Instances.components(mask, min_area_px=min_area_px).labels


def label_classes(damage: np.ndarray, *, min_area_px: int = MIN_AREA_PX) -> np.ndarray:
    """Number the connected parts of each damage class 1 to 4 of a mask (H, W), like `label_components`."""
    return Instances.classes(damage, min_area_px=min_area_px).labels


def building_classes(prediction: np.ndarray, instances: np.ndarray | Instances) -> np.ndarray:
    """The damage class of each building, voted by its pixels.

    Args:
        prediction: class map (H, W) of 0 to 4, where every pixel has one vote, or class probabilities
            (5, H, W), where it has a share of one in each class.
        instances: (H, W), 1 to n numbers the buildings, 0 elsewhere.

    Returns:
        uint8 (n,): the class 1 to 4 with most votes (ties: the lower one); 0 (missed) for buildings with more
        than half of the votes on background, and for numbers without a pixel.
    """
    buildings = Instances.of(instances)
    inside, labels, count = buildings.inside, buildings.numbers - 1, buildings.count
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
    predicted: np.ndarray | Instances,
    target: np.ndarray | Instances,
    unknown: np.ndarray,
    *,
    iou: float = 0.5,
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
    predicted, target = Instances.of(predicted), Instances.of(target)
    judged = is_judged(predicted, unknown)
    matches = match_buildings(predicted, target, iou=iou)
    judged[matches[:, 0] - 1] = True
    found = len(matches)
    return np.array([found, np.count_nonzero(judged) - found, target.count - found])


def match_buildings(
    predicted: np.ndarray | Instances, target: np.ndarray | Instances, *, iou: float = 0.5
) -> np.ndarray:
    """Pair predicted with target buildings, best overlap first, each at most once.

    Args:
        predicted: (H, W), 1 to n numbers the predicted buildings.
        target: (H, W), 1 to m numbers the target buildings.
        iou: intersection over union that a pair must exceed; from 0.5 on the pairs are unique by themselves.

    Returns:
        int64 (pairs, 2): numbers of the predicted and the target building.
    """
    predicted, target = Instances.of(predicted), Instances.of(target)
    columns, numbers = target.count + 1, predicted.numbers
    others = target.labels.ravel()[predicted.inside]
    both = others > 0
    keys, overlap = np.unique(numbers[both].astype(np.int64) * columns + others[both], return_counts=True)
    pairs = np.stack([keys // columns, keys % columns], axis=1)
    areas = np.bincount(numbers), np.bincount(target.numbers)
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


def _connected(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a mask (H, W) holds, in the flat array, and the number of the connected part, int32 from 1 on."""
    inside = np.flatnonzero(mask)
    if not len(inside):
        return inside, np.zeros(0, np.int32)
    width = mask.shape[1]
    top, bottom = (
        int(inside[0]) // width,
        int(inside[-1]) // width + 1,
    )  # parts are not looked for above and below
    labels = cv2.connectedComponents(mask[top:bottom].astype(np.uint8), connectivity=4)[1]
    return inside, labels.ravel()[inside - top * width]


def is_judged(predicted: np.ndarray | Instances, unknown: np.ndarray) -> np.ndarray:
    """Which instances lie on unknown ground by half at most, bool (n,)."""
    judged: np.ndarray = shares(unknown, predicted) <= 0.5
    return judged


def shares(mask: np.ndarray, instances: np.ndarray | Instances) -> np.ndarray:
    """The share of each instance's pixels on `mask`, (n,)."""
    buildings = Instances.of(instances)
    numbers = buildings.numbers
    areas = np.bincount(numbers, minlength=1)[1:]
    held = numbers[mask.ravel()[buildings.inside]]
    share: np.ndarray = np.bincount(held, minlength=len(areas) + 1)[1:] / np.maximum(areas, 1)
    return share
