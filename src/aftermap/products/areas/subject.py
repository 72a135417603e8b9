"""What is shown of a map by areas, said once for page and picture: numbers, their steps and colours, the ground."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import geopandas
import numpy as np
import shapely
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.products.lineage import Lineage
from aftermap.products.summary import bounds_lonlat

NONE_COLOUR = "#f4f6f3"
UNKNOWN_COLOUR = "#c9c9c9"
REDS = ("#fff1c2", "#fecc5c", "#fd8d3c", "#f03b20", "#a50f26")
BLUES = ("#dfeaf6", "#b3cfe8", "#75abd6", "#3782bd", "#0a4a90")
GREYS = ("#e6e2ea", "#cbc5d4", "#a79fb5", "#7d7390", "#54496a")
_SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
_FINEST = 4000
"""Parts of a view's side that are drawn apart."""

_AROUND = 0.35
"""How far a view reaches beyond the map, in sides of the map, where areas do."""


@dataclass(frozen=True)
class Step:
    """A step of colours: values above the step before, up to this one.

    Attributes:
        most: the largest value.
        colour: `#rrggbb`.
        label: to be read.
    """

    most: float
    colour: str
    label: str


@dataclass(frozen=True)
class Metric:
    """A column that areas are coloured by.

    Attributes:
        column: of the table.
        label: to be read.
        unit: after a number; `%` for shares of 0 to 1.
        steps: from low to high.
        unknown: what it means where there is no number.
    """

    column: str
    label: str
    unit: str
    steps: tuple[Step, ...]
    unknown: str

    def step_of(self, values: np.ndarray) -> np.ndarray:
        """Index of the step of each value, int (n,); the number of steps where there is none."""
        limits = np.array([step.most for step in self.steps])
        found = np.minimum(np.searchsorted(limits, values, side="left"), len(limits) - 1)
        return np.where(np.isfinite(values), found, len(limits))


@dataclass(frozen=True)
class Subject:
    """A map by areas.

    Attributes:
        name: of the files.
        title: what the areas are.
        heading: what map it is.
        frame: the table.
        metrics: the columns to colour by, the first of them first.
        facts: lines of small print: scale, images, model, limits.
        bounds: west, south, east, north of the mapped ground; see `summary.bounds_lonlat`.
    """

    name: str
    title: str
    heading: str
    frame: geopandas.GeoDataFrame
    metrics: tuple[Metric, ...]
    facts: tuple[str, ...]
    bounds: tuple[float, float, float, float]

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        frame: geopandas.GeoDataFrame,
        grid: Grid,
        lineage: Lineage,
        heading: str,
        rasters: Mapping[str, str],
        *,
        metrics: Sequence[Metric] | None = None,
    ) -> "Subject":
        """Of a table of `workflows.areas`.

        Args:
            name: of the files.
            title: what the areas are.
            frame: the table.
            grid: that was mapped, with a reference system.
            lineage: of the map.
            heading: what map it is.
            rasters: names of files by the columns that hold their sums.
            metrics: columns to colour by, in place of those of a table by areas.
        """
        chosen = metrics or [
            *_harm(frame),
            _amounts(frame, "buildings", "Buildings", "", BLUES),
            *(
                [_amounts(frame, "not_assessed", "Buildings not assessable", "", GREYS)]
                if worst_of(frame)
                else []
            ),
            *(
                [_amounts(frame, "not_surveyed", "Buildings not surveyed", "", GREYS)]
                if frame["not_surveyed"].any()
                else []
            ),
            Metric("surveyed_share", "Surveyed share of the ground", "%", _shares(BLUES), "not known"),
            *(
                _amounts(
                    frame,
                    f"{kind}_estimate",
                    f"{kind.capitalize()} buildings, estimated from the sample",
                    "",
                    REDS,
                )
                for kind in ("damaged", "destroyed")
                if f"{kind}_estimate" in frame.columns
            ),
            *(_amounts(frame, column, f"{file}, sum", "", BLUES) for column, file in rasters.items()),
        ]
        bounds = bounds_lonlat(grid)
        assert bounds is not None
        model = f" Model: {lineage.model} ({lineage.licence or 'licence not told'})." if lineage.model else ""
        made = f" Map made on {lineage.created[:10]}." if lineage.created else ""
        facts = (
            _scale(frame),
            f"{_images(lineage)}{model}{made}",
            "Rapid assessment from images, not validated in the field. A building counts in the area that holds a point "
            "inside its outline.",
        )
        west, south, east, north = bounds
        return cls(name, title, heading, frame, tuple(chosen), facts, (west, south, east, north))

    def drawn(self) -> tuple[np.ndarray, tuple[float, float, float, float], np.ndarray]:
        """The ground as it is drawn: metres east and north of the map's middle, in equal areas.

        Returns:
            Outlines (n,), no finer than can be seen, None where an area has none there; the view as left, bottom, right,
            top; the outline of the mapped ground, (5, 2).
        """
        west, south, east, north = self.bounds
        east += 360 * (east < west)
        centre = (west + east) / 2
        flat = CRS.from_proj4(
            f"+proj=laea +lat_0={(south + north) / 2} +lon_0={centre} +datum=WGS84 +units=m +no_defs"
        )
        with transforming():
            there = Transformer.from_crs(CRS(self.frame.crs), flat, always_xy=True)
            degrees = Transformer.from_crs(CRS.from_epsg(4326), flat, always_xy=True)
        shapes = self.frame.geometry.to_numpy().copy()
        known = np.flatnonzero(~shapely.is_missing(shapes))
        for row in known.tolist():
            left, bottom, right, top = shapes[row].bounds
            fine = shapely.segmentize(shapes[row], max(right - left, top - bottom, 1e-9) / 12)
            shapes[row] = shapely.transform(fine, there.transform, interleaved=False)
        corners = np.array([(west, south), (east, south), (east, north), (west, north), (west, south)])
        outline = np.column_stack(degrees.transform(*corners.T))
        low, high = outline.min(axis=0), outline.max(axis=0)
        margin = _AROUND * float((high - low).max())
        low, high = low - margin, high + margin
        if len(known):
            all_low, all_high = np.array(shapely.total_bounds(shapes[known])).reshape(2, 2)
            if np.isfinite([all_low, all_high]).all():
                low, high = np.maximum(low, all_low), np.minimum(high, all_high)
        edge = 0.02 * float((high - low).max())
        view = (*(low - edge).tolist(), *(high + edge).tolist())
        for row in known.tolist():
            shapes[row] = _simpler(shapes[row], view)
        return shapes, view, outline


def worst_of(frame: geopandas.GeoDataFrame) -> str | None:
    """The column of what is counted as bad: damaged, destroyed where nothing else was told, or None without damage."""
    return next((name for name in ("damaged", "destroyed") if name in frame.columns), None)


def _harm(frame: geopandas.GeoDataFrame) -> list[Metric]:
    """The columns of damage, as far as the map tells any."""
    worst = worst_of(frame)
    if worst is None:
        return []
    word = worst.capitalize()
    found = [
        share_metric(f"{worst}_share", f"{word}, share of assessed buildings", "no building assessed"),
        _amounts(frame, worst, f"{word} buildings", "", REDS),
    ]
    if worst == "damaged" and "destroyed" in frame.columns:
        found.append(_amounts(frame, "destroyed", "Destroyed buildings", "", REDS))
    return [*found, _amounts(frame, f"{worst}_m2", f"{word} built area", "m²", REDS)]


def _scale(frame: geopandas.GeoDataFrame) -> str:
    worst = worst_of(frame)
    if worst is None:
        return "Buildings alone, from the image before: no damage is told."
    if worst == "destroyed":
        return f"Scale of damage: {DESTROYED_OR_NOT.name}, from the image after alone; lesser damage is not told."
    return f"Scale of damage: {DAMAGE.name}; damaged is minor-damage and worse."


def _images(lineage: Lineage) -> str:
    before, after = (day or "date not known" for day in (lineage.before, lineage.after))
    if lineage.mode == "post-only":
        return f"Image: after {after}."
    return (
        f"Image: before {before}."
        if lineage.mode == "pre-only"
        else f"Images: before {before}, after {after}."
    )


def _simpler(shape: BaseGeometry, view: tuple[float, float, float, float]) -> BaseGeometry | None:
    """The part of an outline around the view, with as many corners as can be told apart."""
    left, bottom, right, top = view
    size = max(right - left, top - bottom)
    try:
        near = shapely.clip_by_rect(shape, left - size, bottom - size, right + size, top + size)
        fewer = shapely.simplify(near, size / _FINEST)
    except shapely.errors.GEOSException:  # what crosses itself once it is flat
        return shape
    parts = [part for part in shapely.get_parts(fewer) if part.geom_type == "Polygon"]
    return None if not parts else parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def share_metric(column: str, label: str, unknown: str) -> Metric:
    """Shares of damage from 0 to 1 in reds."""
    return Metric(column, label, "%", _shares(REDS), unknown)


def _shares(colours: Sequence[str]) -> tuple[Step, ...]:
    steps = [Step(0.0, NONE_COLOUR, "none")]
    before = 0
    for most, colour in zip(_SHARES, colours, strict=True):
        steps.append(
            Step(most, colour, f"{before} to {100 * most:.0f} %" if before else f"up to {100 * most:.0f} %")
        )
        before = round(100 * most)
    return tuple(steps)


def _amounts(
    frame: geopandas.GeoDataFrame, column: str, label: str, unit: str, colours: Sequence[str]
) -> Metric:
    """Steps that hold about as many areas each, up to round numbers."""
    values = frame.loc[~frame.geometry.isna().to_numpy(), column].to_numpy(float)
    values = values[np.isfinite(values) & (values > 0)]
    steps = [Step(0.0, NONE_COLOUR, "0")]
    if len(values):
        few = np.unique(values)
        cuts = few if len(few) <= len(colours) else np.quantile(values, (0.2, 0.4, 0.6, 0.8, 1.0))
        limits = sorted({_round_up(value) for value in cuts.tolist()})
        picked = [colours[round(place)] for place in np.linspace(0, len(colours) - 1, len(limits))]
        before = "0" if column.endswith("m2") else None
        for most, colour in zip(limits, picked if len(limits) > 1 else colours[-2:], strict=False):
            text = f"{most:,.10g}"
            steps.append(
                Step(most, colour, f"up to {text}" if before in (None, "0") else f"over {before} to {text}")
            )
            before = text
    return Metric(column, label, unit, tuple(steps), "not known")


def _round_up(value: float) -> float:
    """The next number of two digits, or whole number below ten."""
    if value <= 10:
        return float(math.ceil(value))
    size = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(round(value / size, 6)) * size
