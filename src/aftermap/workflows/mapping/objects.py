"""Maps of buildings, the user's or traced: from finished rows to a table of what their pixels say."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
from shapely.geometry.base import BaseGeometry

from aftermap.geo.grid import Grid
from aftermap.geo.polygons import from_pixels
from aftermap.heap import give_back
from aftermap.inference.objects.buildings import Evidence, trace_rows
from aftermap.inference.objects.painting import Painter
from aftermap.inference.postprocess import Missing
from aftermap.inference.tiling import Band
from aftermap.products.styles import Style, style_layer
from aftermap.products.vectors import LAYER, Layer, normalise, write_buildings, write_file
from aftermap.workflows.mapping.inputs.dates import Inputs
from aftermap.workflows.mapping.settings import Settings
from aftermap.workflows.mapping.task import Task
from aftermap.workflows.mapping.work import Rows

MIN_BUILDING_PX = 20.0
"""The smallest shape where the imagery has no georeference."""

SIMPLIFY_PX = 1.0
SIMPLIFY_M = 0.3
"""How far an outline may move to become regular: the larger of the two."""

PARTING_DEPTH_PX = 3.0
PARTING_DEPTH_M = 0.5
"""How deep the saddle between two touching houses must be: the larger of the two (see `inference.parting`)."""

_TRACED_PX = 2_500_000  # at once, which takes about 33 bytes for each

_EVIDENCE = ("buildings", "levels", "pixels")
"""What rows say of the user's buildings, as they are stored."""


class ObjectTask(Task):
    """A map whose classes belong to buildings.

    Attributes:
        evidence: what is gathered of the pixels of a number of buildings, empty.
        layer: what the table must hold.
        style: how it looks in a GIS.
        settings: what was chosen.
    """

    evidence: Callable[[int], Evidence]
    layer: Layer
    style: Style
    settings: Settings
    _seen: Evidence | None = None

    @abstractmethod
    def pixels(self, band: Band) -> dict[str, np.ndarray]:
        """What is kept of finished pixels: `probabilities` and `missing` among others."""

    @abstractmethod
    def strength(self, rows: Rows) -> np.ndarray:
        """What finished rows say to `trace_rows`: 0 off buildings, 1 + 254 p(building) on them."""

    @abstractmethod
    def judge(
        self,
        buildings: geopandas.GeoDataFrame,
        outlines: Sequence[BaseGeometry],
        evidence: Evidence,
        inputs: Inputs,
    ) -> geopandas.GeoDataFrame:
        """The table of buildings; may warn."""

    @abstractmethod
    def summarise(self, frame: geopandas.GeoDataFrame, grid: Grid) -> dict[str, Any]:
        """What `summary.json` holds."""

    def observe(self, band: Band) -> None:
        """Gather evidence from the exact probabilities: where no building is seen, 8 bits leave nothing to compare."""
        if self.known is None:
            return
        if self._seen is None:
            self._seen = self.evidence(self.known.painter.count)
        height, width = band.missing.shape
        for labels in self.known.painter.paint(band.row, height, col=band.col, width=width):
            self._seen.add(labels, band.probabilities, band.missing)

    def observed(self) -> dict[str, np.ndarray]:
        """The evidence since this was asked for last."""
        seen, self._seen = self._seen, None
        return {} if seen is None else dict(zip(_EVIDENCE, seen.sparse(), strict=True))

    def table(self, rows: Sequence[Rows], inputs: Inputs) -> geopandas.GeoDataFrame:
        """The user's buildings, or those that the model found, with images and model named."""
        if self.known is not None:
            evidence = self.evidence(len(self.known.frame))
            for part in rows:
                evidence.merge(*part.load(*_EVIDENCE))
            frame = self.judge(self.known.frame, self.known.outlines, evidence, inputs)
        else:
            frame = self.judge(*self._trace(rows, inputs.grid), inputs)
        for name, source in inputs.scene.sources.items():
            frame["image" if name == "image" else f"{name}_image"] = source.name
        model = self.predictor
        frame["model"], frame["model_version"] = model.name, model.version
        frame["model_sha256"] = model.sha256
        return frame if self.known is None else self.known.join(frame)

    def write_table(self, frame: geopandas.GeoDataFrame, inputs: Inputs, folder: Path) -> dict[str, Any]:
        """Write the buildings; returns the summary."""
        if self.settings.draft:
            write_file(normalise(frame, self.layer), folder / f"{LAYER}.gpkg", LAYER)
        else:
            write_buildings(frame, folder, self.layer)
            style_layer(folder, "buildings", self.style, list(frame.columns))
        summary = self.summarise(frame, inputs.grid)
        if self.known is not None:
            self.known.write_given(folder)
            outside, left_out = self.known.outside, self.known.left_out
            summary["footprints_outside"] = {"footprints": outside, "left_out": outside if left_out else 0}
        return summary

    def _trace(
        self, rows: Sequence[Rows], grid: Grid
    ) -> tuple[geopandas.GeoDataFrame, list[BaseGeometry], Evidence]:
        """Outline the buildings that the model found, and gather what their pixels say.

        Returns:
            `building_id` and geometry in the grid's reference system, the same in pixel coordinates, and the evidence.
        """
        resolution = grid.resolution_m
        least, tolerance, depth = MIN_BUILDING_PX, SIMPLIFY_PX, PARTING_DEPTH_PX
        if resolution is not None:
            least = max(self.settings.min_area_m2 / resolution**2, 4.0)
            tolerance, depth = (
                max(tolerance, SIMPLIFY_M / resolution),
                max(depth, PARTING_DEPTH_M / resolution),
            )
        pieces = (piece for each in rows for piece in each.pieces(grid.width))
        polygons: list[BaseGeometry] = list(
            trace_rows(
                (band for each in pieces for band in _bands(each.start, self.strength(each))),
                grid,
                min_area_px=least,
                simplify_px=tolerance,
                part_depth_px=depth if self.settings.part_touching else None,
            )
        )
        if not self.settings.draft:
            give_back()  # what tracing took, before as much again is taken
        # rounded, so that buildings in one row are not numbered by the last digit of their place
        polygons.sort(key=lambda polygon: (round(polygon.bounds[1], 6), round(polygon.bounds[0], 6)))
        painter, evidence = Painter(polygons, grid.width), self.evidence(len(polygons))
        for piece in (piece for each in rows for piece in each.pieces(grid.width)):
            stored, missing = piece.load("probabilities", "missing")
            for labels in painter.paint(piece.start, piece.stop - piece.start):
                evidence.add(labels, stored, missing)
        if not self.settings.draft:
            give_back()
        # what nobody could look at has no probability: it stays, and is told as not assessed
        likely = evidence.mean_presence() >= self.predictor.card.object_threshold
        likely |= evidence.pixels[:, Missing.ASSESSED] == 0
        evidence.keep(likely)
        polygons = [polygon for polygon, kept in zip(polygons, likely.tolist(), strict=True) if kept]
        frame = geopandas.GeoDataFrame(
            {"building_id": [str(number) for number in range(1, len(polygons) + 1)]},
            geometry=from_pixels(np.array(polygons, dtype=object), grid),
            crs=grid.crs.to_wkt() if grid.crs is not None else None,
        )
        return frame, polygons, evidence


def _bands(row: int, strength: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows (h, W) from `row` on in bands that are traced at once, each with its first row."""
    height = max(1, _TRACED_PX // strength.shape[1])
    for top in range(0, len(strength), height):
        yield row + top, strength[top : top + height]
