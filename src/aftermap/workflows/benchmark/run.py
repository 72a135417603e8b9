"""`aftermap benchmark`: models and recipes on the folds of one protocol, every scene decoded and numbered once for all.

OUT/benchmark.json     everything: protocol, figures by fold with intervals, differences, curves, speed
OUT/benchmark.csv      a row for each model and fold
OUT/leaderboard.html   the same to look at, one file
OUT/protocol.json      the folds, for others to use
OUT-runs/              runs of recipes that were trained for it, and models that were adapted
"""

import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, get_args

from aftermap import __version__
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, InputError
from aftermap.files import ResultFolder, csv_text, write_json, write_text
from aftermap.files.plain_json import read_json
from aftermap.files.result_folder import check_output
from aftermap.inference.ensemble import Options
from aftermap.inference.predictor import AnyPredictor
from aftermap.products.leaderboard import leaderboard
from aftermap.scoring.counts import plain
from aftermap.workflows.benchmark.counting import (
    SceneCounts,
    Target,
    check_model,
    count_scene,
    load_counts,
    save_counts,
)
from aftermap.workflows.benchmark.entrants import (
    Entrant,
    Known,
    given_model,
    known_models,
    leaks,
    named,
    open_all,
    provenance,
)
from aftermap.workflows.benchmark.few_shot import alike, check_adapting, with_scenes
from aftermap.workflows.benchmark.figures import (
    FIGURES,
    LOWER_IS_BETTER,
    Figures,
    cost,
    curves,
    difference,
    mean_of_seeds,
    mean_over,
    of_scenes,
)
from aftermap.workflows.benchmark.protocol import (
    SHOTS,
    Fold,
    Kind,
    Protocol,
    check_protocol,
    make_protocol,
)
from aftermap.workflows.benchmark.trained import check_recipe, trained_recipe

MARKER = "benchmark.json"
PROTOCOL = "protocol.json"
FILES = (MARKER, "benchmark.csv", "leaderboard.html", PROTOCOL)
Progress = Callable[[str, int, int], None]


class BenchmarkOptions(TypedDict, total=False):
    """Keywords of `run_benchmark`."""

    models: Sequence[str]
    recipes: Sequence[str]
    protocol: str | Path
    shots: Sequence[int]
    events: Sequence[str]
    tested: int
    informed: bool
    adapt: Sequence[str]
    seeds: int
    seed: int
    bootstrap: int
    overrides: Sequence[str]
    include: Sequence[str | Path]
    running: Options | None
    resume: bool
    overwrite: bool
    progress: Progress | None


@dataclass(frozen=True, repr=False)
class BenchmarkResult:
    """A finished benchmark.

    Attributes:
        folder: with page, table and JSON.
        report: what `benchmark.json` holds.
    """

    folder: Path
    report: dict[str, Any]

    def __repr__(self) -> str:
        names = ", ".join(entrant["name"] for entrant in self.report["entrants"])
        return f"<benchmark of {names}: {self.folder}>"

    @property
    def page(self) -> Path:
        """The leaderboard."""
        return self.folder / "leaderboard.html"


def run_benchmark(
    data: Path,
    out: Path,
    *,
    models: Sequence[str] = (),
    recipes: Sequence[str] = (),
    protocol: str | Path = "leave-one-event-out",
    shots: Sequence[int] = SHOTS,
    events: Sequence[str] = (),
    tested: int = 0,
    informed: bool = False,
    adapt: Sequence[str] = (),
    seeds: int = 1,
    seed: int = 0,
    bootstrap: int = 1000,
    overrides: Sequence[str] = (),
    include: Sequence[str | Path] = (),
    running: Options | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Compare models and recipes on the labelled scenes of a prepared dataset.

    Args:
        data: a prepared dataset with two dates and labels of damage.
        out: folder to make.
        models: PATH or NAME=PATH each; `{fold}` in a path stands for the fold's name. The first is compared with.
        recipes: the same of recipes and plans, which are trained for every fold on what the protocol allows.
        protocol: `leave-one-event-out`, `few-shot`, `block`, `split` (the dataset's own), or the file of one.
        shots: by few-shot, how many scenes of an event are adapted with; see `make_protocol`.
        events: that are tested, where an event is; none tests each of them.
        informed: by few-shot, scenes to adapt with show every kind of damage, and are not drawn by hash.
        tested: by few-shot, at most so many scenes of an event are tested; 0 takes all.
        adapt: `key=value` settings of the adaptation with labels, by few-shot.
        seeds: runs of each recipe and fold.
        seed: of a protocol that is made here.
        bootstrap: resamples for the intervals; 0 leaves them out.
        overrides: `key=value` words for the recipes; those for the recipes of a plan begin with `each.`.
        include: `benchmark.json` of others by the same protocol, whose rows are shown too.
        running: how models are run; by default the fastest way on this machine.
        resume: go on with an interrupted benchmark.
        overwrite: replace a finished one.
        progress: called with the stage, scenes or steps done, and those in all.

    Raises:
        InputError: nothing to compare, or two of one name.
        DataError: data, protocol or an included file do not go together, or a fold leaks.
        ModelError: a model is not there, or tells something else than damage.
        OutputError: `out` cannot be made.
    """
    progress = progress or _silent
    if not models and not recipes:
        raise InputError("nothing to compare: name a model (-m) or a recipe (-r)")
    given, wanted = named(models, "the models"), named(recipes, "the recipes")
    named([f"{name}={path}" for name, path in (*given, *wanted)], "the models and recipes")
    check_output(out, marker=MARKER, overwrite=overwrite or resume)
    manifest = Manifest.load(data)
    folds = _protocol(
        protocol, manifest, seed=seed, shots=shots, events=events, tested=tested, informed=informed
    )
    is_few_shot = folds.kind == "few-shot"
    if adapt and not is_few_shot:
        raise InputError(f"--adapt is of few-shot, this protocol is {folds.kind}")
    check_adapting(adapt)
    scenes = check_protocol(folds, manifest)
    others = [row for file in include for row in _included(Path(file), folds)]
    running = alike(running or Options(backend="auto"), folds)
    runs = out.with_name(f"{out.name}-runs")
    entrants = [given_model(name, path, folds) for name, path in given]
    known_models(entrants)  # what is not there is told before hours of training, not after them
    for _, recipe in wanted:
        check_recipe(recipe, overrides)
    for name, recipe in wanted:
        entrants.append(
            trained_recipe(
                name,
                recipe,
                folds,
                manifest,
                runs,
                seeds=range(seeds),
                overrides=overrides,
                on_training=progress,
            )
        )
    if is_few_shot:
        entrants = with_scenes(entrants, folds, manifest, data, runs, words=adapt, on_training=progress)
    known = known_models(entrants)
    fingerprint = {
        "version": __version__,
        "protocol": folds.sha256,
        "models": {
            e.name: {f"{f} {s}": [path, known[path].identity] for (f, s), path in e.models.items()}
            for e in entrants
        },
        "running": running,
    }
    with ResultFolder(
        out,
        fingerprint,
        marker=MARKER,
        ours=FILES,
        parts="scenes",
        resume=resume,
        overwrite=overwrite,
    ) as work:
        facts: dict[str, dict[str, str]] = {}
        counts = _count_all(entrants, folds, scenes, running, work.parts, facts, progress)
        rows = _rows(entrants, folds, counts, facts, known, resamples=bootstrap)
        report = _report(folds, manifest, [*rows, *others])
        write_json(work.result / MARKER, report)
        write_text(work.result / "benchmark.csv", csv_text(_table(report)))
        write_text(work.result / "leaderboard.html", leaderboard(report, FIGURES, LOWER_IS_BETTER))
        folds.save(work.result / PROTOCOL)
        return BenchmarkResult(work.publish(), report)


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody looks."""


def _protocol(name: str | Path, manifest: Manifest, **drawn: Any) -> Protocol:
    """A protocol of a kind, made of these scenes, or that of a file."""
    for kind in get_args(Kind):
        if str(name) == kind:
            return make_protocol(manifest, kind, **drawn)
    if not Path(name).is_file():
        raise InputError(
            f"no protocol {name}: pass {', '.join(get_args(Kind))}, or the {PROTOCOL} of another benchmark"
        )
    return Protocol.load(Path(name)).only(drawn["events"])


def _included(file: Path, protocol: Protocol) -> list[dict[str, Any]]:
    """Rows of another benchmark by the same protocol."""
    file = file / MARKER if file.is_dir() else file
    report = read_json(file)
    rows = report.get("entrants") if isinstance(report, dict) else None
    if not isinstance(rows, list) or not isinstance(report.get("protocol"), dict):
        raise DataError(f"{file} is no {MARKER}")
    if report["protocol"].get("sha256") != protocol.sha256:
        raise DataError(f"{file} is by another protocol or of other data: its rows cannot stand beside these")
    return [row | {"included": True} for row in rows]


Counts = dict[tuple[str, str, int], list[SceneCounts]]


def _count_all(
    entrants: Sequence[Entrant],
    protocol: Protocol,
    scenes: dict[str, Scene],
    running: Options,
    parts: Path,
    facts: dict[str, dict[str, str]],
    progress: Progress,
) -> Counts:
    """Counts by entrant, fold and seed: each scene is read once and shown to all; what is kept from before is taken."""
    total, done = sum(len(fold.test) for fold in protocol.folds), 0
    counts: Counts = {}
    kept: dict[str, AnyPredictor] = {}
    for place, fold in enumerate(protocol.folds):
        who = [(entrant, seed) for entrant in entrants for seed in entrant.seeds]
        paths = [entrant.models[fold.name, seed] for entrant, seed in who]
        predictors = open_all(paths, running, kept)
        for (entrant, _), predictor in zip(who, predictors, strict=True):
            check_model(predictor, entrant.name)
            facts.setdefault(entrant.name, {})[predictor.sha256] = predictor.name
        for name in fold.test:
            file = parts / f"{place}-{name}.npz"
            found = load_counts(file, len(who))
            if found is None:
                target = Target.of(scenes[name])
                found = [count_scene(predictor, target) for predictor in predictors]
                save_counts(file, found)
            for (entrant, seed), one in zip(who, found, strict=True):
                counts.setdefault((entrant.name, fold.name, seed), []).append(one)
            done += 1
            progress("scoring", done, total)
    return counts


def _rows(
    entrants: Sequence[Entrant],
    protocol: Protocol,
    counts: Counts,
    facts: dict[str, dict[str, str]],
    known: dict[str, Known],
    *,
    resamples: int,
) -> list[dict[str, Any]]:
    """What the report says of every entrant; the first is what others are compared with."""
    rows: list[dict[str, Any]] = []
    figures: dict[str, _Row] = {}
    for entrant in entrants:
        by_seed, drawn = [], []
        for seed in entrant.seeds:
            found = {
                fold.name: of_scenes(
                    counts[entrant.name, fold.name, seed], resamples=resamples, seed=protocol.seed + place
                )
                for place, fold in enumerate(protocol.folds)
            }
            by_seed.append(mean_over(list(found.values()), seed=protocol.seed))
            drawn.append(found)
        folds = {fold.name: mean_of_seeds([found[fold.name] for found in drawn]) for fold in protocol.folds}
        ours = figures[entrant.name] = _Row(mean_of_seeds(by_seed), folds)
        base = entrant.base or entrants[0].name
        seen = [one for (name, _, _), some in counts.items() if name == entrant.name for one in some]
        row = {
            "name": entrant.name,
            "kind": "recipe" if entrant.trained else "model for each fold" if entrant.siblings else "model",
            "leak": provenance(entrant, protocol, known),
            "leaks": leaks(entrant, protocol, known),
            "models": facts[entrant.name],
            "learned_from": known[next(iter(entrant.models.values()))].data,
            "seeds": {
                str(seed): one.as_dict()["values"] for seed, one in zip(entrant.seeds, by_seed, strict=True)
            },
            "mean": ours.mean.as_dict(),
            "folds": {
                name: fold.as_dict() | _size(counts[entrant.name, name, entrant.seeds[0]])
                for name, fold in folds.items()
            },
            "against": None if base == entrant.name else _gaps(base, ours, figures[base]),
            "cpu_seconds_per_mpx": round(cost(seen), 4),
            "training_cpu_seconds": entrant.training_seconds,
            **({} if entrant.shots is None else {"shots": entrant.shots}),
            **curves(seen),
        }
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True)
class _Row:
    """Figures of an entrant: the mean over folds, and by fold."""

    mean: Figures
    folds: dict[str, Figures]


def _gaps(base: str, ours: _Row, theirs: _Row) -> dict[str, Any]:
    return {
        "name": base,
        "differences": difference(ours.mean, theirs.mean),
        "folds": {name: difference(fold, theirs.folds[name]) for name, fold in ours.folds.items()},
    }


def _size(counts: Sequence[SceneCounts]) -> dict[str, int]:
    return {"scenes": len(counts), "buildings": sum(len(one.truth) for one in counts)}


def _report(protocol: Protocol, manifest: Manifest, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": 1,
        "aftermap": __version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "protocol": {
            "kind": protocol.kind,
            "seed": protocol.seed,
            "sha256": protocol.sha256,
            "data": protocol.data,
            "folds": {fold.name: _fold_size(fold) for fold in protocol.folds},
            **(
                {"shots": protocol.shots, "left_out": protocol.left_out, "informed": protocol.informed}
                if protocol.shots
                else {}
            ),
        },
        "data_licence": manifest.licence or "not stated",
        "entrants": rows,
    }


def _fold_size(fold: Fold) -> dict[str, int]:
    sizes = {"train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)}
    return sizes | ({"support": len(fold.support)} if fold.support else {})


def _table(report: dict[str, Any]) -> list[list[str]]:
    """Rows of `benchmark.csv`."""
    rows = [["name", "fold", "figure", "value", "low", "high"]]
    for entrant in report["entrants"]:
        for fold, figures in {"mean": entrant["mean"], **entrant["folds"]}.items():
            for figure, value in figures["values"].items():
                edges = figures["intervals"].get(figure, ["", ""])
                known = value is not None and math.isfinite(value)
                rows.append(
                    [entrant["name"], fold, figure, str(plain(value)) if known else "", *map(str, edges)]
                )
    return rows
