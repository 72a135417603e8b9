"""Times models against each other: every one in a process of its own, in turns, until the medians are stable."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aftermap.data.scene import labelled_scenes
from aftermap.errors import InputError
from aftermap.extras import lacking
from aftermap.files.cache import CACHE_VARIABLE
from aftermap.inference.backends.base import Backend, Precision, known_device
from aftermap.inference.tta import Tta
from aftermap.scoring.counts import plain
from aftermap.workflows.bench.candidates import (
    Candidate,
    Facts,
    facts_of,
    is_reference,
    materialise,
    parse_candidates,
)
from aftermap.workflows.bench.job import Job
from aftermap.workflows.bench.machine import available_cores, describe_machine
from aftermap.workflows.bench.process import CandidateError, WorkerProcess
from aftermap.workflows.bench.rounds import (
    Estimate,
    Track,
    estimate,
    is_stable,
    paired_ratio,
    quantile,
    run_rounds,
)

WARM_UP_SECONDS = 2.0
WARM_UP_CALLS = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """How models are timed.

    Attributes:
        backends: runtimes of models that name none.
        batches: images or pairs per call.
        size_px: height and width.
        threads: of the processor; 0 takes all that this process may use.
        device: `cpu`, `cuda` or `cuda:n`.
        precision: of the networks' arithmetic.
        tta: views that are averaged, for models that name none.
        seconds: to spend on the timed rounds at most.
        data: prepared data to score every model on; None takes scores from the cards.
        split: whose scenes; `all` takes every one.
        seed: of the order within the rounds.
    """

    backends: tuple[Backend, ...] = ("auto",)
    batches: tuple[int, ...] = (1,)
    size_px: int = 1024
    threads: int = 0
    device: str = "cpu"
    precision: Precision = "auto"
    tta: Tta = "none"
    seconds: float = 180.0
    data: Path | None = None
    split: str = "test"
    seed: int = 0


@dataclass
class _Running:
    """A candidate whose process has started."""

    candidate: Candidate
    facts: Facts
    worker: WorkerProcess
    started: dict[str, Any]
    track: Track
    scores: dict[str, float] = field(default_factory=dict)


def bench(
    models: Sequence[str],
    settings: Settings | None = None,
    *,
    on_progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time models on backends and batches.

    Args:
        models: model or ensemble folders, exported models, `box`, or `reference:KIND`, each with words such as
            `+openvino`, `+flips` or `+3seeds` that are for it alone. Ratios are to the first.
        settings: how they are timed.
        on_progress: called with a line of text at every stage.

    Returns:
        `machine`, `settings`, `entries` (one per candidate that was measured), `failures` (model, backend, batch and
        reason of the others) and `ended`: `stable`, `time`, `failed` or `interrupted`.

    Raises:
        ModelError: a name leads to no model.
        InputError: a setting makes no sense.
        KeyboardInterrupt: it was interrupted before anything was measured.
    """
    settings = settings or Settings()
    _check(settings)
    candidates = parse_candidates(
        models, backends=settings.backends, batches=settings.batches, tta=settings.tta
    )
    if settings.data is not None:
        labelled_scenes(settings.data, settings.split)
    threads = settings.threads or available_cores()
    say = on_progress or (lambda _: None)
    machine = describe_machine(threads, settings.device)
    failures: list[dict[str, Any]] = []
    running: list[_Running] = []
    ceiling: Track | None = None
    ended = "interrupted"
    with ExitStack() as open_things:
        try:
            references = Path(open_things.enter_context(tempfile.TemporaryDirectory()))
            for number, candidate in enumerate(candidates):
                say(f"{number + 1}/{len(candidates)} starting {candidate.name}")
                try:
                    running.append(_start(candidate, settings, threads, references, open_things))
                except CandidateError as error:
                    failures.append(_failure(candidate, str(error)))
            ceiling = _start_ceiling(settings, threads, open_things) if running else None
            tracks = [each.track for each in running] + ([ceiling] if ceiling else [])
            ended = run_rounds(
                tracks,
                seconds=settings.seconds,
                clock=time.monotonic,
                seed=settings.seed,
                on_round=lambda number: say(_standing(running, number)),
            )
            if settings.data is not None:
                _score(running, settings, say)
        except KeyboardInterrupt:
            ended = "interrupted"
            if not any(each.track.visits for each in running):
                raise
    for each in running:
        if each.track.failure is not None:
            failures.append(_failure(each.candidate, each.track.failure))
    measured = [each for each in running if each.track.failure is None and each.track.visits]
    ceilings = _ceilings(ceiling)
    entries = [_entry(each, measured[0], settings, threads, ceilings) for each in measured]
    data = settings.data
    scored_on = take_card_scores(entries) if data is None else f"{data.name} ({settings.split})"
    return {
        "machine": machine | {"ceilings_gflops": {k: plain_estimate(_of(v)) for k, v in ceilings.items()}},
        "settings": {
            "size": settings.size_px,
            "threads": threads,
            "device": settings.device,
            "seconds": settings.seconds,
            "scored_on": scored_on,
        },
        "ended": ended,
        "entries": [{k: v for k, v in entry.items() if k != "card_scores"} for entry in entries],
        "failures": failures,
    }


def _check(settings: Settings) -> None:
    for name, value in (("--size", settings.size_px), *(("--batch", batch) for batch in settings.batches)):
        if value < 1:
            raise InputError(f"{name} {value}: expected 1 or more")
    if settings.threads < 0:
        raise InputError(f"--threads {settings.threads}: expected 0 (all) or more")
    if settings.seconds <= 0:
        raise InputError(f"--seconds {settings.seconds:g}: expected more than 0")
    if not settings.batches or not settings.backends:
        raise InputError("no batch or no backend given: pass --batch 1 --backend auto")
    if known_device(settings.device).startswith("cuda"):
        from aftermap.inference.backends.pytorch import torch_device

        torch_device(settings.device)


def _start(
    candidate: Candidate, settings: Settings, threads: int, references: Path, open_things: ExitStack
) -> _Running:
    """Start a candidate's process, predict once and warm it up."""
    model = materialise(candidate, references)
    job = Job(
        model=model,
        backend=candidate.backend,
        batch=candidate.batch,
        size_px=settings.size_px,
        threads=threads,
        device=settings.device,
        precision=settings.precision,
        tta=candidate.tta,
    )
    cache = {CACHE_VARIABLE: str(references / "cache")} if is_reference(candidate) else {}
    if (
        candidate.backend != "torch"
    ):  # converts the model, or finds the fastest runtime, as only a first use does
        with WorkerProcess(job, cache) as first_use:
            first_use.start()
    worker = open_things.enter_context(WorkerProcess(job, cache))
    try:
        started = worker.start()
        track = Track(candidate.name, partial(_visit, worker))
        seconds = worker.ask("visit", calls=1, untimed=0)["seconds"][0]
        more = min(WARM_UP_CALLS, int(WARM_UP_SECONDS / seconds))
        if more:
            seconds = statistics.median(worker.ask("visit", calls=more, untimed=0)["seconds"])
    except CandidateError:
        worker.close()
        raise
    track.pace(seconds)
    facts = facts_of(model, tta=candidate.tta, size_px=settings.size_px)
    return _Running(candidate, facts, worker, started, track)


def _start_ceiling(settings: Settings, threads: int, open_things: ExitStack) -> Track | None:
    if lacking("train"):
        return None
    worker = open_things.enter_context(WorkerProcess(Job(threads=threads, device=settings.device)))
    try:
        worker.start()
    except CandidateError:  # measured are the models; without it there is no share of the ceiling
        return None
    return Track("matrix products", partial(_visit, worker), judged=False)


def _visit(worker: WorkerProcess, calls: int, untimed: int) -> dict[str, Any]:
    return worker.ask("visit", calls=calls, untimed=untimed)


def _score(running: list[_Running], settings: Settings, say: Callable[[str], None]) -> None:
    """Score all but references, whose weights are random; batches of one model on one backend share a score."""
    known: dict[tuple[str, str, str], dict[str, float]] = {}
    for each in running:
        if is_reference(each.candidate):
            continue
        key = (each.candidate.model, each.candidate.backend, each.candidate.tta)
        if key not in known and each.track.failure is None:
            say(f"scoring {each.candidate.model} on {each.candidate.backend}")
            try:
                answer = each.worker.ask(
                    "score", data=str(Path(str(settings.data)).resolve()), split=settings.split
                )
            except CandidateError as error:
                each.track.failure = f"{error} (while it was scored)"
                continue
            known[key] = answer["scores"]
        each.scores = known.get(key, {})


def _standing(running: Sequence[_Running], number: int) -> str:
    settled = sum(each.track.is_settled for each in running)
    return f"round {number}: {settled} of {len(running)} medians are stable"


def _failure(candidate: Candidate, reason: str) -> dict[str, Any]:
    names = ("model", "backend", "batch", "tta")
    return {name: getattr(candidate, name) for name in names} | {"reason": reason}


def _ceilings(track: Track | None) -> dict[str, dict[int, float]]:
    """GFLOP/s by precision and round."""
    found: dict[str, dict[int, float]] = {}
    for number, visit in track.visits.items() if track else ():
        for name, gflops in visit["gflops"].items():
            found.setdefault(name, {})[number] = gflops
    return found


def _entry(
    each: _Running, first: _Running, settings: Settings, threads: int, ceilings: dict[str, dict[int, float]]
) -> dict[str, Any]:
    """All that is known of a candidate, as plain values."""
    candidate, facts, started = each.candidate, each.facts, each.started
    medians = each.track.medians
    visits = list(each.track.visits.values())
    calls = [seconds for visit in visits for seconds in visit["seconds"]]
    network = [statistics.median(v["network_seconds"]) for v in visits if v["network_seconds"]]
    per_call = _of(medians)
    per_scene = {number: seconds / candidate.batch for number, seconds in medians.items()}
    of_first = {n: seconds / first.candidate.batch for n, seconds in first.track.medians.items()}
    execution = visits[-1]["execution"]
    arithmetic = execution.get("precision", "f32")
    gflops = {} if facts.gmacs is None else {n: 2 * facts.gmacs / seconds for n, seconds in per_scene.items()}
    share = paired_ratio(gflops, ceilings.get(arithmetic, {}))
    tree = {
        "model": candidate.model,
        "backend": execution.get("backend", candidate.backend),
        "asked_backend": candidate.backend,
        "size": settings.size_px,
        "batch": candidate.batch,
        "dates": facts.dates,
        "members": facts.members,
        "tta": candidate.tta,
        "device": settings.device,
        "threads": threads,
        "arithmetic": arithmetic,
        "seconds_median": per_call.median,
        "seconds_interval": _interval(per_call),
        "seconds_quartiles": [quantile(calls, 0.25), quantile(calls, 0.75)],
        "seconds_p95": quantile(calls, 0.95),
        "network_seconds_median": statistics.median(network) if network else None,
        "seconds_per_scene": per_call.median / candidate.batch,
        "repeats": len(calls),
        "rounds": len(visits),
        "stable": is_stable(list(medians.values())),
        "times_as_fast": plain_estimate(paired_ratio(of_first, per_scene)),
        "cold_start_seconds": started["finished"] - each.worker.begun,
        "import_seconds": started["imported"] - each.worker.begun,
        "load_seconds": started["loaded"] - started["imported"],
        "first_seconds": started["finished"] - started["loaded"],
        "peak_mb": visits[-1]["peak_mb"],
        "peak_gpu_mb": visits[-1]["peak_gpu_mb"],
        "processor_seconds_per_scene": statistics.median(
            v["processor_seconds"] / len(v["seconds"]) / candidate.batch for v in visits
        ),
        "cores_busy": sum(v["processor_seconds"] for v in visits) / sum(calls),
        "parameters": facts.parameters,
        "gmacs": facts.gmacs,
        "file_bytes": facts.file_bytes,
        "stored": facts.stored,
        "gflops": statistics.median(gflops.values()) if gflops else None,
        "ceiling_share": plain_estimate(share),
        "scores": each.scores,
        "card_scores": facts.scores,
    }
    values: dict[str, Any] = plain(tree)
    return values


def take_card_scores(entries: Sequence[dict[str, Any]]) -> str | None:
    """Fill in `scores` from the cards, of one test set only as others cannot be compared.

    It is the one that most models know, the first of them in the order of the cards. A card tells of the model as it
    is, so entries with test-time augmentation get none.

    Args:
        entries: with `card_scores` by test set; changed in place.

    Returns:
        What the scores are from; None where no card has any.
    """
    told = [entry for entry in entries if entry["tta"] == "none" and entry["card_scores"]]
    models = {entry["model"]: entry["card_scores"] for entry in told}
    known = [test_set for scores in models.values() for test_set in scores]
    if not known:
        return None
    chosen = max(dict.fromkeys(known), key=known.count)
    for entry in told:
        scores = entry["card_scores"].get(chosen, {})
        official = scores.get("official_score", scores.get("score"))
        found = {"official_score": official, "localization_f1": scores.get("localization_f1")}
        entry["scores"] = {name: value for name, value in found.items() if value is not None}
    return f"{chosen} (from the cards)"


def plain_estimate(value: Estimate | None) -> dict[str, float | None] | None:
    """An estimate for JSON."""
    return None if value is None else {"median": value.median, "low": value.low, "high": value.high}


def _of(values: dict[int, float]) -> Estimate:
    return estimate(list(values.values()))


def _interval(value: Estimate) -> list[float] | None:
    return None if value.low is None or value.high is None else [value.low, value.high]
