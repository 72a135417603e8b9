"""The map of a single date: an image in, a folder with its buildings out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import geopandas
from shapely.geometry.base import BaseGeometry

from aftermap.classes import BUILDING
from aftermap.inference.postprocess import SCALE
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.presence import OneDatePredictor, PresenceEvidence, locate
from aftermap.inference.tiling import Band
from aftermap.products.figures.damage_overview import draw_building_overview
from aftermap.products.page.damage_page import write_building_map
from aftermap.products.page.overview import heat
from aftermap.products.summary import summarise_buildings
from aftermap.products.vectors import BUILDING_LAYER, write_buildings
from aftermap.workflows.mapping.building_layers import (
    presence_strength,
    store_presence,
    thinned_probability,
    write_presence_rasters,
)
from aftermap.workflows.mapping.inputs import Inputs, Reading, open_image
from aftermap.workflows.mapping.layers import gather, trace_buildings
from aftermap.workflows.mapping.run import OVERVIEW_PX, MapResult, Progress, Task, run_map, sign, to_rgb
from aftermap.workflows.mapping.settings import MapKeywords, Settings
from aftermap.workflows.mapping.work import Rows, WorkFolder


def map_buildings(
    image: Path, out: Path, *, progress: Progress | None = None, **settings: Unpack[MapKeywords]
) -> MapResult:
    """Map the buildings of a single date; see `recipes.mapping.run_map`.

    Any model tells buildings: one of two dates is shown the image as both. Touching houses are parted by default.

    Args:
        image: image, or folder of tiles.
        out: the output folder.
        progress: called as the work goes on.
        settings: see `recipes.map_settings.Settings`.

    Raises:
        InputError: the image, vector files or the model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    settings.setdefault("part_touching", True)
    chosen = Settings(**settings)
    return run_map(out, chosen, lambda model: _BuildingTask(model, image, chosen), progress=progress)


class _BuildingTask(Task):
    """Buildings of a single date."""

    scheme = BUILDING.name

    def __init__(self, model: AnyPredictor, image: Path, settings: Settings) -> None:
        self.predictor = shown = OneDatePredictor(model)
        self._image, self._settings, self._decision = image, settings, shown.decision
        self.mode = "one image as both of its two dates" if shown.repeats else "one image"

    def open(self, reading: Reading) -> Inputs:
        return open_image(self._image, self.predictor.card, reading)

    def deciding(self) -> dict[str, Any]:
        return {"task": "buildings", "thresholds": list(self._decision.thresholds)}

    def store(self, work: WorkFolder, band: Band) -> None:
        store_presence(work, band, self.known.painter if self.known else None, self._decision)

    def write_rasters(self, rows: Sequence[Rows], inputs: Inputs, folder: Path) -> None:
        write_presence_rasters(rows, inputs.grid, folder)

    def buildings(self, rows: Sequence[Rows], inputs: Inputs) -> geopandas.GeoDataFrame:
        outlines: Sequence[BaseGeometry]
        if self.known is not None:
            buildings, outlines = self.known.frame, self.known.outlines
            evidence = gather(rows, PresenceEvidence(len(buildings)))
        else:
            buildings, outlines, evidence = trace_buildings(
                rows,
                inputs.grid,
                presence_strength,
                PresenceEvidence,
                min_area_m2=self._settings.min_area_m2,
                part=self._settings.part_touching,
            )
        return sign(locate(buildings, outlines, evidence, inputs.grid), inputs, self.predictor)

    def write_layers(self, frame: geopandas.GeoDataFrame, inputs: Inputs, folder: Path) -> dict[str, Any]:
        write_buildings(frame, folder, BUILDING_LAYER)
        return summarise_buildings(frame, inputs.grid, mode=self.mode)

    def write_views(
        self,
        frame: geopandas.GeoDataFrame,
        rows: Sequence[Rows],
        inputs: Inputs,
        summary: dict[str, Any],
        folder: Path,
        *,
        title: str,
        warnings: Sequence[str],
    ) -> None:
        (image,), (valid,) = inputs.overview(OVERVIEW_PX)
        rgb = to_rgb(image, valid)
        probability = heat(rgb, thinned_probability(rows, inputs.grid, OVERVIEW_PX), levels=SCALE)
        write_building_map(
            folder / "map.html",
            frame,
            rgb,
            probability,
            inputs.grid,
            summary,
            title=title,
            warnings=warnings,
            model=f"{self.predictor.name} {self.predictor.version}",
            valid=valid,
        )
        draw_building_overview(
            folder / "overview.png", rgb, probability, frame, inputs.grid, title=title, warnings=warnings
        )

    def notes(self) -> list[str]:
        """That a model of two dates saw one image, and what that means."""
        card = self.predictor.card
        if card.dates == 1:
            return []
        return [
            f"{card.name} compares two dates and was shown the same image as both: p(building) is 1 - p(background)"
        ]
