"""The main job: two dates in, a folder with a map of damaged buildings out."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import geopandas
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.classes import DAMAGE, IGNORE
from aftermap.errors import AlignmentWarning, ModelError
from aftermap.geo.grid import Grid
from aftermap.geo.pair import Alignment
from aftermap.inference.objects.buildings import Evidence, assess
from aftermap.inference.postprocess import (
    SCALE,
    Decision,
    damage_classes,
    spread_minor_rows,
    to_bytes,
    unweighted,
)
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import Band
from aftermap.products.cog import damage_colormap
from aftermap.products.styles import DAMAGE_STYLE
from aftermap.products.summary import summarise
from aftermap.products.vectors import DAMAGE_LAYER
from aftermap.products.view import Picture, View, damage_view
from aftermap.workflows.mapping.features import keep_features
from aftermap.workflows.mapping.inputs.dates import Inputs, Reading, open_pair
from aftermap.workflows.mapping.objects import ObjectTask
from aftermap.workflows.mapping.result import MapResult
from aftermap.workflows.mapping.run import Progress, run_map, to_rgb
from aftermap.workflows.mapping.settings import MapKeywords, Settings
from aftermap.workflows.mapping.task import Raster
from aftermap.workflows.mapping.work import Rows

_ROWS_AT_ONCE = 32  # of a band, so that copies of it stay small


def map_damage(
    pre: Path,
    post: Path,
    out: Path,
    *,
    align: Alignment = "auto",
    progress: Progress | None = None,
    **settings: Unpack[MapKeywords],
) -> MapResult:
    """Map the damage to every building between two dates; see `run.run_map`.

    Args:
        pre: image, or folder of tiles, from before.
        post: image, or folder of tiles, from after.
        out: the output folder.
        align: `auto` takes a measured shift between the dates out where that helps.
        progress: called as the work goes on.
        settings: see `settings.Settings`.

    Raises:
        InputError: images, vector files or the model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    settings.setdefault("part_touching", True)
    chosen = Settings(**settings)
    return run_map(
        out,
        chosen,
        [pre, post],
        lambda model: _DamageTask(model, pre, post, align, chosen),
        progress=progress,
    )


class _DamageTask(ObjectTask):
    """Damage between two dates."""

    name = "damage"
    mode = "pre+post"
    keeps_features = True
    layer = DAMAGE_LAYER
    style = DAMAGE_STYLE
    rasters = (
        Raster("damage", ("damage",), colours=damage_colormap(), categories=DAMAGE),
        Raster("probabilities", DAMAGE.names, scale=1 / SCALE),
    )

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
        self.predictor, self.scheme, self.settings = model, card.scheme, settings
        self._dates, self._align = (pre, post), align
        self._decision, self._weights = Decision.of(card), model.damage_weights
        self.evidence = partial(Evidence, weights=self._weights)

    def open(self, reading: Reading) -> Inputs:
        return open_pair(*self._dates, self.predictor.card, reading, align=self._align)

    def deciding(self) -> dict[str, Any]:
        return {
            "align": self._align,
            "thresholds": list(self._decision.thresholds),
            "minor_dilation": self._decision.minor_dilation,
            "damage_weights": self._weights,
            "stored": "probabilities of the model",
        }

    def pixels(self, band: Band) -> dict[str, np.ndarray]:
        height, width = band.missing.shape
        damage = np.empty((height, width), np.uint8)
        stored = np.empty((len(DAMAGE), height, width), np.uint8)
        for start in range(0, height, _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            probabilities, missing = band.probabilities[:, part], band.missing[part]
            damage[part] = damage_classes(probabilities, missing, self._decision)
            if self._weights is not None and len(probabilities):
                probabilities = unweighted(probabilities, self._weights)
            stored[:, part] = to_bytes(probabilities, missing)
        return {"damage": damage, "probabilities": stored, "missing": band.missing}

    def finish(self, name: str, bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Minor damage spreads, without the buildings' classes changing by it."""
        return spread_minor_rows(bands, self._decision.minor_dilation) if name == "damage" else iter(bands)

    def strength(self, rows: Rows) -> np.ndarray:
        damage, background = rows.planes(damage=0, probabilities=0)
        strength: np.ndarray = np.uint8(IGNORE) - background
        strength *= damage - np.uint8(1) < IGNORE - 1  # neither 0, which becomes 255, nor IGNORE
        return strength

    def judge(
        self,
        buildings: geopandas.GeoDataFrame,
        outlines: Sequence[BaseGeometry],
        evidence: Evidence,
        inputs: Inputs,
    ) -> geopandas.GeoDataFrame:
        misaligned = _is_misaligned(inputs, outlines)
        calibration = self.predictor.card.calibration
        return assess(
            buildings, outlines, evidence, inputs.grid, misaligned=misaligned, calibration=calibration
        )

    def keep_features(
        self, frame: geopandas.GeoDataFrame, rows: Sequence[Rows], inputs: Inputs, folder: Path
    ) -> None:
        keep_features(frame, rows, inputs, folder)

    def summarise(self, frame: geopandas.GeoDataFrame, grid: Grid) -> dict[str, Any]:
        return summarise(frame, grid)

    def view(
        self, frame: geopandas.GeoDataFrame, rows: Sequence[Rows], inputs: Inputs, summary: dict[str, Any]
    ) -> View:
        images, valid = inputs.overview()
        before, after = (
            Picture(name, to_rgb(image, seen), seen)
            for name, image, seen in zip(("Before", "After"), images, valid, strict=True)
        )
        return damage_view(frame, before, after, inputs.grid, summary)


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
