"""Whether a model says the same of a scene however it is shown it: evidence where there are no labels.

A place has the same buildings when its image is mirrored, turned, made smaller or lit otherwise. Where a model is unsure
its answers to such views differ, so their F1 against the answer to the image as it is falls with the model's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.inference.tta import View
from aftermap.scoring.pixels import PixelScores, Score

Shown = Literal["mirror", "turn", "scale", "bright", "dark", "haze"]
"""`mirror`: left to right; `turn`: a quarter; `scale`: at 0.8 of the size; `bright`: bands times 1.15 to 1.25; `dark`:
bands times 0.75 to 0.85; `haze`: half way to nothing in contrast, one tenth of the range brighter."""

Decided = tuple[np.ndarray, np.ndarray | None]
"""Building 0/1 and damage 1 to 4 (H, W); no damage where a model only finds buildings."""

_GEOMETRY = {"mirror": View(mirrored=True), "turn": View(turns=1), "scale": View(scale=0.8)}
_BANDS = {"bright": (1.25, 1.2, 1.15), "dark": (0.75, 0.8, 0.85)}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a model's answers to several views have in common, over some scenes.

    Attributes:
        building: F1 of the views' building pixels against those of the plain image.
        classes: the same by damage class, on the plain image's buildings; NaN where a class is never told. Empty
            for a model that only finds buildings.
        shares: share of all pixels that the plain image's answer gives to buildings, and to each damage class.
        entropy: mean over the pixels, as a fraction of the largest there can be.
        information: entropy of the mean answer less the mean entropy of the answers, as a fraction of the largest there
            can be: what a pixel's class tells beyond what holds everywhere. 0 for a model that says the same of every
            pixel, and for one that is sure of none. Source: Krause et al. 2010.
        scenes: how many were looked at.
    """

    building: float
    classes: dict[str, float]
    shares: dict[str, float]
    entropy: float
    information: float
    scenes: int


class ViewAgreement:
    """Accumulates scenes for `Agreement`."""

    def __init__(
        self,
        predictor: AnyPredictor,
        decide: Callable[[np.ndarray], Decided],
        shown: tuple[Shown, ...],
    ) -> None:
        """Start with no scene.

        Args:
            predictor: the model.
            decide: building and damage of probabilities (K, H, W).
            shown: the views, beside the image as it is.
        """
        self._predictor, self._decide, self._shown = predictor, decide, shown
        self._score = Score()
        self._pixels = self._entropy = 0.0
        self._shares: dict[str, float] = {}
        self._answers: np.ndarray | None = None  # (K,), summed over the pixels
        self._scenes = 0

    def add(self, images: np.ndarray) -> np.ndarray:
        """Count a scene of raw values (T, C, H, W).

        Returns:
            The probabilities (K, H, W) of the scene as it is.
        """
        plain = predict_scene(self._predictor, images)
        target = self._decide(plain)
        name = str(self._scenes)
        for view in self._shown:
            answer = self._decide(predicted_view(self._predictor, images, view))
            self._score.add(*answer, *_inside(target), event="", scene=name)
        self._scenes += 1
        self._pixels += plain[0].size
        self._entropy += float(_entropy(plain).sum(dtype=np.float64))
        answers = plain.sum(axis=(1, 2), dtype=np.float64)
        self._answers = answers if self._answers is None else self._answers + answers
        for key, pixels in decided_pixels(target, self._predictor.card.classes.names).items():
            self._shares[key] = self._shares.get(key, 0.0) + pixels
        return plain

    def result(self) -> Agreement:
        """The agreement over everything that was added.

        Raises:
            ValueError: no scene was added.
        """
        scores: PixelScores = self._score.result(bootstrap=0)
        damage = len(self._shares) > 1
        absent = scores.absent_classes
        per_class = {
            name: float("nan") if name in absent else value
            for name, value in scores.damage_f1_per_class.items()
        }
        assert self._answers is not None
        mean = (self._answers / self._pixels)[:, None, None]
        entropy = self._entropy / self._pixels
        return Agreement(
            scores.localization_f1,
            per_class if damage else {},
            {name: pixels / self._pixels for name, pixels in self._shares.items()},
            entropy,
            max(0.0, float(_entropy(mean)[0, 0]) - entropy),
            self._scenes,
        )


def predicted_view(predictor: AnyPredictor, images: np.ndarray, view: Shown) -> np.ndarray:
    """Probabilities float32 (K, H, W) of a view of raw values (T, C, H, W), laid over the image again."""
    geometry = _GEOMETRY.get(view)
    if geometry is None:
        return predict_scene(predictor, relit(images, view))
    import torch  # whose way of resizing the published figures have

    shown = geometry.show(torch.from_numpy(np.ascontiguousarray(images))[None], multiple=predictor.multiple)
    answer = predict_scene(predictor, np.ascontiguousarray(shown[0].numpy()))
    size = (images.shape[-2], images.shape[-1])
    return geometry.undo(torch.from_numpy(answer)[None], size)[0].numpy()


def relit(images: np.ndarray, view: Shown) -> np.ndarray:
    """Raw values (T, C, H, W) in another light, of the same type; whole numbers are rounded and cut to their range."""
    values = images.astype(np.float32)
    top = float(np.iinfo(images.dtype).max) if images.dtype.kind in "iu" else float(values.max(initial=0))
    if view == "haze":
        values = 0.5 * values + 0.5 * values.mean(axis=(-2, -1), keepdims=True) + 0.1 * top
    else:
        gains = np.resize(np.array(_BANDS[view], np.float32), images.shape[1])
        values = values * gains[:, None, None]
    values = values.clip(0, top)
    return values.round().astype(images.dtype) if images.dtype.kind in "iu" else values


def decided_pixels(decided: Decided, names: tuple[str, ...]) -> dict[str, int]:
    """Pixels of buildings and, where the model tells damage, of each class `names[1:]` in them."""
    building, damage = decided
    counts = {"building": int(np.count_nonzero(building))}
    if damage is not None:
        inside = damage[building > 0]
        counts |= {name: int(np.count_nonzero(inside == k)) for k, name in enumerate(names) if k}
    return counts


def _inside(decided: Decided) -> Decided:
    """Damage as labels have it: 0 outside buildings."""
    building, damage = decided
    return building, None if damage is None else np.where(building > 0, damage, np.uint8(0))


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy (H, W) of probabilities (K, H, W), 0 to 1."""
    p = np.maximum(probabilities, np.float32(1e-7))
    entropy: np.ndarray = -(p * np.log(p)).sum(axis=0) / p.dtype.type(np.log(len(probabilities)))
    return entropy
