"""Buildings of a single date: a model of one date or two shown it, and what its pixels say of each building."""

from collections.abc import Sequence
from typing import Any

import geopandas
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.artefacts.card import BaseCard
from aftermap.errors import ModelError
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import areas_m2
from aftermap.inference.objects.buildings import MIN_SEEN, Evidence, seen_share
from aftermap.inference.postprocess import Decision, Missing
from aftermap.inference.predictor import AnyPredictor

BUILDING_NAMES = ("building", "buildings")
"""What a legend may call its class of buildings, whatever the case."""


class OneDatePredictor(AnyPredictor):
    """Shows one date to any model and tells only buildings and background.

    A model of two dates is shown the same image as both: nothing has changed between them, and what it takes for a
    building of any class is one. Of a model with a legend only the class called building counts.

    Attributes:
        model: the predictor behind it.
        repeats: whether each image is shown twice.

    Raises:
        ModelError: the model has a legend without buildings.
    """

    def __init__(self, model: AnyPredictor) -> None:
        self.model = model
        self._building = _building_class(model.card)
        self.card, self.sha256, self.multiple = model.card, model.sha256, model.multiple
        self.repeats = model.dates == 2

    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Probabilities of background and building (B, 2, H, W) of images (B, 1, C, H, W)."""
        if self.repeats:
            images = np.repeat(images, 2, axis=1)
            valid = None if valid is None else np.repeat(valid, 2, axis=1)
        probabilities = self.model.predict_lent(images, valid)  # copied below
        if self._building is not None:
            building = probabilities[:, self._building : self._building + 1]
            return np.concatenate([1 - building, building], axis=1)
        background = probabilities[:, :1]
        return np.concatenate([background, 1 - background], axis=1)

    def release(self) -> None:
        """As the model behind it."""
        self.model.release()

    @property
    def dates(self) -> int:
        """One."""
        return 1

    @property
    def execution(self) -> dict[str, Any]:
        """How the model is run."""
        return self.model.execution

    @property
    def decision(self) -> Decision:
        """A pixel is a building above the card's threshold, of no damage where it has one for each class."""
        card = self.card
        return Decision((card.class_thresholds[0] if card.class_thresholds else card.building_threshold,))


def _building_class(card: BaseCard) -> int | None:
    """Channel of the class called building in a legend; None for the schemes, whose background says where none is."""
    if card.legend is None:
        return None
    for index, name in enumerate(card.classes.names):
        if name.lower() in BUILDING_NAMES:
            return index
    raise ModelError(
        f"{card.name} tells {', '.join(card.classes.names)}, and none of them is called building: pass --task classes"
    )


class PresenceEvidence(Evidence):
    """What the pixels of each building say of its presence: `levels` sums p(building)."""

    kinds = 1

    @staticmethod
    def chosen(probabilities: np.ndarray) -> np.ndarray:
        """The building's class, which is the last one or the only one stored."""
        return probabilities[-1:]

    def weigh(self, values: np.ndarray, *, own: bool) -> np.ndarray:
        """Probabilities as they are."""
        return values


def locate(
    buildings: geopandas.GeoDataFrame,
    polygons: Sequence[BaseGeometry],
    evidence: Evidence,
    grid: Grid,
) -> geopandas.GeoDataFrame:
    """The table of buildings of a single date.

    `p_building` is the mean of p(building) over the pixels within the outline that were seen, `seen` the share of the
    outline's area that was, and `confidence` their product, so that what was not looked at lowers it. Where less than
    MIN_SEEN was seen, both are missing.

    Args:
        buildings: `building_id` and geometry in the grid's reference system.
        polygons: the same geometries in pixel coordinates.
        evidence: of these buildings, in the same order, with p(building) as the last of its `levels`.
        grid: the scene.
    """
    count = len(polygons)
    seen = seen_share(polygons, evidence, grid)
    pixels = evidence.pixels[:, Missing.ASSESSED]
    known = (seen >= MIN_SEEN) & (pixels > 0)
    mean = np.full(count, np.nan)
    mean[known] = np.clip(evidence.levels[known, -1] / pixels[known], 0, 1)
    lon, lat = np.full(count, np.nan), np.full(count, np.nan)
    if grid.is_georeferenced and count:
        centroids = shapely.centroid(np.array(polygons, dtype=object))
        lon, lat = grid.lonlat(shapely.get_x(centroids), shapely.get_y(centroids))
    columns = {
        "building_id": buildings["building_id"].astype(str).to_list(),
        "p_building": mean,
        "confidence": mean * seen,
        "area_m2": areas_m2(buildings.geometry.to_numpy(), grid.crs),
        "lon": lon,
        "lat": lat,
        "seen": seen,
    }
    return geopandas.GeoDataFrame(columns, geometry=buildings.geometry.to_numpy(), crs=grid.crs)
