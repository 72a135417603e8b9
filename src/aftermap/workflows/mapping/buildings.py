"""The map of a single date: an image in, a folder with its buildings out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import geopandas
import numpy as np
from shapely.geometry.base import BaseGeometry

from aftermap.classes import BUILDING, IGNORE
from aftermap.geo.grid import Grid
from aftermap.inference.objects.buildings import Evidence
from aftermap.inference.objects.presence import OneDatePredictor, PresenceEvidence, locate
from aftermap.inference.postprocess import SCALE
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import Band
from aftermap.products.cog import building_colormap, probability_colormap
from aftermap.products.pictures import heat
from aftermap.products.styles import BUILDING_STYLE
from aftermap.products.summary import summarise_buildings
from aftermap.products.vectors import BUILDING_LAYER
from aftermap.products.view import Picture, View, building_view
from aftermap.workflows.mapping.inputs.dates import Inputs, Reading, open_image
from aftermap.workflows.mapping.objects import ObjectTask
from aftermap.workflows.mapping.result import MapResult, TaskName
from aftermap.workflows.mapping.run import Progress, run_map, to_rgb
from aftermap.workflows.mapping.settings import MapKeywords, Settings
from aftermap.workflows.mapping.task import Raster, thinned_rows
from aftermap.workflows.mapping.work import Rows


def map_buildings(
    image: Path, out: Path, *, progress: Progress | None = None, **settings: Unpack[MapKeywords]
) -> MapResult:
    """Map the buildings of a single date; see `run.run_map`.

    Any model tells buildings: one of two dates is shown the image as both. Touching houses are parted by default.

    Args:
        image: image, or folder of tiles.
        out: the output folder.
        progress: called as the work goes on.
        settings: see `settings.Settings`.

    Raises:
        InputError: the image, vector files or the model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    settings.setdefault("part_touching", True)
    chosen = Settings(**settings)
    return run_map(out, chosen, [image], lambda model: BuildingTask(model, image, chosen), progress=progress)


class BuildingTask(ObjectTask):
    """Buildings of a single date."""

    name: TaskName = "buildings"
    scheme = BUILDING.name
    evidence = PresenceEvidence
    layer = BUILDING_LAYER
    style = BUILDING_STYLE
    rasters = (
        Raster("classes", (BUILDING.name,), colours=building_colormap(), categories=BUILDING),
        Raster(
            "building",
            ("p(building)",),
            array="probabilities",
            colours=probability_colormap(SCALE),
            scale=1 / SCALE,
        ),
    )

    def __init__(self, model: AnyPredictor, image: Path, settings: Settings) -> None:
        self.predictor = shown = OneDatePredictor(model)
        self._image, self.settings, self._decision = image, settings, shown.decision
        self.mode = "one image as both of its two dates" if shown.repeats else "one image"

    def open(self, reading: Reading) -> Inputs:
        """The image."""
        return open_image(self._image, self.predictor.card, reading)

    def deciding(self) -> dict[str, Any]:
        """Task and thresholds."""
        return {"task": "buildings", "thresholds": list(self._decision.thresholds)}

    def pixels(self, band: Band) -> dict[str, np.ndarray]:
        """Building or not, and p(building)."""
        seen = band.missing == 0
        classes = np.full(seen.shape, IGNORE, np.uint8)
        stored = np.full((1, *seen.shape), IGNORE, np.uint8)
        if len(band.probabilities):
            classes[seen] = self._decision.classify(band.probabilities)[0][seen]
            building = np.clip(band.probabilities[1], 0, 1)
            stored[0][seen] = np.rint(building * np.float32(SCALE)).astype(np.uint8)[seen]
        return {"classes": classes, "probabilities": stored, "missing": band.missing}

    def strength(self, rows: Rows) -> np.ndarray:
        """1 + 254 p(building) on buildings."""
        classes, probabilities = rows.load("classes", "probabilities")
        strength: np.ndarray = np.where(classes == 1, probabilities[0] + np.uint8(1), np.uint8(0))
        return strength

    def judge(
        self,
        buildings: geopandas.GeoDataFrame,
        outlines: Sequence[BaseGeometry],
        evidence: Evidence,
        inputs: Inputs,
    ) -> geopandas.GeoDataFrame:
        """Where they are."""
        return locate(buildings, outlines, evidence, inputs.grid)

    def summarise(self, frame: geopandas.GeoDataFrame, grid: Grid) -> dict[str, Any]:
        """Counts by grade of confidence."""
        return summarise_buildings(frame, grid, mode=self.mode)

    def view(
        self, frame: geopandas.GeoDataFrame, rows: Sequence[Rows], inputs: Inputs, summary: dict[str, Any]
    ) -> View:
        """The image, and p(building) over it."""
        (image,), (valid,) = inputs.overview()
        rgb = to_rgb(image, valid)
        probability = heat(rgb, thinned_rows(rows, "probabilities", inputs.grid), levels=SCALE)
        return building_view(
            frame,
            Picture("Image", rgb, valid),
            Picture("Probability", probability, valid),
            inputs.grid,
            summary,
        )

    def notes(self) -> list[str]:
        """That a model of two dates saw one image, and what that means."""
        card = self.predictor.card
        if card.dates == 1:
            return []
        return [
            f"{card.name} compares two dates and was shown the same image as both: p(building) is 1 - p(background)"
        ]
