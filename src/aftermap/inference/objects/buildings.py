"""Buildings: traced from rows of a mask as they come, and judged by the probabilities of their pixels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import geopandas
import numpy as np
import shapely
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from aftermap.artefacts.card import Calibration
from aftermap.classes import DAMAGE, NOT_ASSESSED
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import Sheet, areas_m2, trace_labels
from aftermap.inference.objects.parting import Components, part_shapes, root_of
from aftermap.inference.postprocess import REASONS, Missing, from_bytes

MIN_SEEN = 0.5
"""A building is assessed where at least this share of its pixels was seen at both dates."""

MAX_BUILDING_ROWS = 4096
"""A traced shape higher than this is cut, so that one endless false building cannot fill the memory."""

MODE = "pre+post"
_LEVELS = len(DAMAGE) - 1
_SHEET_PX = 1 << 20
_PIXELS_AT_ONCE = 1 << 15  # of a band, so that what is computed of them stays in the cache


def trace_rows(
    bands: Iterable[tuple[int, np.ndarray]],
    grid: Grid,
    *,
    min_area_px: float,
    simplify_px: float,
    part_depth_px: float | None = None,
) -> Iterator[Polygon]:
    """Trace the buildings of a mask that comes in bands of rows.

    A building that a seam between two bands cuts comes out whole, as if the mask had been traced in one piece
    (up to MAX_BUILDING_ROWS).

    Args:
        bands: (first row, (h, W)), from top to bottom without gaps; not 0 on buildings, and 1 + 254 p(building) there
            where they are to be parted.
        grid: the whole scene.
        min_area_px: smaller shapes are dropped.
        simplify_px: tolerance of the regularisation.
        part_depth_px: tell touching houses apart where p(building) and width drop so far between them, see
            `inference.parting`; None leaves them one.

    Yields:
        Polygons in pixel coordinates of the scene.
    """

    def polygons(values: np.ndarray, shapes: Components, sheet: Sheet) -> list[Polygon]:
        least = {"min_area_px": min_area_px, "simplify_px": simplify_px}
        if part_depth_px is None:
            labels, areas = shapes.labels, np.where(shapes.chosen, shapes.areas, 0)
        else:
            labels, areas = part_shapes(
                values, min_area_px=min_area_px, depth_px=part_depth_px, shapes=shapes
            )
        return trace_labels(labels, grid, **least, sheet=sheet, areas=areas)

    def apart(finished: Sequence[_Shape]) -> Iterator[Polygon]:
        """Trace shapes side by side, which takes as long as one of them."""
        pieces = [shape.assembled() for shape in finished]
        for some in _side_by_side([values.shape for values, _, _ in pieces]):
            ends = np.cumsum([pieces[i][0].shape[1] + 1 for i in some])
            starts = np.concatenate([[0], ends[:-1]])
            values = np.zeros(
                (max(pieces[i][0].shape[0] for i in some), int(ends[-1])), pieces[some[0]][0].dtype
            )
            for i, start in zip(some, starts.tolist(), strict=True):
                height, width = pieces[i][0].shape
                values[:height, start : start + width] = pieces[i][0]
            sheet = Sheet(starts, np.array([(pieces[i][2], pieces[i][1]) for i in some]))
            yield from polygons(values, Components.of((values != 0).astype(np.uint8)), sheet)

    open_shapes: list[_Shape] = []
    above = np.zeros(grid.width, np.int32)  # index + 1 in `open_shapes` of each pixel in the last row seen
    for row, values in bands:
        last = row + values.shape[0] >= grid.height
        mask = (values != 0).astype(np.uint8)
        found = Components.of(mask)
        labels = found.labels
        cut = np.zeros(len(found.areas), bool)
        cut[labels[0]] = row > 0
        if not last:
            cut[labels[-1]] = True
        cut[0] = False
        whole = replace(found, chosen=found.chosen & ~cut)
        yield from polygons(values, whole, Sheet(np.zeros(1, int), np.array([(0, row)])))

        shapes = list(open_shapes)
        index_of = {0: 0}
        for label in np.flatnonzero(cut).tolist():
            left, up, width, height = found.boxes[label].tolist()
            place = slice(up, up + height), slice(left, left + width)
            shapes.append(_Shape([(row + up, left, np.where(labels[place] == label, values[place], 0))]))
            index_of[label] = len(shapes)
        owner = list(range(len(shapes) + 1))
        below = _renumber(labels[0], index_of)
        for upper, lower in np.unique(
            np.stack([above, below])[:, (above > 0) & (below > 0)], axis=1
        ).T.tolist():
            a, b = root_of(owner, upper), root_of(owner, lower)
            owner[max(a, b)] = min(a, b)
        merged: dict[int, _Shape] = {}
        for number, shape in enumerate(shapes, start=1):
            merged.setdefault(root_of(owner, number), _Shape()).pieces.extend(shape.pieces)

        above_numbers = _renumber(labels[-1], index_of)
        alive = {root_of(owner, n) for n in np.unique(above_numbers).tolist() if n} if not last else set()
        open_shapes, position = [], {0: 0}
        finished: list[_Shape] = []
        for number, shape in merged.items():
            if number in alive and row + values.shape[0] - shape.top < MAX_BUILDING_ROWS:
                open_shapes.append(shape)
                position[number] = len(open_shapes)
            else:
                finished.append(shape)
        yield from apart(finished)
        numbers, which = np.unique(above_numbers, return_inverse=True)
        above = np.array([position.get(root_of(owner, n), 0) for n in numbers.tolist()], np.int32)[which]


@dataclass
class _Shape:
    """A connected shape that is not finished: pieces (row, col, values) from the bands it crosses."""

    pieces: list[tuple[int, int, np.ndarray]] = field(default_factory=list)

    @property
    def top(self) -> int:
        return min(row for row, _, _ in self.pieces)

    def assembled(self) -> tuple[np.ndarray, int, int]:
        """Its values, with the row and column of their upper left pixel."""
        top, left = self.top, min(col for _, col, _ in self.pieces)
        bottom = max(row + values.shape[0] for row, _, values in self.pieces)
        right = max(col + values.shape[1] for _, col, values in self.pieces)
        whole = np.zeros((bottom - top, right - left), self.pieces[0][2].dtype)
        for row, col, values in self.pieces:
            height, width = values.shape
            part = whole[row - top : row - top + height, col - left : col - left + width]
            np.maximum(part, values, out=part)
        return whole, top, left


def _side_by_side(shapes: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Indices of (height, width) in groups that fill a sheet of bounded size each."""
    some: list[int] = []
    height = width = 0
    for i, (high, wide) in enumerate(shapes):
        height, width = max(height, high), width + wide + 1
        if some and height * width > _SHEET_PX:
            yield some
            some, height, width = [], high, wide + 1
        some.append(i)
    if some:
        yield some


def _renumber(labels: np.ndarray, index_of: dict[int, int]) -> np.ndarray:
    """Labels of one row as indices of shapes."""
    values, inverse = np.unique(labels, return_inverse=True)
    return np.array([index_of.get(v, 0) for v in values.tolist()], np.int32)[inverse.ravel()]


class Evidence:
    """What the pixels of each building say, summed over bands.

    The class is decided by probabilities with the decision weights in them, see `postprocess.unweighted`; what is
    reported is the model's own.

    Attributes:
        levels: float64 (n, 9), sums over assessed pixels: p(level) / p(building) of the decision, the same of the model,
            and p(building).
        pixels: int64 (n, number of `Missing` codes), pixels by the reason why they are not assessed (0: they
            are).
    """

    kinds = 2 * _LEVELS + 1

    def __init__(self, count: int, weights: Sequence[float] | None = None) -> None:
        """Nothing seen yet of `count` buildings; `weights` are the factors of the levels in the decision."""
        self.levels = np.zeros((count, self.kinds))
        self.pixels = np.zeros((count, len(Missing)), np.int64)
        self.weights = None if weights is None else np.asarray(weights, np.float64)

    def add(self, labels: np.ndarray, probabilities: np.ndarray, missing: np.ndarray) -> None:
        """Add a band.

        Args:
            labels: building index + 1, or 0, (h, W).
            probabilities: float32 (5, h, W) as the model decides by them, or uint8 as `to_bytes` stores its own.
            missing: `Missing` codes (h, W).
        """
        rows = max(1, _PIXELS_AT_ONCE // max(1, labels.shape[1]))
        for top in range(0, len(labels), rows):
            part = slice(top, top + rows)
            self._add(labels[part], probabilities[:, part], missing[part])

    def _add(self, labels: np.ndarray, probabilities: np.ndarray, missing: np.ndarray) -> None:
        pixel = np.flatnonzero(labels)
        if pixel.size == 0:
            return
        building, code = labels.reshape(-1)[pixel].astype(np.int64), missing.reshape(-1)[pixel]
        first, codes = int(building.min()), len(Missing)
        building -= first
        count = int(building.max()) + 1
        some = slice(first - 1, first - 1 + count)
        gaps = code.any()
        if gaps:
            both = np.bincount(building * codes + code, minlength=count * codes)
            self.pixels[some] += both.reshape(count, codes)
        else:
            self.pixels[some, Missing.ASSESSED] += np.bincount(building, minlength=count)
        if probabilities.shape[0] == 0:
            return
        if gaps:
            seen = code == Missing.ASSESSED
            building, pixel = building[seen], pixel[seen]
        values = np.stack([band.reshape(-1)[pixel] for band in self.chosen(probabilities)])
        own = values.dtype == np.uint8
        if own:
            values = from_bytes(values)
        for level, weights in enumerate(self.weigh(values.astype(np.float64), own=own)):
            self.levels[some, level] += np.bincount(building, weights=weights, minlength=count)

    @staticmethod
    def chosen(probabilities: np.ndarray) -> np.ndarray:
        """The classes that count, of all."""
        return probabilities

    def weigh(self, values: np.ndarray, *, own: bool) -> np.ndarray:
        """What each pixel adds, (kinds, n), of the probabilities (K, n) of the classes that count.

        Args:
            values: the probabilities.
            own: they are the model's, else the decision weights are in them.
        """
        present = 1 - values[:1]
        shares = _shares(values[1:])
        if self.weights is None:
            return np.concatenate([shares, shares, present])
        # what `unweighted` does beside dividing by the weights cancels out in shares
        known = self.weights > 0
        factors = self.weights if own else np.divide(1, self.weights, out=np.zeros(_LEVELS), where=known)
        others = _shares(values[1:] * factors[:, None])
        return np.concatenate([others, shares, present] if own else [shares, others, present])

    def merge(self, buildings: np.ndarray, levels: np.ndarray, pixels: np.ndarray) -> None:
        """Add what `sparse` gave for another band."""
        self.levels[buildings] += levels
        self.pixels[buildings] += pixels

    def mean_presence(self) -> np.ndarray:
        """Mean of p(building) over the assessed pixels of each building, (n,); 0 where there is none."""
        pixels = self.pixels[:, Missing.ASSESSED]
        mean: np.ndarray = self.levels[:, -1] / np.maximum(pixels, 1)
        return mean

    def keep(self, chosen: np.ndarray) -> None:
        """Leave the other buildings out; bool (n,)."""
        self.levels, self.pixels = self.levels[chosen], self.pixels[chosen]

    def sparse(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of the buildings that have pixels, with their rows of `levels` and `pixels`."""
        buildings = np.flatnonzero(self.pixels.sum(axis=1))
        return buildings, self.levels[buildings], self.pixels[buildings]


def _shares(levels: np.ndarray) -> np.ndarray:
    total = levels.sum(axis=0)
    nothing = total <= 0
    if not nothing.any():
        whole: np.ndarray = levels / total
        return whole
    shares: np.ndarray = levels / np.where(nothing, 1, total)
    shares[:, nothing] = 1 / _LEVELS
    return shares


def assess(
    buildings: geopandas.GeoDataFrame,
    polygons: Sequence[BaseGeometry],
    evidence: Evidence,
    grid: Grid,
    *,
    misaligned: bool = False,
    calibration: Calibration | None = None,
) -> geopandas.GeoDataFrame:
    """The table of buildings.

    The probabilities are the model's: the mean over the building's assessed pixels of p(level) / p(building), corrected
    where the model's card says how, and of p(building). The class is decided by the same mean with the decision weights
    of the model, so it need not be the most probable one. `seen` is the share of its area that was assessed;
    `confidence` is the model's probability of the decided class times `seen`, so that what was not looked at lowers it.
    Where less than MIN_SEEN was seen, or the dates are `misaligned`, the class is `not-assessed`, probabilities and
    confidence are missing, and `reason` says why.

    Args:
        buildings: `building_id` and geometry in the grid's reference system.
        polygons: the same geometries in pixel coordinates.
        evidence: of these buildings, in the same order.
        grid: the scene.
        misaligned: the dates lie too far apart for any building to be compared.
        calibration: of the probabilities of the levels.

    Returns:
        One row per building with the columns of the layer `buildings`.
    """
    count = len(polygons)
    seen = seen_share(polygons, evidence, grid)
    assessed = (seen >= MIN_SEEN) & (not misaligned)
    reason = ["misaligned" if misaligned else ""] * count
    for i in np.flatnonzero(seen < MIN_SEEN).tolist():
        reason[i] = gap_reason(evidence.pixels[i], polygons[i], grid)
    pixels = evidence.pixels[:, Missing.ASSESSED]
    means = np.full((count, evidence.kinds), np.nan)
    means[assessed] = evidence.levels[assessed] / pixels[assessed, None]
    best = np.where(assessed, np.nan_to_num(means[:, :_LEVELS]).argmax(axis=1), 0)
    levels = means[:, _LEVELS : 2 * _LEVELS]
    if calibration is not None:
        levels = calibration.apply(levels)
    confidence = np.where(assessed, levels[np.arange(count), best] * seen, np.nan)
    centroids = shapely.centroid(np.array(polygons, dtype=object))
    lon, lat = np.full(count, np.nan), np.full(count, np.nan)
    if grid.is_georeferenced and count:
        lon, lat = grid.lonlat(shapely.get_x(centroids), shapely.get_y(centroids))
    columns = {
        "building_id": buildings["building_id"].astype(str).to_list(),
        "damage": [DAMAGE.names[b + 1] if a else NOT_ASSESSED for a, b in zip(assessed, best, strict=True)],
        "p_no_damage": levels[:, 0],
        "p_minor": levels[:, 1],
        "p_major": levels[:, 2],
        "p_destroyed": levels[:, 3],
        "p_building": np.clip(means[:, -1], 0, 1),
        "confidence": confidence,
        "seen": seen,
        "area_m2": areas_m2(buildings.geometry.to_numpy(), grid.crs),
        "lon": lon,
        "lat": lat,
        "reason": reason,
        "mode": [MODE] * count,
    }
    return geopandas.GeoDataFrame(columns, geometry=buildings.geometry.to_numpy(), crs=grid.crs)


def seen_share(polygons: Sequence[BaseGeometry], evidence: Evidence, grid: Grid) -> np.ndarray:
    """Share of each building that was assessed; parts beyond the grid count as not seen."""
    shapes = np.array(polygons, dtype=object)
    inside = area = shapely.area(shapes)
    left, top, right, bottom = shapely.bounds(shapes).reshape(-1, 4).T
    beyond = ~((left >= 0) & (top >= 0) & (right <= grid.width) & (bottom <= grid.height))
    if beyond.any():
        inside = area.copy()
        image = shapely.box(0, 0, grid.width, grid.height)
        inside[beyond] = shapely.area(shapely.intersection(shapes[beyond], image))
    share_inside = np.divide(inside, area, out=np.zeros(len(shapes)), where=area > 0)
    total = evidence.pixels.sum(axis=1)
    assessed = evidence.pixels[:, Missing.ASSESSED]
    share_seen = np.divide(assessed, total, out=np.zeros(len(shapes)), where=total > 0)
    seen: np.ndarray = np.clip(share_seen * share_inside, 0, 1)
    return seen


def gap_reason(pixels: np.ndarray, polygon: BaseGeometry, grid: Grid) -> str:
    """Why too little of a building was seen."""
    gaps = pixels.copy()
    gaps[Missing.ASSESSED] = 0
    outside = polygon.area - polygon.intersection(shapely.box(0, 0, grid.width, grid.height)).area
    gaps[Missing.OUTSIDE] += round(outside)
    if not gaps.any():
        return "too small"
    return REASONS[Missing(int(gaps.argmax()))]
