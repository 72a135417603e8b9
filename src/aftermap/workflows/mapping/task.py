"""What is mapped: which arrays are kept of every band, which rasters and which table they make, and what is shown."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np

from aftermap.classes import IGNORE, ClassScheme
from aftermap.geo.grid import Grid, Window
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import Band
from aftermap.products.cog import Colour, RasterWriter
from aftermap.products.styles import write_class_names, write_raster_style
from aftermap.products.view import View
from aftermap.workflows.mapping.inputs.dates import Inputs, Reading
from aftermap.workflows.mapping.overview import OVERVIEW_PX, block_middles, block_px
from aftermap.workflows.mapping.result import TaskName
from aftermap.workflows.mapping.work import FinishedRows, Rows, packed

if TYPE_CHECKING:
    from aftermap.workflows.mapping.inputs.known import Known


@dataclass(frozen=True)
class Raster:
    """A raster of a map.

    Attributes:
        name: of the file, without its ending, and of the array that finished rows hold, unless `array` names another.
        descriptions: of its bands.
        array: see there.
        colours: red, green, blue and alpha of its values.
        scale: what stored values are multiplied with.
        tags: metadata.
        categories: classes whose names and colours are written beside it.
    """

    name: str
    descriptions: tuple[str, ...]
    array: str = ""
    colours: dict[int, Colour] | None = None
    scale: float | None = None
    tags: Mapping[str, str] | None = None
    categories: ClassScheme | None = None

    def write(
        self, rows: Sequence[Rows], grid: Grid, folder: Path, task: "Task", *, draft: bool = False
    ) -> None:
        """Write the file; 255 is not assessed. A draft is no COG."""
        path = folder / f"{self.name}.tif"
        with RasterWriter(
            path,
            grid,
            count=len(self.descriptions),
            dtype="uint8",
            nodata=IGNORE,
            colormap=self.colours,
            descriptions=self.descriptions,
            scale=self.scale,
            tags=self.tags,
            draft=draft,
        ) as raster:
            row = rows[0].start if rows else 0
            pieces = (piece for each in rows for piece in each.pieces(grid.width))
            stored = (piece.load(self.array or self.name)[0] for piece in pieces)
            for band in task.finish(self.name, stored):
                raster.write(Window(row, 0, band.shape[-2], grid.width), band)
                row += band.shape[-2]
        if self.categories is not None and not draft:
            write_class_names(path, self.categories)
            write_raster_style(path, self.categories)


class Task(ABC):
    """What is mapped.

    Attributes:
        name: as `aftermap map --task` has it.
        mode: which dates were compared, for the report.
        scheme: class scheme of the map.
        predictor: the model as it is shown the windows.
        rasters: files of the map.
        known: the user's buildings, set once the inputs are open; None where they are traced.
        keeps_features: whether what the buildings look like can be kept.
    """

    name: TaskName
    mode: str
    scheme: str
    predictor: AnyPredictor
    rasters: tuple[Raster, ...]
    known: "Known | None" = None
    keeps_features = False

    @abstractmethod
    def open(self, reading: Reading) -> Inputs:
        """Open the imagery and check that the model can use it."""

    @abstractmethod
    def deciding(self) -> dict[str, Any]:
        """What, beside the settings, decides the map."""

    @abstractmethod
    def pixels(self, band: Band) -> dict[str, np.ndarray]:
        """The arrays (..., h, w) that are kept of finished pixels."""

    def observe(self, band: Band) -> None:  # noqa: B027 - most maps have no such buildings
        """Take what finished pixels say of the user's buildings."""

    def observed(self) -> dict[str, np.ndarray]:
        """What was observed since this was asked for last, as arrays that are kept beside the pixels."""
        return {}

    def finish(self, name: str, bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The rows of a raster as they are written, from those that were kept; they may be cut elsewhere."""
        return iter(bands)

    @abstractmethod
    def table(self, rows: Sequence[Rows], inputs: Inputs) -> geopandas.GeoDataFrame:
        """The user's buildings, or those that the model found, or regions of classes; may warn."""

    @abstractmethod
    def write_table(self, frame: geopandas.GeoDataFrame, inputs: Inputs, folder: Path) -> dict[str, Any]:
        """Write the vector layers; returns the summary."""

    @abstractmethod
    def view(
        self, frame: geopandas.GeoDataFrame, rows: Sequence[Rows], inputs: Inputs, summary: dict[str, Any]
    ) -> View:
        """What the page and the picture show."""

    def keep_features(
        self, frame: geopandas.GeoDataFrame, rows: Sequence[Rows], inputs: Inputs, folder: Path
    ) -> None:
        """Write what the buildings look like, where `keeps_features`; see `features`."""
        raise NotImplementedError

    def kinds(self, frame: geopandas.GeoDataFrame, view: View) -> np.ndarray:
        """Index into the view's kinds of each row of the table, int (n,)."""
        return view.objects.kinds if view.objects is not None else frame["class_index"].to_numpy(np.int64)

    def known_notes(self) -> list[str]:
        """Where the ids of the user's buildings come from, and how these were moved."""
        return [] if self.known is None else self.known.notes()

    def notes(self) -> list[str]:
        """What was decided without a warning."""
        return []


class Gathered:
    """What is kept of a row of windows, gathered part by part.

    Args:
        task: what is mapped.
        width: of the map.
    """

    def __init__(self, task: Task, width: int) -> None:
        self._task, self._width = task, width
        self._parts: dict[int, bytes] = {}

    def add(self, part: Band) -> FinishedRows | None:
        """Take the next part; the rows, with the last of them."""
        self._parts[part.col] = packed(self._task.pixels(part))
        self._task.observe(part)
        if part.col + part.missing.shape[1] < self._width:
            return None
        parts, self._parts = self._parts, {}
        return FinishedRows(part.row, part.stop, parts, self._task.observed())


def thinned_rows(rows: Sequence[Rows], name: str, grid: Grid, *, plane: int | None = None) -> np.ndarray:
    """A stored array uint8 (H, W) at the middles of the blocks that `Overview` makes of the map.

    Args:
        rows: finished rows; those that are not there give IGNORE.
        name: of the array, (h, W) or (1, h, W).
        grid: of the map.
        plane: which of an array (C, h, W).
    """
    step = block_px(grid, OVERVIEW_PX)
    wanted, cols = block_middles(grid.height, step), block_middles(grid.width, step)
    values = np.full((len(wanted), len(cols)), IGNORE, np.uint8)
    for each in rows:
        here = np.flatnonzero((wanted >= each.start) & (wanted < each.stop))
        stored = each.load(name)[0] if plane is None else each.plane(name, plane)
        stored = stored.reshape(-1, grid.width)
        values[here] = stored[np.ix_(wanted[here] - each.start, cols)]
    return values
