"""Scores of building maps: overlap of pixels, of outlines and of boundaries, by scene, event and ground resolution."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from aftermap.classes import IGNORE
from aftermap.errors import DataError
from aftermap.scoring.counts import Intervals, Metrics, SceneTables, f1, plain, pooled, ratio
from aftermap.scoring.instances import MIN_AREA_PX, Instances, count_found

BOUNDARY_SHARE = 0.02
"""Width of the boundary band as a share of the image's diagonal, as boundary IoU was published."""

UNKNOWN_RESOLUTION = "unknown"

_PIXELS, _BOUNDARY, _OBJECTS = slice(0, 3), slice(3, 5), slice(5, 8)
_LENGTH = 8
_REFERENCE_M = 0.3


@dataclass(frozen=True, slots=True)
class SceneFigures:
    """One scene's scores; see `BuildingMapScores`."""

    scene: str
    event: str
    resolution_m: float | None
    jaccard: float
    f1: float
    object_f1: float
    boundary_iou: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class BuildingMapScores:
    """Scores pooled over some scenes. A number that nothing could be measured for is NaN.

    Attributes:
        scenes: how many scenes were pooled.
        jaccard: intersection over union of building pixels.
        precision: share of predicted building pixels that are building.
        recall: share of building pixels that were predicted.
        f1: harmonic mean of precision and recall.
        boundary_iou: intersection over union of the bands inside the boundaries.
        object_f1: F1 of finding buildings, connected parts of the masks, at the overlap `iou`.
        object_precision: share of predicted buildings that match one.
        object_recall: share of buildings that were matched.
        iou: overlap above which a predicted and a target outline are the same building.
        boundary: how wide the band is, in words.
        resolution_m: finest and coarsest ground resolution of the scenes that have one.
        intervals: (low, high) by metric name. Empty below two scenes.
        events: the same by event.
        resolutions: the same by ground resolution, finest first; see `resolution_group`.
        by_scene: every scene in the order in which it came.
    """

    scenes: int
    jaccard: float
    precision: float
    recall: float
    f1: float
    boundary_iou: float
    object_f1: float
    object_precision: float
    object_recall: float
    iou: float
    boundary: str
    resolution_m: tuple[float, float] | None = None
    intervals: Intervals = field(default_factory=dict)
    events: dict[str, "BuildingMapScores"] = field(default_factory=dict)
    resolutions: dict[str, "BuildingMapScores"] = field(default_factory=dict)
    by_scene: tuple[SceneFigures, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self._figures(),
            "iou": self.iou,
            "boundary": self.boundary,
            "events": {name: scores._figures() for name, scores in self.events.items()},
            "resolutions": {name: scores._figures() for name, scores in self.resolutions.items()},
            "by_scene": [scene.as_dict() for scene in self.by_scene],
        }

    def _figures(self) -> dict[str, Any]:
        values = {name: plain(getattr(self, name)) for name in METRICS}
        return {
            "scenes": self.scenes,
            **values,
            "resolution_m": plain(self.resolution_m),
            "intervals": plain(self.intervals),
        }


METRICS = (
    "jaccard",
    "precision",
    "recall",
    "f1",
    "boundary_iou",
    "object_f1",
    "object_precision",
    "object_recall",
)


class BuildingMapScore:
    """Accumulates scenes for `BuildingMapScores`; keeps 8 counts per scene."""

    def __init__(
        self,
        *,
        iou: float = 0.5,
        min_area_px: int = MIN_AREA_PX,
        boundary_share: float = BOUNDARY_SHARE,
        boundary_m: float | None = None,
    ) -> None:
        """Start empty.

        Args:
            iou: a predicted and a target outline that overlap more than this are the same building.
            min_area_px: smallest component that counts as a building.
            boundary_share: width of the boundary band as a share of a scene's diagonal.
            boundary_m: its width in metres instead, so that it is the same at every ground resolution.

        Raises:
            ValueError: a width that is not positive.
        """
        width = boundary_share if boundary_m is None else boundary_m
        if not width > 0:
            raise ValueError(f"a boundary band of {width:g} is no width: expected a number above 0")
        self._iou, self._min_area_px = iou, min_area_px
        self._share, self._metres = boundary_share, boundary_m
        self._tables, self._by_resolution = SceneTables(_LENGTH), SceneTables(_LENGTH)
        self._scenes: dict[tuple[str, str], float | None] = {}

    def __len__(self) -> int:
        return len(self._tables)

    def add(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        *,
        event: str,
        scene: str,
        resolution_m: float | None = None,
    ) -> None:
        """Count a scene, or a part of one: counts under the same names are summed.

        Args:
            prediction: (H, W), > 0 is building.
            target: (H, W), > 0 is building, IGNORE is unknown and takes no part.
            event: where the scene belongs, such as a disaster.
            scene: its name, the unit that the bootstrap resamples.
            resolution_m: metres per pixel, None where it is not known.

        Raises:
            ValueError: the shapes differ.
            DataError: the boundary is wanted in metres and the scene has no resolution.
        """
        if np.ndim(target) != 2 or np.shape(prediction) != np.shape(target):
            raise ValueError(
                f"prediction has shape {np.shape(prediction)}, expected the target's {np.shape(target)} as (H, W)"
            )
        unknown = target == IGNORE
        known = (target > 0) & ~unknown
        built = (prediction > 0) & ~unknown
        pixels = [np.count_nonzero(a) for a in (built & known, built & ~known, known & ~built)]
        width = self._width_px(known.shape, scene, resolution_m)
        edges = [boundary_band(mask, width, unknown=unknown) for mask in (prediction > 0, known)]
        bands = [np.count_nonzero(edges[0] & edges[1]), np.count_nonzero(edges[0] | edges[1])]
        labels = [
            Instances.components(mask, min_area_px=self._min_area_px) for mask in (prediction > 0, known)
        ]
        counts = np.array([*pixels, *bands, *count_found(labels[0], labels[1], unknown, iou=self._iou)])
        self._tables.add(counts, event=event, scene=scene)
        self._by_resolution.add(counts, event=resolution_group(resolution_m), scene=f"{event}/{scene}")
        self._scenes[event, scene] = resolution_m

    def merge(self, other: "BuildingMapScore") -> None:
        """Add what was counted elsewhere by the same rules, its scenes behind these."""
        self._tables.merge(other._tables)
        self._by_resolution.merge(other._by_resolution)
        self._scenes |= other._scenes

    def _width_px(self, shape: tuple[int, ...], scene: str, resolution_m: float | None) -> int:
        if self._metres is None:
            return max(1, round(self._share * math.hypot(*shape)))
        if resolution_m is None:
            raise DataError(
                f"scene {scene} has no ground resolution, so that its boundary cannot be {self._metres:g} m wide: "
                "give the width as a share of the image instead"
            )
        return max(1, round(self._metres / resolution_m))

    def result(self, *, bootstrap: int = 1000, seed: int = 0) -> BuildingMapScores:
        """Scores over everything that was added, by event, ground resolution and scene; see `counts.pooled`."""
        whole = pooled(self._tables, map_metrics, self._scores, bootstrap=bootstrap, seed=seed)
        groups = pooled(self._by_resolution, map_metrics, self._scores, bootstrap=bootstrap, seed=seed).events
        by_event: dict[str, list[float | None]] = {}
        by_group: dict[str, list[float | None]] = {}
        for (event, _), resolution_m in self._scenes.items():
            by_event.setdefault(event, []).append(resolution_m)
            by_group.setdefault(resolution_group(resolution_m), []).append(resolution_m)
        return replace(
            whole,
            resolution_m=_range(self._scenes.values()),
            events={e: replace(s, resolution_m=_range(by_event[e])) for e, s in whole.events.items()},
            resolutions={
                name: replace(groups[name], resolution_m=_range(by_group[name]))
                for name in sorted(groups, key=_finest_first)
            },
            by_scene=tuple(self._figures()),
        )

    def _scores(
        self, counts: np.ndarray, intervals: Intervals, events: dict[str, BuildingMapScores]
    ) -> BuildingMapScores:
        share, width = 100 * self._share, self._metres
        return BuildingMapScores(
            scenes=len(counts),
            iou=self._iou,
            boundary=f"{share:g} % of the diagonal" if width is None else f"{width:g} m",
            intervals=intervals,
            events=events,
            resolution_m=None,
            resolutions={},
            by_scene=(),
            **{name: float(value) for name, value in map_metrics(counts.sum(axis=0)).items()},
        )

    def _figures(self) -> list[SceneFigures]:
        table = map_metrics(self._tables.counts)
        names = ("jaccard", "f1", "object_f1", "boundary_iou")
        return [
            SceneFigures(scene, event, resolution_m, *(float(table[name][row]) for name in names))
            for row, ((event, scene), resolution_m) in enumerate(self._scenes.items())
        ]


def map_metrics(counts: np.ndarray) -> Metrics:
    """All metrics of pooled count vectors (..., 8), each an array (...)."""
    counts = np.asarray(counts, float)
    tp, fp, fn = np.moveaxis(counts[..., _PIXELS], -1, 0)
    both, either = np.moveaxis(counts[..., _BOUNDARY], -1, 0)
    found, extra, lost = np.moveaxis(counts[..., _OBJECTS], -1, 0)
    return {
        "jaccard": ratio(tp, tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": np.where(tp + fp + fn > 0, f1(tp, fp, fn), np.nan),
        "boundary_iou": ratio(both, either),
        "object_f1": np.where(found + extra + lost > 0, f1(found, extra, lost), np.nan),
        "object_precision": ratio(found, found + extra),
        "object_recall": ratio(found, found + lost),
    }


def boundary_band(mask: np.ndarray, width_px: int, *, unknown: np.ndarray | None = None) -> np.ndarray:
    """The pixels of a mask that lie within a distance of its boundary.

    The distance is that of a square window, the edge of the image counts as boundary, and the rim of unknown
    ground does not.

    Args:
        mask: (H, W) bool.
        width_px: width of the band, at least 1.
        unknown: (H, W) bool, pixels that are neither inside nor outside; never part of the band.

    Returns:
        bool (H, W).

    Source: Cheng et al. 2021, boundary IoU.
    """
    filled = mask if unknown is None else mask | unknown
    window = np.ones((2 * width_px + 1, 2 * width_px + 1), np.uint8)
    inner = cv2.erode(filled.astype(np.uint8), window, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
    band: np.ndarray = mask & (inner == 0)
    return band if unknown is None else band & ~unknown


def resolution_group(resolution_m: float | None) -> str:
    """The ground resolution's octave, named by its middle in metres: ..., 0.075, 0.15, 0.3, 0.6, ...

    A group reaches from its name divided by the root of 2 to its name times that. Zoom levels of web maps are an
    octave apart, so that every level has a group of its own.
    """
    if resolution_m is None:
        return UNKNOWN_RESOLUTION
    octave = round(math.log2(resolution_m / _REFERENCE_M))
    return f"{_REFERENCE_M * 2.0**octave:.4g}"


def _range(resolutions: Iterable[float | None]) -> tuple[float, float] | None:
    """Finest and coarsest of the ground resolutions that are known."""
    metres = [r for r in resolutions if r is not None]
    return (min(metres), max(metres)) if metres else None


def _finest_first(group: str) -> float:
    return math.inf if group == UNKNOWN_RESOLUTION else float(group)
