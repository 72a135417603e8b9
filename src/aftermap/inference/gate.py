"""Skipping windows without buildings: a cheap localizer decides which ones the members of an ensemble are shown."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aftermap.artefacts.arrays import as_numpy, float32
from aftermap.artefacts.ensemble_card import Gate
from aftermap.errors import DataError, ModelError
from aftermap.geo.grid import Window
from aftermap.inference.predictor import Predictor
from aftermap.inference.tiling import DEFAULT_HALO_PX, DEFAULT_WINDOW_PX, Axis, padded

if TYPE_CHECKING:
    from aftermap.data.scene import Scene

_DECIMALS = 4
_MARGIN = 1e-6


class WindowGate:
    """Looks at windows first, and counts those that it spares the members.

    A window is empty where fewer than `min_pixels` of its pixels with data at all dates have a p(building) above the
    gate's threshold.

    Attributes:
        seen: windows looked at so far.
        skipped: those of them that were empty.
    """

    def __init__(self, predictor: Predictor, settings: Gate, *, limit: float) -> None:
        """Take a localization model as a gate.

        Args:
            predictor: the model.
            settings: when a window is empty.
            limit: the lowest building threshold of what it guards; empty windows stay below it.
        """
        self.predictor, self.settings = predictor, settings
        self.seen = self.skipped = 0
        self._limit = max(limit - _MARGIN, 0.0)

    def look(self, images: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Which windows of a batch may hold buildings.

        Args:
            images: raw values (B, T, C, H, W), of which it takes the first date.
            valid: bool (B, T, H, W), or None where there is data everywhere.

        Returns:
            bool (B,), and its p(building) float32 (B, H, W).
        """
        building = _building(self.predictor, images, valid)
        seen = building if valid is None else np.where(valid.all(axis=1), building, np.float32(0))
        kept = (seen > self.settings.threshold).sum(axis=(1, 2)) >= self.settings.min_pixels
        self.seen += len(kept)
        self.skipped += int((~kept).sum())
        return kept, building

    def empty(self, building: np.ndarray, classes: int) -> np.ndarray:
        """Class probabilities of windows that no member looked at.

        The gate's p(building), held below the building threshold so that no building appears, is shared out evenly
        among the classes after the background.

        Args:
            building: (B, H, W).
            classes: K, the background included.

        Returns:
            float32 (B, K, H, W); sums to 1 over K.
        """
        held = np.minimum(building, np.float32(self._limit))
        probabilities = np.empty((len(held), classes, *held.shape[1:]), np.float32)
        probabilities[:, 0] = 1 - held
        probabilities[:, 1:] = (held / np.float32(classes - 1))[:, None]
        return probabilities

    def as_dict(self) -> dict[str, Any]:
        """What a report says about it."""
        return {
            "model": self.predictor.name,
            "threshold": self.settings.threshold,
            "min_pixels": self.settings.min_pixels,
            "windows": self.seen,
            "skipped": self.skipped,
        }


@dataclass(frozen=True, slots=True)
class GateChoice:
    """A threshold for a gate, and what it costs and spares on the scenes that it was chosen on.

    Attributes:
        threshold: for `Gate.threshold`.
        lost: share of the labelled building pixels that lie in windows it takes as empty.
        skipped: share of the windows that it takes as empty.
        windows: how many there were.
    """

    threshold: float
    lost: float
    skipped: float
    windows: int


def choose_gate(
    predictor: Predictor,
    scenes: "Iterable[Scene]",
    *,
    lose: float,
    min_pixels: int = Gate.model_fields["min_pixels"].default,
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int = DEFAULT_HALO_PX,
    on_scene: Callable[[], None] | None = None,
) -> GateChoice:
    """The largest threshold of a gate that costs at most a given share of the buildings' pixels.

    It is never above the model's own building threshold: a window in which the model finds a building is not empty,
    and how far above that its probabilities lie says little about other scenes. (A threshold of 0.997, chosen on 27
    windows to cost 0.3 %, cost 5.5 % on 71 others.)

    Scenes are cut into windows as maps are; where windows overlap, a pixel counts in each by its weight there.

    Args:
        predictor: the localization model that is to become the gate.
        scenes: those without labels are passed over.
        lose: share of the labelled building pixels, from 0 to below 1, that may lie in skipped windows.
        min_pixels: of the gate.
        window_px: largest window, as in `predict_rows`.
        halo_px: half the overlap of windows, as in `predict_rows`.
        on_scene: called after every scene.

    Raises:
        DataError: the scenes hold no labelled building.
        ModelError: the gate sees nothing at all in windows that hold more of the buildings than may be lost.
    """
    from aftermap.data.scene import read_images, read_mask

    strengths: list[float] = []
    buildings: list[float] = []
    for scene in scenes:
        if not scene.is_labelled:
            continue
        images = read_images(scene, dates=1)
        truth = read_mask(scene, target="building") == 1
        rows, cols = (
            Axis.plan(length, window_px=window_px, halo_px=halo_px, multiple=predictor.multiple)
            for length in truth.shape
        )
        for i, top in enumerate(rows.starts):
            for j, left in enumerate(cols.starts):
                window = Window(top, left, rows.size, cols.size)
                strength, pixels = _window(predictor, images, truth, window, min_pixels)
                weight = rows.weights[i][: pixels.shape[0], None] * cols.weights[j][: pixels.shape[1]]
                strengths.append(strength)
                buildings.append(float(weight[pixels].sum()))
        if on_scene is not None:
            on_scene()
    if not sum(buildings):
        raise DataError(
            "the scenes hold no labelled building, so no threshold of a gate can be chosen on them"
        )
    highest = predictor.card.building_threshold
    return largest_threshold(np.array(strengths), np.array(buildings), lose=lose, highest=highest)


def largest_threshold(
    strengths: np.ndarray, buildings: np.ndarray, *, lose: float, highest: float = 1.0
) -> GateChoice:
    """The largest threshold, in steps of 0.0001, below which windows hold at most a share of all building pixels.

    Args:
        strengths: p(building) of each window's pixel number `min_pixels`, from the top; a gate skips a window where
            its threshold is not below this.
        buildings: labelled building pixels of each window.
        lose: the share.
        highest: what the threshold never exceeds.

    Raises:
        ModelError: windows of strength 0 hold more than that.
    """
    order = np.argsort(strengths, kind="stable")
    levels, first = np.unique(strengths[order], return_index=True)
    lost = np.add.reduceat(buildings[order], first).cumsum() / buildings.sum()  # with each level skipped
    allowed = int(np.searchsorted(lost, lose + _MARGIN, side="right"))  # levels that may be skipped
    step = 10**_DECIMALS
    # not below the first level that must be kept, hence down to the next whole step
    found = float(np.ceil(levels[allowed] * step) - 1) / step if allowed < len(levels) else 1 - 1 / step
    if found < 0:
        raise ModelError(
            f"the gate sees no building at all in windows that hold {lost[allowed]:.1%} of them, and {lose:.1%} may be "
            "lost: take another model"
        )
    threshold = min(found, highest)
    skipped = strengths <= threshold
    return GateChoice(
        threshold=threshold,
        lost=float(buildings[skipped].sum() / buildings.sum()),
        skipped=float(skipped.mean()),
        windows=len(strengths),
    )


def _window(
    predictor: Predictor, images: np.ndarray, truth: np.ndarray, window: Window, min_pixels: int
) -> tuple[float, np.ndarray]:
    """The strength of a window, and its building pixels as bool (h, w) inside of the scene."""
    rows = slice(window.row, window.row + window.height)
    cols = slice(window.col, window.col + window.width)
    shown = padded(images[:, :, rows, cols], window.height, window.width)
    building = _building(predictor, shown[None], None)[0].ravel()
    strength = float(np.partition(building, -min_pixels)[-min_pixels]) if building.size >= min_pixels else 0.0
    return strength, truth[rows, cols]


def _building(predictor: Predictor, images: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """p(building) float32 (B, H, W) from the first date."""
    channels = predictor.channels(images[:, :1], None if valid is None else valid[:, :1])
    return as_numpy(float32(channels[:, 0]))
