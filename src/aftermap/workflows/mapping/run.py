"""The way that every map goes: images and a model in, rows of probabilities, a finished folder out.

What is mapped (damage between two dates, buildings of one) is a `Task`; reading, predicting, resuming, warnings, the
report and the step from work folder to output folder are the same for all.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from aftermap import __version__
from aftermap.artefacts.licences import restriction
from aftermap.errors import AftermapWarning, DataWarning, InputError
from aftermap.files import write_json, writing
from aftermap.files.whole import unsynced
from aftermap.heap import give_back, uncollected
from aftermap.inference.ensemble import open_predictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_parts
from aftermap.products.overview import draw_overview
from aftermap.products.page.page import write_page
from aftermap.products.view import View, dated
from aftermap.workflows.mapping.draft import keep_pictures
from aftermap.workflows.mapping.inputs.dates import Inputs, check_reading
from aftermap.workflows.mapping.inputs.imagery import acquired_day, credit_of, described_imagery, taken_words
from aftermap.workflows.mapping.inputs.scenes import write_scenes
from aftermap.workflows.mapping.provenance import describe_run, gate_counts
from aftermap.workflows.mapping.result import MapResult
from aftermap.workflows.mapping.settings import Settings, identity
from aftermap.workflows.mapping.task import Gathered, Task
from aftermap.workflows.mapping.work import MARKER, ROWS_LAYOUT, WorkFolder, check_output

Progress = Callable[[str, int, int], None]
"""Told the stage, the pixels done and the pixels in all."""


@uncollected()
def run_map(
    out: Path,
    settings: Settings,
    mapped: Sequence[Path],
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
        mapped: one image or two; their headers are looked at before the model is opened.
        open_task: makes the task once the model is open.
        progress: called as the work goes on.

    Raises:
        InputError: images, vector files or the model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    begun, watch = time.monotonic(), Stopwatch()
    report: Progress = progress or (lambda stage, done, total: None)
    check_output(out, overwrite=settings.overwrite)
    vectors = _checked_vectors(settings)
    for image in mapped:
        check_reading(image, settings.reading)
    messages: list[str] = []
    with watch("model"):
        model = settings.model
        if not isinstance(model, AnyPredictor):
            model = open_predictor(model, settings.running)
        task = open_task(model)
        if settings.features and not task.keeps_features:
            raise InputError(
                f"features are kept of maps of damage, and this is one of {task.name}: leave --features out"
            )
    with noted(messages), watch("inputs"):
        inputs = task.open(settings.reading)
        if settings.footprints is not None:
            from aftermap.workflows.mapping.inputs.known import Known

            task.known = Known.read(
                settings.footprints,
                inputs.grid,
                scene=inputs.scene.grid,
                keep_outside=settings.keep_outside,
            )
            if settings.align_footprints:
                task.known = task.known.aligned(inputs)
        dates = _dates(inputs, settings)
    options = {"model": model.sha256, **settings.deciding(), **task.deciding()}
    images = {name: [identity(path) for path in s.files] for name, s in inputs.sources.items()}
    fingerprint = options | {"images": images, "aftermap": __version__, "rows": ROWS_LAYOUT}
    with (
        closing(inputs),
        WorkFolder(out, fingerprint, resume=settings.resume, overwrite=settings.overwrite) as work,
    ):
        total = inputs.grid.width * inputs.grid.height
        inputs.gathered.keep_in(work.parts)
        start_row = _predict(task, inputs, work, settings, watch, report)
        if not settings.draft:  # the same worker maps the next scene at once
            task.predictor.release()
            inputs.rest()
            give_back()
        report("writing", 0, total)
        # a draft is packed into a part, which is what has to be on the disk
        with unsynced(settings.draft), writing(out, resumable=True):
            rows = work.finished()
            with watch("rasters"):
                for raster in task.rasters:
                    raster.write(rows, inputs.grid, work.result, task, draft=settings.draft)
            if not settings.draft:
                give_back()
            report("writing", total // 2, total)
            with watch("buildings"), noted(messages):
                frame = task.table(rows, inputs)
            if settings.features:
                with watch("features"):
                    task.keep_features(frame, rows, inputs, work.result)
            if not settings.draft:
                give_back()
            with watch("layers"):
                summary = task.write_table(frame, inputs, work.result)
                write_json(work.result / "summary.json", summary)
                if task.name == "damage":  # what is counted by areas
                    write_scenes(inputs, work.result)
            if not settings.draft:
                give_back()
            with watch("views"):
                view = task.view(frame, rows, inputs, summary)
                view = _told(view, inputs, dates)
                if settings.draft:
                    keep_pictures(view, work.result)
                else:
                    _show(task, view, inputs, work, settings, messages)
            provenance = describe_run(
                inputs,
                model,
                options,
                messages,
                vectors,
                (time.monotonic() - begun, watch.seconds),
                start_row,
                mode=task.mode,
                scheme=task.scheme,
                dates=dates,
                footprint_shift=None if task.known is None else task.known.shifts,
                notes=[*inputs.notes, *task.known_notes(), *task.notes()],
            )
            write_json(work.result / MARKER, provenance)
        with unsynced(settings.draft):
            work.publish()
        if task.name == "damage" and settings.overwrite:
            from aftermap.workflows.mapping.finished import tell_stale

            tell_stale(out, frame)
    report("writing", total, total)
    return MapResult(
        folder=out,
        task=task.name,
        buildings=frame,
        summary=summary,
        warnings=tuple(messages),
        seconds=time.monotonic() - begun,
        megapixels=total / 1e6,
        resumed_rows=start_row,
        stages=watch.seconds,
        legend=view.kinds,
        kinds=task.kinds(frame, view),
        gate=gate_counts(model),
    )


def _predict(
    task: Task, inputs: Inputs, work: WorkFolder, settings: Settings, watch: "Stopwatch", report: Progress
) -> int:
    """Predict the rows that an interrupted run has not finished, and keep what the map needs of each band of them.

    Returns:
        The first of these rows.
    """
    finished = work.finished()
    start_row = finished[-1].stop if finished else 0
    width, height = inputs.grid.width, inputs.grid.height
    report("predicting", start_row * width, height * width)
    if start_row == height:
        return start_row
    gathered = Gathered(task, width)
    predicted = predict_parts(
        watch.timed("reading", inputs.read),
        _Timed(task.predictor, watch),
        inputs.grid,
        window_px=settings.window_px,
        halo_px=settings.halo,
        batch=settings.batch or (1 if settings.device == "cpu" else 8),
        start_row=start_row,
    )
    with closing(predicted):
        for part in predicted:
            with watch("storing"):
                rows = gathered.add(part)
                if rows is not None:
                    work.add(rows)
                    if not settings.draft:
                        inputs.gathered.rest()
                        give_back()
            if rows is not None:
                report("predicting", part.stop * width, height * width)
            del part  # its pixels are a view of a whole window
    return start_row


def _show(
    task: Task, view: View, inputs: Inputs, work: WorkFolder, settings: Settings, messages: Sequence[str]
) -> None:
    """The page and the picture."""
    card = task.predictor.card
    if limit := restriction(card.training.data_licence):
        words = f"The model was learned from data under {card.training.data_licence}: {limit}."
        view = replace(view, about=(*view.about, words))
    told: dict[str, Any] = {
        "title": work.out.name if settings.title is None else settings.title,
        "warnings": [*messages, *([card.limits] if card.limits else [])],
    }
    used = f"{task.predictor.name} {task.predictor.version}"
    write_page(work.result / "map.html", view, inputs.grid, model=used, **told)
    inputs.gathered.rest()
    give_back()
    draw_overview(work.result / "overview.png", view, inputs.grid, **told)


def _checked_vectors(settings: Settings) -> dict[str, Path]:
    """The vector files that were given, by what they are, without the names of layers.

    Raises:
        InputError: there is no such file, or none that is known.
    """
    given = {"footprints": settings.footprints, "aoi": settings.aoi}
    files: dict[str, Path] = {}
    for name, path in given.items():
        if path is not None:
            from aftermap.geo.vectors import check_vectors, part_layer

            check_vectors(path, "area" if name == "aoi" else "footprints")
            files[name] = part_layer(path)[0]
    return files


def _dates(inputs: Inputs, settings: Settings) -> dict[str, date | None]:
    """The day of each image, as the user or its files say; warns where the user's say that the second was taken first."""
    given = (settings.pre_date, settings.post_date)
    dates = {
        name: given[name == "post"]
        or acquired_day(source.files)
        or (source.acquired.date() if source.acquired is not None else None)
        for name, source in inputs.scene.sources.items()
    }
    pre, post = dates.get("pre"), dates.get("post")
    if any(given) and pre is not None and post is not None and post < pre:
        warnings.warn(
            f"the image from after was taken on {post}, the one from before on {pre}: swap the images, or the days",
            DataWarning,
            stacklevel=3,
        )
    return dates


def _told(view: View, inputs: Inputs, dates: Mapping[str, date | None]) -> View:
    """A view with the days of its pictures, and what a catalogue says of their angles and licences."""
    known = {name: described_imagery(inputs.scene.sources[name].files) for name in dates}
    names = [picture.name for picture in view.pictures]
    taken = [
        f"{name}: {told}."
        for name, each in zip(names, known.values(), strict=False)
        if (told := taken_words(each))
    ]
    credit = credit_of(known.values())
    about = (*view.about, *taken, *((f"Imagery: {credit}.",) if credit else ()))
    return replace(dated(view, [str(day or "") for day in dates.values()]), about=about)


def to_rgb(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The first three bands, or the first one as grey; black where there is no data."""
    shown = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    return np.where(valid, shown, np.uint8(0)) if shown[:, ~valid].any() else shown


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Stopwatch:
    """Adds up the wall time of stages; stages that run side by side are measured each for itself.

    Attributes:
        seconds: by stage, in the order in which they first began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure what runs inside."""
        self.seconds.setdefault(stage, 0.0)
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - begun

    def timed(self, stage: str, work: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        """`work`, every call of which is measured; calls of one stage must not run side by side."""

        def measured(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with self(stage):
                return work(*args, **kwargs)

        return measured


class _Timed:
    """A predictor whose calls are measured."""

    def __init__(self, predictor: AnyPredictor, watch: Stopwatch) -> None:
        self.multiple = predictor.multiple
        # windows are blended into rows before the next ones are run
        self.predict = watch.timed("predicting", predictor.predict_lent)


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
