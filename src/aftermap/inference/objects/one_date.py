"""Damage from the image after the disaster alone: a model of two dates shown it as both, and what it says of buildings.

Only models whose card says that they were trained for it are asked (`one_date`). What one image cannot tell is not told:
the degrees short of destroyed are one class, `not-destroyed`.
"""

from collections.abc import Sequence
from typing import Any

import geopandas
import numpy as np
from shapely.geometry.base import BaseGeometry

from aftermap.artefacts.card import BaseCard
from aftermap.artefacts.folder import card_in
from aftermap.artefacts.installed import FIELD_ONE_DATE, installed_models
from aftermap.classes import DESTROYED_OR_NOT, NOT_ASSESSED, OneDate
from aftermap.errors import ModelError
from aftermap.geo.grid import Grid
from aftermap.inference.objects.buildings import MIN_SEEN, Evidence, gap_reason
from aftermap.inference.objects.presence import locate
from aftermap.inference.postprocess import unweighted
from aftermap.inference.predictor import AnyPredictor

_NOT, _DESTROYED = DESTROYED_OR_NOT.names[1:]


def check_mode(card: BaseCard, mode: OneDate) -> None:
    """Refuse a model that was not trained for maps from one date.

    Raises:
        ModelError: it was not; says what to do instead.
    """
    if mode in card.one_date:
        return
    able = f" (its card has {', '.join(card.one_date)})" if card.one_date else ""
    others = [name for name, folder in installed_models().items() if mode in card_in(folder, name).one_date]
    able_here = f"-m {others[0]}" if others else None
    trained = f"a model whose card says so (-m {FIELD_ONE_DATE} or one trained with sampling.date_dropout)"
    raise ModelError(
        f"model {card.name} was not trained for {mode} maps{able}: pass both images, {able_here or trained}, "
        "or --task buildings for outlines alone"
    )


class DestroyedPredictor(AnyPredictor):
    """Shows the image after a disaster as both dates, as it was done in training, and tells destroyed from not.

    Attributes:
        model: the predictor behind it.
    """

    def __init__(self, model: AnyPredictor) -> None:
        """Take a model.

        Raises:
            ModelError: it was not trained for this.
        """
        check_mode(model.card, "post-only")
        self.model = model
        self.card, self.sha256, self.multiple = model.card, model.sha256, model.multiple

    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Probabilities of DESTROYED_OR_NOT (B, 3, H, W) of images (B, 1, C, H, W), without decision weights."""
        valid = None if valid is None else np.repeat(valid, 2, axis=1)
        found = self.model.predict(np.repeat(images, 2, axis=1), valid)
        if self.model.damage_weights is not None:
            found = np.stack([unweighted(each, self.model.damage_weights) for each in found])
        return np.stack([found[:, 0], found[:, 1:-1].sum(axis=1), found[:, -1]], axis=1)

    def release(self) -> None:
        """As the model behind it."""
        self.model.release()

    @property
    def dates(self) -> int:
        """One."""
        return 1

    @property
    def damage_weights(self) -> None:
        """None: they are taken out, as they were tuned for four levels."""
        return None

    @property
    def execution(self) -> dict[str, Any]:
        """How the model is run."""
        return self.model.execution


class DestroyedEvidence(Evidence):
    """What the pixels of each building say: `levels` sums p(destroyed) / p(building) and p(building)."""

    kinds = 2

    def weigh(self, values: np.ndarray, *, own: bool) -> np.ndarray:
        """Of probabilities (3, n) of DESTROYED_OR_NOT; pixels that are surely none count half destroyed."""
        building = values[1] + values[2]
        share = np.divide(values[2], building, out=np.full_like(building, 0.5), where=building > 0)
        return np.stack([share, 1 - values[0]])


def judge_destroyed(
    buildings: geopandas.GeoDataFrame,
    polygons: Sequence[BaseGeometry],
    evidence: Evidence,
    grid: Grid,
    *,
    threshold: float = 0.5,
) -> geopandas.GeoDataFrame:
    """The table of buildings from the image after the disaster.

    `p_destroyed` is the mean of p(destroyed) / p(building) over the pixels that were seen; from `threshold` on a building
    is `destroyed`, else `not-destroyed`. `confidence` is the probability of the class times `seen`. Where less than
    MIN_SEEN was seen, a building is `not-assessed`, and `reason` says why.

    Args:
        buildings: `building_id` and geometry in the grid's reference system.
        polygons: the same geometries in pixel coordinates.
        evidence: `DestroyedEvidence` of these buildings, in the same order.
        grid: the scene.
        threshold: the card's.
    """
    frame = locate(buildings, polygons, evidence, grid)
    seen = frame["seen"].to_numpy()
    known = (seen >= MIN_SEEN) & frame["p_building"].notna().to_numpy()
    share = np.full(len(frame), np.nan)
    share[known] = np.clip(evidence.levels[known, 0] / evidence.pixels[known, 0], 0, 1)
    destroyed = np.nan_to_num(share) >= threshold
    frame["damage"] = np.where(known, np.where(destroyed, _DESTROYED, _NOT), NOT_ASSESSED)
    frame["p_destroyed"] = share
    frame["confidence"] = np.where(destroyed, share, 1 - share) * seen
    frame["reason"] = _gaps(seen, polygons, evidence, grid)
    frame["mode"] = "post-only"
    return frame


def list_outlines(
    buildings: geopandas.GeoDataFrame, polygons: Sequence[BaseGeometry], evidence: Evidence, grid: Grid
) -> geopandas.GeoDataFrame:
    """The table of buildings from the image before the disaster: where they are, and none of them assessed.

    Arguments as `judge_destroyed`, with `PresenceEvidence`.
    """
    frame = locate(buildings, polygons, evidence, grid)
    frame["damage"] = NOT_ASSESSED
    frame["p_destroyed"] = frame["confidence"] = np.nan
    frame["reason"] = _gaps(frame["seen"].to_numpy(), polygons, evidence, grid, otherwise="no image after")
    frame["mode"] = "pre-only"
    return frame


def _gaps(
    seen: np.ndarray, polygons: Sequence[BaseGeometry], evidence: Evidence, grid: Grid, *, otherwise: str = ""
) -> list[str]:
    """Why too little of each building was seen; `otherwise` where enough was."""
    return [
        otherwise if share >= MIN_SEEN else gap_reason(evidence.pixels[i], polygons[i], grid)
        for i, share in enumerate(seen.tolist())
    ]
