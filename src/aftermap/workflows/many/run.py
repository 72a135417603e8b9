"""`aftermap map-many`: a list of pairs in, one map out; scenes are jobs that any of several workers does."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import geopandas

from aftermap import __version__
from aftermap.errors import InputError, ModelError, OutputError
from aftermap.extras import needs
from aftermap.files import sha256_of
from aftermap.geo.pair import Alignment
from aftermap.remote.addresses import Address, is_address
from aftermap.workflows.many.destination import check_destination, open_destination, published
from aftermap.workflows.many.merge import Merged, merge, parts_digest
from aftermap.workflows.many.pairs import in_blocks, read_pairs
from aftermap.workflows.many.parts import Parts, facts_of
from aftermap.workflows.many.records import LOG, TABLE, Log, write_table
from aftermap.workflows.many.scene import SceneWork, job_of
from aftermap.workflows.mapping.settings import MapOptions, Settings
from aftermap.worklist.job import Job, Outcome
from aftermap.worklist.processes import cores
from aftermap.worklist.run import Engine, check_engine, run_jobs
from aftermap.worklist.team import Limits

FORMATS = ("geoparquet", "pmtiles")
_FETCHED_AT_ONCE = 8
Progress = Callable[[str, int, int, str], None]
"""Told the stage, how many are done, how many there are, and what else there is to say."""


class ManyOptions(MapOptions, total=False):
    """Keywords of `map_many`."""

    model: str | Path
    footprints: str | Path | None
    aoi: str | Path | None
    align: Alignment
    engine: Engine
    address: str | None
    workers: int
    retries: int
    memory_gb: float | None
    timeout_s: float | None
    formats: Sequence[str]
    h3: int | None
    squares_m: float | None
    merge_crs: str | None
    block_mpx: float | None
    keep: bool
    take_over: bool
    progress: Progress | None


@dataclass(frozen=True, repr=False)
class ManyResult:
    """What came of many scenes.

    Attributes:
        folder: of the map, or its address; None where no scene could be mapped.
        jobs: how every scene ended, in the order of the list.
        merged: the map; None without one.
        seconds: wall time.
        reused: scenes that an earlier run had finished.
        work: where the table of a run without a map is.
        files: further files of the map.
        stages: wall seconds of mapping and of merging.
        was_complete: the map was there before, of the same scenes, and nothing was done.
    """

    folder: str | None
    jobs: tuple[Outcome, ...]
    merged: Merged | None = None
    seconds: float = 0.0
    reused: int = 0
    work: str = ""
    files: tuple[str, ...] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    was_complete: bool = False

    def __repr__(self) -> str:
        return f"<map of {len(self.jobs) - len(self.failed)} of {len(self.jobs)} scenes, in {self.folder}>"

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The scenes that could not be mapped."""
        return tuple(job for job in self.jobs if job.state == "failed")

    @property
    def buildings(self) -> geopandas.GeoDataFrame:
        """The table of buildings.

        Raises:
            InputError: no scene could be mapped, or the map was complete before and was not opened.
        """
        return self._map.buildings

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds.

        Raises:
            InputError: no scene could be mapped, or the map was complete before and was not opened.
        """
        return self._map.summary

    @property
    def _map(self) -> Merged:
        if self.was_complete:
            raise InputError(f"{self.folder} was complete before, and was not opened")
        if self.merged is None:
            raise InputError(
                f"no scene could be mapped: {self.failed[0].reason if self.failed else 'there is none'}"
            )
        return self.merged

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        merged = self.merged
        return {
            "output": self.folder,
            "was_complete": self.was_complete,
            "jobs": [job.as_dict() for job in self.jobs],
            "scenes": len(self.jobs),
            "failed": len(self.failed),
            "reused": self.reused,
            "summary": None if merged is None else merged.summary,
            "doubles_left_out": None if merged is None else merged.doubles,
            "joined_from_halves": None if merged is None else merged.joined,
            "warnings": [] if merged is None else list(merged.warnings),
            "files": list(self.files),
            "seconds": round(self.seconds, 1),
            "stages": {stage: round(seconds, 2) for stage, seconds in self.stages.items()},
        }


def map_many(
    pairs: Path,
    out: str | Path,
    *,
    model: str | Path = "box",
    footprints: str | Path | None = None,
    aoi: str | Path | None = None,
    align: Alignment = "auto",
    engine: Engine = "processes",
    address: str | None = None,
    workers: int = 0,
    retries: int = 1,
    memory_gb: float | None = None,
    timeout_s: float | None = None,
    formats: Sequence[str] = FORMATS,
    h3: int | None = None,
    squares_m: float | None = None,
    merge_crs: str | None = None,
    block_mpx: float | None = None,
    keep: bool = False,
    take_over: bool = False,
    progress: Progress | None = None,
    **options: Unpack[MapOptions],
) -> ManyResult:
    """Map many pairs of images and put them together as one map; see `docs/many.md`.

    Every scene is mapped as `map` maps it. A scene that cannot be mapped is told in `jobs` and leaves the others alone.

    Args:
        pairs: a list of scenes, see `pairs`.
        out: folder to make.
        model: see `mapping.settings.Settings`, also for `footprints` and `aoi`, which hold for all scenes.
        footprints: buildings to judge in scenes for which the list names none.
        aoi: polygons that bound the map.
        align: see `mapping.damage.map_damage`.
        engine: `processes` of this machine, or `ray`.
        address: of the Ray cluster.
        workers: how many; 0 for one per core.
        retries: how often a scene is tried again whose worker died.
        memory_gb: that a worker may hold, in 1e9 bytes; a scene that needs more fails.
        timeout_s: that a scene may take.
        formats: beside the files of every map: some of `package.formats.FORMATS`.
        h3: resolution of H3 cells to count by.
        squares_m: side of squares to count by.
        merge_crs: reference system of the map; by default the one that most scenes have.
        block_mpx: larger scenes, in megapixels, are mapped in blocks of rows, each a job of its own; not with an `aoi`.
        keep: keep the parts, for a list that grows.
        take_over: of a bucket into which another command writes.
        progress: called as the work goes on.
        options: of every map, see `mapping.settings.Settings`.

    Raises:
        InputError: the list names the row and column that are wrong; the model or an option cannot be used.
        OutputError: the output exists or cannot be written.
        MissingExtraError: a format, areas or Ray need more than is installed.
    """
    begun = time.monotonic()
    report: Progress = progress or (lambda stage, done, total, note: None)
    resume, overwrite = options.pop("resume", False), options.pop("overwrite", False)
    title = options.pop("title", None)
    check_engine(engine, address)
    if block_mpx is not None and (aoi is not None or not block_mpx > 0):
        raise InputError("--block takes megapixels above 0, and no --aoi: an area is mapped whole")
    listed = read_pairs(Path(pairs))
    if any(is_address(each) for pair in listed for each in (pair.pre, pair.post)):
        needs("map-many of images elsewhere", "catalog")
    if block_mpx is not None:
        listed = in_blocks(listed, block_mpx)
    _check_products(formats, h3)
    sha256 = model_sha256(model)
    shared: dict[str, Any] = {
        **options,
        "footprints": None if footprints is None else Path(footprints).absolute(),
        "aoi": None if aoi is None else Path(aoi).absolute(),
    }
    settings = Settings(model=model, **shared)  # refuses options that no scene can be mapped with
    decides = {"model": sha256, "align": align, "aftermap": __version__, **settings.deciding()}
    jobs = [job_of(pair, decides) for pair in listed]
    if resume and not overwrite and _is_complete(out, jobs):
        before = tuple(Outcome(job.name, "done", attempts=0) for job in jobs)
        return ManyResult(_shown(out), before, reused=len(before), was_complete=True)
    check_destination(out, resume=resume, overwrite=overwrite)
    with open_destination(out, decides, resume=resume, overwrite=overwrite, take_over=take_over) as target:
        say = Log(target.log)
        work = SceneWork(target.kept, target.under_way.absolute(), _absolute(model), align, shared)
        there = target.kept.names()
        waiting = [job for job in jobs if job.what["part"] not in there]
        reused = len(jobs) - len(waiting)
        say(f"aftermap {__version__}: {len(jobs)} scenes, {reused} of them finished before, by {engine}")
        mapping = time.monotonic()
        outcomes = _map_scenes(
            work,
            jobs,
            waiting,
            limits=Limits(workers, retries, None if memory_gb is None else round(memory_gb * 1e9), timeout_s),
            engine=engine,
            address=address,
            say=say,
            report=report,
        )
        merging = time.monotonic()
        failed = [outcome.name for outcome in outcomes if outcome.state == "failed"]
        done = [job for job in jobs if job.name not in set(failed)]
        if not done:
            write_table(outcomes, target.result / TABLE)
            say("no scene could be mapped")
            told = target.keep_table(target.result / TABLE)
            return ManyResult(None, tuple(outcomes), None, time.monotonic() - begun, reused, told)
        scratch = target.under_way / ".merging"
        threads = min(workers or cores(), cores())
        files = _fetched(target.kept, done, scratch / "parts")
        outcomes = [_with_facts(outcome, files.get(outcome.name)) for outcome in outcomes]
        write_table(outcomes, target.result / TABLE)
        merged = merge(
            files,
            target.result,
            scratch / "small",
            title=Path(out).name if title is None else title,
            crs=merge_crs,
            failed=failed,
            threads=threads,
            progress=lambda stage, number, total: report(stage, number, total, ""),
        )
        report("products", 0, 1, "")
        made = _write_products(target.result, formats, h3, squares_m)
        say(f"merged: {len(merged.buildings)} buildings, {merged.doubles} doubles left out")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copyfile(target.log, target.result / LOG)
        report("products", 1, 1, "")
        where = target.finish(keep=keep or bool(failed))
    ended = time.monotonic()
    stages = {"mapping": merging - mapping, "merging": ended - merging}
    return ManyResult(where, tuple(outcomes), merged, ended - begun, reused, files=tuple(made), stages=stages)


def _map_scenes(
    work: SceneWork,
    jobs: Sequence[Job],
    waiting: Sequence[Job],
    *,
    limits: Limits,
    engine: Engine,
    address: str | None,
    say: Callable[[str], None],
    report: Progress,
) -> list[Outcome]:
    """How all scenes ended, those of earlier runs too."""
    ended: list[Outcome] = []
    before = len(jobs) - len(waiting)

    def tell(outcome: Outcome) -> None:
        ended.append(outcome)
        lost = sum(each.state == "failed" for each in ended)
        report("mapping", before + len(ended), len(jobs), f"{lost} failed" if lost else "")

    report("mapping", before, len(jobs), "")
    found = run_jobs(work, waiting, engine=engine, limits=limits, address=address, on_outcome=tell, say=say)
    by_name = {outcome.name: outcome for outcome in found}
    return [by_name.get(job.name) or Outcome(job.name, "done", attempts=0) for job in jobs]


def _is_complete(out: str | Path, jobs: Sequence[Job]) -> bool:
    """Whether the map of exactly these scenes is there, and none had failed.

    Raises:
        OutputError: there is a finished map of others.
    """
    told = published(out)
    if told is None:
        return False
    if (
        told.get("parts_sha256") == parts_digest(job.what["part"] for job in jobs)
        and not told["failed_scenes"]
    ):
        return True
    raise OutputError(
        f"{_shown(out)} is a finished map of other scenes, images or options: pass --overwrite to replace it (a list "
        "that grows is gone on with where the run before had --keep)"
    )


def _shown(out: str | Path) -> str:
    return Address.parse(out).shown if is_address(out) else str(out)


def _with_facts(outcome: Outcome, part: Path | None) -> Outcome:
    """How a scene ended that an earlier run had finished, as its part tells."""
    if outcome.attempts or part is None:
        return outcome
    facts = facts_of(part)
    return replace(outcome, seconds=facts.get("seconds", 0.0), attempts=facts.get("attempts", 0), facts=facts)


def _fetched(parts: Parts, jobs: Sequence[Job], folder: Path) -> dict[str, Path]:
    """The parts of some scenes, on this machine."""
    with ThreadPoolExecutor(_FETCHED_AT_ONCE, thread_name_prefix="parts") as pool:
        files = pool.map(lambda job: parts.fetch(job.what["part"], folder), jobs)
        return {job.name: file for job, file in zip(jobs, files, strict=True)}


def model_sha256(model: str | Path) -> str:
    """What identifies a model of damage between two dates, by its card alone.

    Raises:
        ModelError: there is none, or it maps something else.
    """
    from aftermap.artefacts.ensemble import is_ensemble, load_ensemble, read_card
    from aftermap.artefacts.exported import is_exported, load_exported_card

    card = load_exported_card(model) if is_exported(model) else read_card(model)
    if card.dates != 2 or card.scheme != "joint-damage-scale":
        raise ModelError(
            f"model {card.name} tells {', '.join(card.classes.names)} from {card.dates} date(s): map-many maps damage "
            "between two dates"
        )
    if is_exported(model):
        return sha256_of(Path(model))
    if is_ensemble(model):
        return str(load_ensemble(model).sha256)
    weights = getattr(card, "weights", None)
    return str(weights.sha256) if weights is not None else str(card.model_dump_json())


def _check_products(formats: Sequence[str], h3: int | None) -> None:
    """Refuse formats that do not exist, and products whose extra is missing, before any work."""
    from aftermap.workflows.package.formats import check_formats

    if formats:
        check_formats(formats)
    if h3 is not None:
        needs("--h3", "areas")


def _write_products(
    folder: Path, formats: Sequence[str], h3: int | None, squares_m: float | None
) -> list[str]:
    """The other formats and the areas, within the map; returns their names."""
    from aftermap.workflows.areas.run import write_areas
    from aftermap.workflows.package.formats import write_formats

    made = write_formats(folder, formats) if formats else []
    if h3 is not None or squares_m is not None:
        results = write_areas(folder, h3=h3, grid=squares_m)
        made += [file for result in results for file in result.files]
    return [str(path.relative_to(folder)) for path in made]


def _absolute(model: str | Path) -> str:
    """A model's folder from anywhere; names of models as they are."""
    path = Path(model)
    return str(path.absolute()) if path.exists() else str(model)
