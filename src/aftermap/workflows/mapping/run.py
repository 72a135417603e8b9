"""The way that every map goes: images and a model in, rows of probabilities, a finished folder out.

What is mapped (damage between two dates, buildings of one) is a `Task`; reading, predicting, resuming, warnings, the
report and the step from work folder to output folder are the same for all.
"""

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
from shapely.geometry.base import BaseGeometry

from aftermap import __version__
from aftermap.errors import AftermapWarning
from aftermap.files import write_json
from aftermap.geo.polygons import read_footprints, to_pixels
from aftermap.inference.buildings import Painter
from aftermap.inference.ensemble import open_predictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import Band, predict_rows
from aftermap.workflows.mapping.inputs import Inputs, Reading
from aftermap.workflows.mapping.provenance import describe_run, gate_counts
from aftermap.workflows.mapping.settings import Settings, identity
from aftermap.workflows.mapping.stopwatch import Stopwatch
from aftermap.workflows.mapping.work import MARKER, Rows, WorkFolder, check_output, writing

OVERVIEW_PX = 6_000_000
"""Pixels of the images in `map.html`; larger scenes are thinned."""

Progress = Callable[[str, int, int], None]
"""Told the stage, the pixels done and the pixels in all."""


@dataclass(frozen=True)
class MapResult:
    """A finished map.

    Attributes:
        folder: the output folder.
        buildings: the table of buildings, in the grid's reference system.
        summary: what `summary.json` holds.
        warnings: what the user was warned about.
        seconds: wall time.
        megapixels: size of the mapped grid.
        resumed_rows: rows that an interrupted run had already finished.
        stages: wall seconds by stage; windows are read beside what else is done.
        gate: how many windows an ensemble's gate took as empty (see `inference.gate`); None without one.
    """

    folder: Path
    buildings: geopandas.GeoDataFrame
    summary: dict[str, Any]
    warnings: tuple[str, ...]
    seconds: float
    megapixels: float
    resumed_rows: int
    stages: dict[str, float]
    gate: dict[str, Any] | None = None


@dataclass(frozen=True)
class Known:
    """The user's buildings.

    Attributes:
        frame: in the grid's reference system.
        outlines: the same in pixels.
        painter: paints them.
    """

    frame: geopandas.GeoDataFrame
    outlines: list[BaseGeometry]
    painter: Painter


class Task(ABC):
    """What is mapped.

    Attributes:
        mode: which dates were compared, for the report.
        scheme: class scheme of the map.
        predictor: the model as it is shown the windows.
        known: the user's buildings, set once the inputs are open; None where they are traced.
    """

    mode: str
    scheme: str
    predictor: AnyPredictor
    known: Known | None = None

    @abstractmethod
    def open(self, reading: Reading) -> Inputs:
        """Open the imagery and check that the model can use it."""

    @abstractmethod
    def deciding(self) -> dict[str, Any]:
        """What, beside the settings, decides the map."""

    @abstractmethod
    def store(self, work: WorkFolder, band: Band) -> None:
        """Keep a finished band."""

    @abstractmethod
    def write_rasters(self, rows: Sequence[Rows], inputs: Inputs, folder: Path) -> None:
        """Write the rasters of the map."""

    @abstractmethod
    def buildings(self, rows: Sequence[Rows], inputs: Inputs) -> geopandas.GeoDataFrame:
        """The table of the user's buildings, or of those that the model found; may warn."""

    @abstractmethod
    def write_layers(self, frame: geopandas.GeoDataFrame, inputs: Inputs, folder: Path) -> dict[str, Any]:
        """Write the vector layers; returns the summary."""

    @abstractmethod
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
        """Write `map.html` and `overview.png`."""

    def notes(self) -> list[str]:
        """What was decided without a warning."""
        return []


def run_map(
    out: Path,
    settings: Settings,
    open_task: Callable[[AnyPredictor], Task],
    *,
    progress: Progress | None = None,
) -> MapResult:
    """Make a map.

    Works in `<out>.work` and renames the finished folder to `out`: whenever the process dies, `out` is what it was
    before, and `resume` continues after the last finished rows.

    Args:
        out: the output folder.
        settings: what may be chosen.
        open_task: makes the task once the model is open.
        progress: called as the work goes on.

    Raises:
        InputError: images, vector files or the model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    begun, watch = time.monotonic(), Stopwatch()
    report: Progress = progress or (lambda stage, done, total: None)
    check_output(out, overwrite=settings.overwrite)
    messages: list[str] = []
    with watch("model"):
        model = open_predictor(settings.model, settings.running)
        task = open_task(model)
    with noted(messages), watch("inputs"):
        inputs = task.open(settings.reading)
        if settings.footprints is not None:
            task.known = _known(settings.footprints, inputs)
    options = {"model": model.sha256, **settings.deciding(), **task.deciding()}
    images = {name: [identity(path) for path in s.files] for name, s in inputs.sources.items()}
    with closing(inputs):
        work = WorkFolder(
            out,
            options | {"images": images, "aftermap": __version__},
            resume=settings.resume,
            overwrite=settings.overwrite,
        )
        finished = work.finished()
        start_row = finished[-1].stop if finished else 0
        width, total = inputs.grid.width, inputs.grid.width * inputs.grid.height
        report("predicting", start_row * width, total)
        if start_row < inputs.grid.height:
            predicted = predict_rows(
                watch.timed("reading", inputs.read),
                _Timed(task.predictor, watch),
                inputs.grid,
                window_px=settings.window_px,
                halo_px=settings.halo,
                batch=settings.batch or (1 if settings.device == "cpu" else 8),
                start_row=start_row,
            )
            with closing(predicted):
                for band in predicted:
                    with watch("storing"):
                        task.store(work, band)
                    report("predicting", band.stop * width, total)
                    del band  # its rows are a view of what the next ones need no more
        report("writing", 0, total)
        with writing(out):
            rows = work.finished()
            with watch("rasters"):
                task.write_rasters(rows, inputs, work.result)
            report("writing", total // 2, total)
            with watch("buildings"), noted(messages):
                frame = task.buildings(rows, inputs)
            with watch("layers"):
                summary = task.write_layers(frame, inputs, work.result)
                write_json(work.result / "summary.json", summary)
            shown = [*messages, *([model.card.limits] if model.card.limits else [])]
            with watch("views"):
                task.write_views(frame, rows, inputs, summary, work.result, title=out.name, warnings=shown)
            provenance = describe_run(
                inputs,
                model,
                options,
                messages,
                {"footprints": settings.footprints, "aoi": settings.aoi},
                (time.monotonic() - begun, watch.seconds),
                start_row,
                mode=task.mode,
                scheme=task.scheme,
                notes=[*inputs.notes, *task.notes()],
            )
            write_json(work.result / MARKER, provenance)
    work.publish()
    report("writing", total, total)
    return MapResult(
        folder=out,
        buildings=frame,
        summary=summary,
        warnings=tuple(messages),
        seconds=time.monotonic() - begun,
        megapixels=total / 1e6,
        resumed_rows=start_row,
        stages=watch.seconds,
        gate=gate_counts(model),
    )


def sign(frame: geopandas.GeoDataFrame, inputs: Inputs, model: AnyPredictor) -> geopandas.GeoDataFrame:
    """Add to a table of buildings which images and which model it comes from."""
    for name, source in inputs.scene.sources.items():
        frame["image" if name == "image" else f"{name}_image"] = source.name
    frame["model"], frame["model_version"] = model.name, model.version
    frame["model_sha256"] = model.sha256
    return frame


def to_rgb(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The first three bands, or the first one as grey; black where there is no data."""
    shown = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    return np.where(valid, shown, np.uint8(0))


class _Timed:
    """A predictor whose calls are measured."""

    def __init__(self, predictor: AnyPredictor, watch: Stopwatch) -> None:
        self.multiple = predictor.multiple
        self.predict = watch.timed("predicting", predictor.predict)


def _known(path: Path, inputs: Inputs) -> Known:
    frame = read_footprints(path, grid=inputs.grid)
    outlines = [to_pixels(shape, inputs.grid) for shape in frame.geometry]
    return Known(frame, outlines, Painter(outlines, inputs.grid.width))


@contextmanager
def noted(messages: list[str]) -> Iterator[None]:
    """Keep what is warned about for the report, and pass it on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AftermapWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, AftermapWarning):
            messages.append(str(warning.message))
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
