"""The main job: two dates in, a folder with a map of damaged buildings out."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap import __version__
from aftermap.artefacts.ensemble import Averaging
from aftermap.errors import AftermapWarning, AlignmentWarning, InputError
from aftermap.geo.pair import Alignment
from aftermap.geo.polygons import read_footprints, to_pixels
from aftermap.inference.backends.base import Backend, Precision
from aftermap.inference.buildings import Painter, assess
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import DEFAULT_HALO_PX, DEFAULT_WINDOW_PX, predict_rows
from aftermap.inference.tta import Tta
from aftermap.products.figure import draw_overview
from aftermap.products.provenance import write_json
from aftermap.products.summary import summarise
from aftermap.products.vectors import write_buildings
from aftermap.products.webmap import write_map
from aftermap.recipes.inputs import Inputs, open_inputs
from aftermap.recipes.layers import gather, store, trace_buildings, write_rasters
from aftermap.recipes.map_provenance import describe_run, gate_counts
from aftermap.recipes.stopwatch import Stopwatch
from aftermap.recipes.work import MARKER, Rows, WorkFolder, check_output, writing

MIN_WINDOW_PX = 64

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


def map_damage(
    pre: Path,
    post: Path,
    out: Path,
    *,
    model: str | Path = "box",
    footprints: Path | None = None,
    aoi: Path | None = None,
    bands: Sequence[int] | None = None,
    stretch: tuple[float, float] | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    align: Alignment = "auto",
    cloud_mask: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    device: str = "cpu",
    tta: Tta = "none",
    scales: Sequence[float] = (1.0,),
    averaging: Averaging | None = None,
    compat_uint8: bool | None = None,
    low_memory: bool = False,
    backend: Backend | None = None,
    threads: int = 0,
    precision: Precision = "auto",
    compiled: bool = False,
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> MapResult:
    """Map the damage to every building between two dates.

    Works in `<out>.work` and renames the finished folder to `out`: whenever the process dies, `out` is what
    it was before, and `resume` continues after the last finished rows.

    Args:
        pre: image, or folder of tiles, from before.
        post: image, or folder of tiles, from after.
        out: the output folder.
        model: a model folder, an ensemble folder, or `box` for the one in the package.
        footprints: buildings to judge; by default they are traced from what the model sees.
        aoi: polygons that bound the map.
        bands: 1-based bands to use of both dates.
        stretch: percentiles that are brought to 0 and 255, for pixels that are not 8-bit.
        crs: reference system of the map; the first date's by default.
        resolution: pixel size of the map, in units of its reference system.
        align: `auto` takes a measured shift between the dates out where that helps.
        cloud_mask: raster, not 0 where the ground is hidden.
        overwrite: replace an earlier result.
        resume: continue an interrupted run.
        device: `cpu` or `cuda`.
        tta: averages over mirrored or turned images; see `aftermap.inference.tta`.
        scales: averages over sizes of the images, such as 0.75, 1 and 1.25.
        averaging: probabilities or logits; see `aftermap.inference.ensemble.Options`, also for the next two.
        compat_uint8: cut probabilities to 8 bits before they are averaged.
        low_memory: hold one member of an ensemble at a time.
        backend: what runs the network, or `auto` for the fastest measured here; see
            `aftermap.inference.backends.base.Execution`, also for the next three.
        threads: of the processor; 0 leaves the runtime its choice.
        precision: of the network's arithmetic.
        compiled: let torch.compile build kernels for a GPU.
        window_px: largest window of the model.
        halo_px: half the overlap of neighbouring windows; by default 64 px, or an eighth of a small window.
        batch: windows per call of the model; 1 on a CPU and 8 on a GPU by default.
        progress: called as the work goes on.

    Raises:
        InputError: images, vector files or the model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    if window_px < MIN_WINDOW_PX:
        raise InputError(f"windows of {window_px} px are too small: at least {MIN_WINDOW_PX} px")
    halo_px = min(DEFAULT_HALO_PX, window_px // 8) if halo_px is None else halo_px
    begun, watch = time.monotonic(), Stopwatch()
    report: Progress = progress or (lambda stage, done, total: None)
    check_output(out, overwrite=overwrite)
    messages: list[str] = []
    how = Options(
        device=device,
        tta=tta,
        scales=tuple(scales),
        averaging=averaging,
        compat_uint8=compat_uint8,
        low_memory=low_memory,
        backend=backend,
        threads=threads,
        precision=precision,
        compiled=compiled,
    )
    with watch("model"):
        predictor = open_predictor(model, how)
    decision = Decision.of(predictor.card)
    with _noted(messages), watch("inputs"):
        inputs = open_inputs(
            pre,
            post,
            predictor.card,
            aoi=aoi,
            bands=bands,
            stretch=stretch,
            crs=crs,
            resolution=resolution,
            align=align,
            cloud_mask=cloud_mask,
        )
        known = read_footprints(footprints, grid=inputs.grid) if footprints is not None else None
    options: dict[str, Any] = {
        "model": predictor.sha256,
        "footprints": _identity(footprints),
        "aoi": _identity(aoi),
        "cloud_mask": _identity(cloud_mask),
        "bands": list(bands) if bands is not None else None,
        "stretch": list(stretch) if stretch is not None else None,
        "crs": crs,
        "resolution": resolution,
        "align": align,
        "tta": tta,
        "scales": list(scales),
        "averaging": averaging,
        "compat_uint8": compat_uint8,
        "backend": backend,
        "precision": precision,
        "thresholds": list(decision.thresholds),
        "minor_dilation": decision.minor_dilation,
        "damage_weights": predictor.card.damage_weights,
        "window_px": window_px,
        "halo_px": halo_px,
    }
    images = {name: [_identity(path) for path in files] for name, files in inputs.files.items()}
    with closing(inputs):
        work = WorkFolder(
            out,
            options | {"images": images, "aftermap": __version__},
            resume=resume,
            overwrite=overwrite,
        )
        outlines = [to_pixels(shape, inputs.grid) for shape in known.geometry] if known is not None else None
        painter = Painter(outlines, inputs.grid.width) if outlines is not None else None
        finished = work.finished()
        start_row = finished[-1].stop if finished else 0
        width, total = inputs.grid.width, inputs.grid.width * inputs.grid.height
        report("predicting", start_row * width, total)
        if start_row < inputs.grid.height:
            predicted = predict_rows(
                watch.timed("reading", inputs.read),
                _Timed(predictor, watch),
                inputs.grid,
                window_px=window_px,
                halo_px=halo_px,
                batch=batch or (1 if device == "cpu" else 8),
                start_row=start_row,
            )
            with closing(predicted):
                for band in predicted:
                    with watch("storing"):
                        store(work, band, painter, decision)
                    report("predicting", band.stop * width, total)
                    del band  # its rows are a view of what the next ones need no more
        report("writing", 0, total)
        with writing(out):
            rows = work.finished()
            with watch("rasters"):
                write_rasters(rows, inputs.grid, work.result, decision)
            report("writing", total // 2, total)
            with watch("buildings"):
                frame = _buildings(rows, inputs, predictor, known, outlines, messages)
            with watch("layers"):
                write_buildings(frame, work.result)
                summary = summarise(frame, inputs.grid)
                write_json(work.result / "summary.json", summary)
            with watch("views"):
                _write_views(
                    inputs,
                    frame,
                    summary,
                    work.result,
                    title=out.name,
                    messages=messages,
                    predictor=predictor,
                )
            seconds = time.monotonic() - begun
            provenance = describe_run(
                inputs, predictor, options, messages, footprints, aoi, (seconds, watch.seconds), start_row
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
        gate=gate_counts(predictor),
    )


class _Timed:
    """A predictor whose calls are measured."""

    def __init__(self, predictor: AnyPredictor, watch: Stopwatch) -> None:
        self.multiple = predictor.multiple
        self.predict = watch.timed("predicting", predictor.predict)


def _buildings(
    rows: Sequence[Rows],
    inputs: Inputs,
    predictor: AnyPredictor,
    known: geopandas.GeoDataFrame | None,
    outlines: Sequence[BaseGeometry] | None,
    messages: list[str],
) -> geopandas.GeoDataFrame:
    """The table of the user's buildings, or of those that the model found."""
    if known is not None and outlines is not None:
        buildings, evidence = known, gather(rows, len(known))
    else:
        buildings, outlines, evidence = trace_buildings(rows, inputs.grid)
    with _noted(messages):
        misaligned = _is_misaligned(inputs, outlines)
    frame = assess(buildings, outlines, evidence, inputs.grid, misaligned=misaligned)
    frame["pre_image"], frame["post_image"] = inputs.pair.pre.name, inputs.pair.post.name
    frame["model"], frame["model_version"] = predictor.name, predictor.version
    frame["model_sha256"] = predictor.sha256
    return frame


def _write_views(
    inputs: Inputs,
    frame: geopandas.GeoDataFrame,
    summary: dict[str, Any],
    folder: Path,
    *,
    title: str,
    messages: Sequence[str],
    predictor: AnyPredictor,
) -> None:
    """`map.html` and `overview.png`, from both dates thinned to what a screen can show."""
    pre, post, valid, _ = inputs.overview(OVERVIEW_PX)
    images = _rgb(pre, valid[0]), _rgb(post, valid[1])
    shown = [*messages, predictor.card.limits] if predictor.card.limits else list(messages)
    write_map(
        folder / "map.html",
        frame,
        *images,
        inputs.grid,
        summary,
        title=title,
        warnings=shown,
        model=f"{predictor.name} {predictor.version}",
        pre_valid=valid[0],
        post_valid=valid[1],
    )
    draw_overview(folder / "overview.png", *images, frame, inputs.grid, title=title, warnings=shown)


def _rgb(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The first three bands, or the first one as grey; black where there is no data."""
    shown = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    return np.where(valid, shown, np.uint8(0))


def _is_misaligned(inputs: Inputs, outlines: Sequence[BaseGeometry]) -> bool:
    """Whether the dates still lie further apart than half a typical building."""
    shift = inputs.pair.shift
    if not outlines or shift.applied or not shift.patches:
        return False
    distance = math.hypot(shift.dx_px, shift.dy_px)
    typical = float(np.median(np.sqrt(shapely.area(np.array(outlines, dtype=object)))))
    if distance <= typical / 2:
        return False
    warnings.warn(
        f"the dates lie {distance:.1f} px apart, more than half a typical building ({typical:.1f} px), "
        "and the shift was "
        f"not removed ({shift.reason}): no building is assessed",
        AlignmentWarning,
        stacklevel=3,
    )
    return True


def _identity(path: Path | None) -> list[str | int] | None:
    """Enough of a file to see that it is still the same one."""
    if path is None or not path.exists():
        return None
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


@contextmanager
def _noted(messages: list[str]) -> Iterator[None]:
    """Keep what is warned about for the report, and pass it on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AftermapWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, AftermapWarning):
            messages.append(str(warning.message))
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
