"""The map of one of two dates: destroyed or not from the image after a disaster, or where buildings were before it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import geopandas
import numpy as np
from shapely.geometry.base import BaseGeometry

from aftermap.classes import DESTROYED_OR_NOT, IGNORE, OneDate
from aftermap.errors import InputError
from aftermap.geo.grid import Grid
from aftermap.inference.objects.buildings import Evidence
from aftermap.inference.objects.one_date import (
    DestroyedEvidence,
    DestroyedPredictor,
    check_mode,
    judge_destroyed,
    list_outlines,
)
from aftermap.inference.postprocess import SCALE, Decision
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import Band
from aftermap.products.cog import class_colormap
from aftermap.products.pictures import heat
from aftermap.products.styles import ONE_DATE_STYLE
from aftermap.products.summary import summarise_one_date
from aftermap.products.vectors import ONE_DATE_LAYER
from aftermap.products.view import Picture, View, one_date_view
from aftermap.workflows.mapping.buildings import BuildingTask
from aftermap.workflows.mapping.inputs.dates import Inputs, Reading, open_image
from aftermap.workflows.mapping.objects import ObjectTask
from aftermap.workflows.mapping.result import MapResult
from aftermap.workflows.mapping.run import Progress, run_map, to_rgb
from aftermap.workflows.mapping.settings import MapKeywords, Settings
from aftermap.workflows.mapping.task import Raster, thinned_rows
from aftermap.workflows.mapping.work import Rows


def map_one_date(
    image: Path,
    out: Path,
    *,
    mode: OneDate,
    progress: Progress | None = None,
    **settings: Unpack[MapKeywords],
) -> MapResult:
    """Map damage from the image after a disaster alone, or the buildings of the one before; see `run.run_map`.

    Args:
        image: image, or folder of tiles.
        out: the output folder.
        mode: which of the two it is.
        progress: called as the work goes on.
        settings: see `settings.Settings`; the model's card has to say that it was trained for this.

    Raises:
        InputError: the image, vector files or the model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    settings.setdefault("part_touching", True)
    chosen = Settings(**settings)
    absent = "pre_date" if mode == "post-only" else "post_date"
    if getattr(chosen, absent) is not None:
        raise InputError(
            f"--{absent.replace('_', '-')} is the day of an image that is not given: leave it out"
        )
    kind = _PostOnlyTask if mode == "post-only" else _PreOnlyTask
    return run_map(out, chosen, [image], lambda model: kind(model, image, chosen), progress=progress)


class _PostOnlyTask(ObjectTask):
    """Destroyed or not, from the image after a disaster."""

    name = "post-only"
    mode = "post-only"
    scheme = DESTROYED_OR_NOT.name
    evidence = DestroyedEvidence
    layer = ONE_DATE_LAYER
    style = ONE_DATE_STYLE
    rasters = (
        Raster(
            "destroyed", ("damage",), colours=class_colormap(DESTROYED_OR_NOT), categories=DESTROYED_OR_NOT
        ),
        Raster("probabilities", DESTROYED_OR_NOT.names, scale=1 / SCALE),
    )

    def __init__(self, model: AnyPredictor, image: Path, settings: Settings) -> None:
        self.predictor, self._image, self.settings = DestroyedPredictor(model), image, settings
        card = model.card
        threshold = card.class_thresholds[0] if card.class_thresholds else card.building_threshold
        self._decision = Decision((threshold,) * (len(DESTROYED_OR_NOT) - 1))
        self._destroyed = card.destroyed_threshold

    def open(self, reading: Reading) -> Inputs:
        return open_image(self._image, self.predictor.card, reading, name="post")

    def deciding(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "thresholds": list(self._decision.thresholds),
            "destroyed_threshold": self._destroyed,
        }

    def pixels(self, band: Band) -> dict[str, np.ndarray]:
        seen = band.missing == 0
        classes = np.full(seen.shape, IGNORE, np.uint8)
        stored = np.full((len(DESTROYED_OR_NOT), *seen.shape), IGNORE, np.uint8)
        if len(band.probabilities):
            _, standing, destroyed = band.probabilities
            level = 1 + (destroyed >= self._destroyed * (standing + destroyed)).astype(np.uint8)
            level[~self._decision.classify(band.probabilities)[0]] = 0
            classes[seen] = level[seen]
            scaled = np.rint(np.clip(band.probabilities, 0, 1) * np.float32(SCALE)).astype(np.uint8)
            stored[:, seen] = scaled[:, seen]
        return {"destroyed": classes, "probabilities": stored, "missing": band.missing}

    def strength(self, rows: Rows) -> np.ndarray:
        (classes,) = rows.load("destroyed")
        found = (classes != 0) & (classes != IGNORE)
        strength: np.ndarray = np.where(found, np.uint8(IGNORE) - rows.plane("probabilities", 0), np.uint8(0))
        return strength

    def judge(
        self,
        buildings: geopandas.GeoDataFrame,
        outlines: Sequence[BaseGeometry],
        evidence: Evidence,
        inputs: Inputs,
    ) -> geopandas.GeoDataFrame:
        return judge_destroyed(buildings, outlines, evidence, inputs.grid, threshold=self._destroyed)

    def summarise(self, frame: geopandas.GeoDataFrame, grid: Grid) -> dict[str, Any]:
        return summarise_one_date(frame, grid, mode=self.mode)

    def view(
        self, frame: geopandas.GeoDataFrame, rows: Sequence[Rows], inputs: Inputs, summary: dict[str, Any]
    ) -> View:
        (image,), (valid,) = inputs.overview()
        rgb = to_rgb(image, valid)
        background = thinned_rows(rows, "probabilities", inputs.grid, plane=0)
        building = np.where(background == IGNORE, background, np.uint8(SCALE) - background)
        pictures = (
            Picture("After", rgb, valid),
            Picture("Probability", heat(rgb, building, levels=SCALE), valid),
        )
        return one_date_view(frame, *pictures, inputs.grid, summary)

    def notes(self) -> list[str]:
        """How the model was shown the image, and what its card does not count for."""
        card = self.predictor.card
        notes = [f"{card.name} was shown the image from after as both of its dates, as in training"]
        if card.calibration is not None or card.damage_weights is not None:
            notes.append("decision weights and correction of the card are for two dates and were not used")
        return notes


class _PreOnlyTask(BuildingTask):
    """Where buildings were before a disaster; none is assessed."""

    name = "pre-only"
    layer = ONE_DATE_LAYER
    style = ONE_DATE_STYLE

    def __init__(self, model: AnyPredictor, image: Path, settings: Settings) -> None:
        check_mode(model.card, "pre-only")
        super().__init__(model, image, settings)
        self.mode = "pre-only"

    def open(self, reading: Reading) -> Inputs:
        return open_image(self._image, self.predictor.card, reading, name="pre")

    def deciding(self) -> dict[str, Any]:
        return super().deciding() | {"task": self.name}

    def judge(
        self,
        buildings: geopandas.GeoDataFrame,
        outlines: Sequence[BaseGeometry],
        evidence: Evidence,
        inputs: Inputs,
    ) -> geopandas.GeoDataFrame:
        return list_outlines(buildings, outlines, evidence, inputs.grid)

    def summarise(self, frame: geopandas.GeoDataFrame, grid: Grid) -> dict[str, Any]:
        return summarise_one_date(frame, grid, mode=self.mode)

    def view(
        self, frame: geopandas.GeoDataFrame, rows: Sequence[Rows], inputs: Inputs, summary: dict[str, Any]
    ) -> View:
        (image,), (valid,) = inputs.overview()
        rgb = to_rgb(image, valid)
        probability = heat(rgb, thinned_rows(rows, "probabilities", inputs.grid), levels=SCALE)
        pictures = Picture("Before", rgb, valid), Picture("Probability", probability, valid)
        return one_date_view(frame, *pictures, inputs.grid, summary)
