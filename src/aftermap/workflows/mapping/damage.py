"""The main job: two dates in, a folder with a map of damaged buildings out."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import geopandas
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import AlignmentWarning, ModelError
from aftermap.geo.pair import Alignment
from aftermap.inference.buildings import Evidence, assess
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import Band
from aftermap.products.figures.damage_overview import draw_overview
from aftermap.products.page.damage_page import write_map
from aftermap.products.summary import summarise
from aftermap.products.vectors import write_buildings
from aftermap.workflows.mapping.inputs import Inputs, Reading, open_pair
from aftermap.workflows.mapping.layers import damage_strength, gather, store, trace_buildings, write_rasters
from aftermap.workflows.mapping.run import (
    OVERVIEW_PX,
    MapResult,
    Progress,
    Task,
    run_map,
    sign,
    to_rgb,
)
from aftermap.workflows.mapping.settings import MapKeywords, Settings
from aftermap.workflows.mapping.work import Rows, WorkFolder

__all__ = ["MapResult", "Progress", "map_damage"]


def map_damage(
    pre: Path,
    post: Path,
    out: Path,
    *,
    align: Alignment = "auto",
    progress: Progress | None = None,
    **settings: Unpack[MapKeywords],
) -> MapResult:
    """Map the damage to every building between two dates; see `recipes.mapping.run_map`.

    Args:
        pre: image, or folder of tiles, from before.
        post: image, or folder of tiles, from after.
        out: the output folder.
        align: `auto` takes a measured shift between the dates out where that helps.
        progress: called as the work goes on.
        settings: see `recipes.map_settings.Settings`.

    Raises:
        InputError: images, vector files or the model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    chosen = Settings(**settings)
    return run_map(out, chosen, lambda model: _DamageTask(model, pre, post, align, chosen), progress=progress)


class _DamageTask(Task):
    """Damage between two dates."""

    mode = "pre+post"

    def __init__(
        self, model: AnyPredictor, pre: Path, post: Path, align: Alignment, settings: Settings
    ) -> None:
        card = model.card
        if card.dates != 2 or card.scheme != "joint-damage-scale":
            raise ModelError(
                f"model {card.name} tells {', '.join(card.classes.names)} from {card.dates} date(s): mapping damage "
                "needs a model of two dates and the joint damage scale; to map one image, pass --task buildings or "
                "classes"
            )
        self.predictor, self.scheme = model, card.scheme
        self._dates, self._align, self._settings = (pre, post), align, settings
        self._decision = Decision.of(card)

    def open(self, reading: Reading) -> Inputs:
        return open_pair(*self._dates, self.predictor.card, reading, align=self._align)

    def deciding(self) -> dict[str, Any]:
        return {
            "align": self._align,
            "thresholds": list(self._decision.thresholds),
            "minor_dilation": self._decision.minor_dilation,
            "damage_weights": self.predictor.card.damage_weights,
        }

    def store(self, work: WorkFolder, band: Band) -> None:
        store(work, band, self.known.painter if self.known else None, self._decision)

    def write_rasters(self, rows: Sequence[Rows], inputs: Inputs, folder: Path) -> None:
        write_rasters(rows, inputs.grid, folder, self._decision)

    def buildings(self, rows: Sequence[Rows], inputs: Inputs) -> geopandas.GeoDataFrame:
        outlines: Sequence[BaseGeometry]
        if self.known is not None:
            buildings, outlines = self.known.frame, self.known.outlines
            evidence = gather(rows, Evidence(len(buildings)))
        else:
            buildings, outlines, evidence = trace_buildings(
                rows,
                inputs.grid,
                damage_strength,
                Evidence,
                min_area_m2=self._settings.min_area_m2,
                part=self._settings.part_touching,
            )
        misaligned = _is_misaligned(inputs, outlines)
        frame = assess(buildings, outlines, evidence, inputs.grid, misaligned=misaligned)
        return sign(frame, inputs, self.predictor)

    def write_layers(self, frame: geopandas.GeoDataFrame, inputs: Inputs, folder: Path) -> dict[str, Any]:
        write_buildings(frame, folder)
        return summarise(frame, inputs.grid)

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
        (pre, post), valid = inputs.overview(OVERVIEW_PX)
        images = to_rgb(pre, valid[0]), to_rgb(post, valid[1])
        write_map(
            folder / "map.html",
            frame,
            *images,
            inputs.grid,
            summary,
            title=title,
            warnings=warnings,
            model=f"{self.predictor.name} {self.predictor.version}",
            pre_valid=valid[0],
            post_valid=valid[1],
        )
        draw_overview(folder / "overview.png", *images, frame, inputs.grid, title=title, warnings=warnings)


def _is_misaligned(inputs: Inputs, outlines: Sequence[BaseGeometry]) -> bool:
    """Whether the dates still lie further apart than half a typical building."""
    shift = inputs.shift
    if shift is None or not outlines or shift.applied or not shift.patches:
        return False
    distance = math.hypot(shift.dx_px, shift.dy_px)
    typical = float(np.median(np.sqrt(shapely.area(np.array(outlines, dtype=object)))))
    if distance <= typical / 2:
        return False
    warnings.warn(
        f"the dates lie {distance:.1f} px apart, more than half a typical building ({typical:.1f} px), and the shift "
        f"was not removed ({shift.reason}): no building is assessed",
        AlignmentWarning,
        stacklevel=3,
    )
    return True
