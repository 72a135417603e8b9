"""A model against labelled scenes: whole-scene prediction, scores by pixel and by building."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np

from aftermap.artefacts.card import BaseCard
from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.mask_png import count_values
from aftermap.data.scene import Manifest, Scene, Target, labelled_scenes, read_images, read_mask
from aftermap.errors import DataError, InputError, ModelError
from aftermap.heap import keeping
from aftermap.inference.agreement import lookup_between
from aftermap.inference.ensemble import RunningKeywords, opened
from aftermap.inference.postprocess import Decision, spread_minor
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.stitching import evaluate_classes
from aftermap.inference.tiling import predict_scene
from aftermap.scoring.building_maps import BuildingMapScore
from aftermap.scoring.class_scores import ClassScores
from aftermap.scoring.decision_weights import tune_weights
from aftermap.scoring.objects import BuildingScore
from aftermap.scoring.pixels import PixelScores, Score
from aftermap.workflows.scoring.by_workers import by_workers, named_model, refuse_failed, scenes_by_name
from aftermap.workflows.scoring.score import ScoreReport
from aftermap.worklist.job import Do, Job
from aftermap.worklist.run import Engine, check_engine

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a model on some scenes.

    Attributes:
        report: scores by pixel and by building; damage figures are NaN for a localization model, which has those of
            a building map instead.
        best_threshold: building threshold with the highest pixel F1 on these scenes.
        best_weights: factors of the damage classes with the highest damage F1 on these scenes, on top of those
            that the predictor applies; None for a localization model.
    """

    report: ScoreReport
    best_threshold: float
    best_weights: tuple[float, ...] | None


def decide(probabilities: np.ndarray, decision: Decision | float) -> tuple[np.ndarray, np.ndarray | None]:
    """Building mask and damage classes of probabilities (K, H, W).

    Args:
        probabilities: of the background and the classes.
        decision: thresholds and what minor damage takes over; a number is the building threshold of all classes.

    Returns:
        building uint8 0/1 (H, W) where p(building) is above the threshold of the likeliest class; damage uint8
        1..4 (H, W), that class whether or not there is a building, or None for a model of two classes.
    """
    if not isinstance(decision, Decision):
        decision = Decision((decision,) * (len(probabilities) - 1))
    building, damage = decision.classify(probabilities)
    if len(probabilities) == 2:
        return building.astype(np.uint8), None
    if decision.minor_dilation == "none":
        return building.astype(np.uint8), damage
    spread = spread_minor(np.where(building, damage, np.uint8(0)), decision.minor_dilation)
    return building.astype(np.uint8), np.where(building, spread, damage)


@keeping()  # every scene wants the same arrays again
def evaluate(
    predictor: AnyPredictor,
    scenes: Sequence[Scene],
    *,
    threshold: float | None = None,
    bootstrap: int = 0,
    boundary_m: float | None = None,
    on_scene: Callable[[Scene, np.ndarray, np.ndarray], None] | None = None,
) -> Evaluation:
    """Score a model on labelled scenes, one at a time.

    Args:
        predictor: the model.
        scenes: those without labels are passed over.
        threshold: building threshold of all classes; what the card says where None.
        bootstrap: resamples for the intervals.
        boundary_m: width of the band of boundary IoU in metres, instead of 2 % of the diagonal.
        on_scene: called with each scene, its images (T, 3, H, W) and its probabilities (K, H, W).

    Raises:
        ValueError: no scene has labels.
        ModelError: the model tells a legend's classes; see `recipes.evaluate_classes`.
        DataError: the boundary is wanted in metres, and a scene has no ground resolution.
    """
    require_scheme(predictor.card, "this evaluation", "score it with 'aftermap evaluate'")
    decision = Decision.of(predictor.card, threshold=threshold)
    tally = Tally(decision, boundary_m=boundary_m)
    for scene in (s for s in scenes if s.is_labelled):
        images = read_images(scene, dates=predictor.dates)
        probabilities = predict_scene(predictor, images)
        tally.add(scene, probabilities)
        if on_scene is not None:
            on_scene(scene, images, probabilities)
    return tally.evaluation(bootstrap=bootstrap)


class Tally:
    """What is counted of scenes, one after the other or in several places that are merged.

    Args:
        decision: how probabilities become classes.
        boundary_m: width of the band of boundary IoU in metres.
    """

    def __init__(self, decision: Decision, *, boundary_m: float | None = None) -> None:
        self._decision = decision
        self._pixels, self._buildings = Score(), BuildingScore()
        self._map = BuildingMapScore(boundary_m=boundary_m)
        self._histogram = np.zeros((2, 201), np.int64)  # building or not, by probability in half percents
        self._sampled: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, scene: Scene, probabilities: np.ndarray) -> None:
        """Count a labelled scene with its probabilities (K, H, W)."""
        building, damage = decide(probabilities, self._decision)
        truth = read_mask(scene, target="building")
        truth_damage = read_mask(scene, target="damage") if damage is not None else None
        for score in (self._pixels, self._buildings):
            score.add(building, damage, truth, truth_damage, event=scene.event, scene=scene.name)
        if damage is None:
            self._map.add(
                building, truth, event=scene.event, scene=scene.name, resolution_m=scene.resolution_m
            )
        bins = np.rint((1 - probabilities[0]) * 200).astype(np.uint8)
        for value in (0, 1):
            self._histogram[value] += count_values(np.where(truth == value, bins, np.uint8(IGNORE)))[:201]
        if truth_damage is not None:
            self._sampled.append(_damage_sample(probabilities, truth_damage))

    def merge(self, other: "Tally") -> None:
        """Add what was counted elsewhere, its scenes behind these."""
        self._pixels.merge(other._pixels)
        self._buildings.merge(other._buildings)
        self._map.merge(other._map)
        self._histogram += other._histogram
        self._sampled += other._sampled

    def without_samples(self) -> "Tally":
        """The same without the pixels that weights are tuned on, so that only counts are left."""
        self._sampled = []
        return self

    def evaluation(self, *, bootstrap: int = 0) -> Evaluation:
        """The scores of all that was counted."""
        weights = None
        if self._sampled:
            columns = (np.concatenate(column) for column in zip(*self._sampled, strict=True))
            weights = tuple(round(float(w), 4) for w in tune_weights(*columns))
        report = ScoreReport(
            self._pixels.result(bootstrap=bootstrap),
            self._buildings.result(bootstrap=bootstrap),
            (),
            self._map.result(bootstrap=bootstrap) if len(self._map) else None,
        )
        return Evaluation(report, best_threshold(self._histogram), weights)


def _damage_sample(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every eighth target building pixel: probabilities of the damage classes (N, 4) and class index 0 to 3."""
    rows, cols = np.nonzero((truth > 0) & (truth != IGNORE))
    rows, cols = rows[::8], cols[::8]
    return probabilities[1:, rows, cols].T, truth[rows, cols].astype(np.int64) - 1


def best_threshold(histogram: np.ndarray) -> float:
    """Threshold with the highest F1, from counts (2, N) of background and building by probability 0..1."""
    background, building = (row[::-1].cumsum()[::-1].astype(float) for row in histogram)
    f1 = 2 * building / np.maximum(building + background + building[0], 1)
    threshold = (int(f1.argmax()) - 0.5) / (histogram.shape[1] - 1)
    return float(min(max(threshold, 0.05), 0.95))


def spread(scenes: Sequence[T], count: int) -> list[T]:
    """At most `count` scenes, or others, evenly spaced in their order; 0 takes all."""
    if count <= 0 or count >= len(scenes):
        return list(scenes)
    return [scenes[i] for i in np.linspace(0, len(scenes) - 1, count).round().astype(int)]


def decisive_score(pixels: PixelScores) -> float:
    """What says whether an adaptation helped: 0.3 localization F1 + 0.7 mean F1 of the damage classes that occur.

    The official score takes the harmonic mean, which is 0 as soon as one class is never found: on the few scenes of
    one event it could not tell a model that has forgotten the other classes from one that has not. Where no damage was
    measured it is the localization F1.
    """
    occurring = [
        pixels.damage_f1_per_class[name]
        for level, name in enumerate(DAMAGE.names)
        if level and sum(pixels.confusion[level])
    ]
    if not occurring or any(math.isnan(value) for value in occurring):
        return pixels.localization_f1
    return 0.3 * pixels.localization_f1 + 0.7 * statistics.fmean(occurring)


class EvaluateOptions(RunningKeywords, total=False):
    """Keywords of `evaluate_dataset`."""

    split: str
    events: Sequence[str]
    threshold: float | None
    bootstrap: int
    boundary_m: float | None
    workers: int
    engine: Engine
    address: str | None
    on_scene: Callable[..., None] | None


def evaluate_dataset(
    model: str | Path | AnyPredictor,
    data: Path,
    *,
    split: str = "test",
    events: Sequence[str] = (),
    threshold: float | None = None,
    bootstrap: int = 1000,
    boundary_m: float | None = None,
    workers: int = 1,
    engine: Engine = "processes",
    address: str | None = None,
    on_scene: Callable[..., None] | None = None,
    **running: Unpack[RunningKeywords],
) -> ScoreReport | ClassScores:
    """Score any model on the labelled scenes of a dataset, by what it tells.

    Args:
        model: a model or ensemble folder, an exported model, `box`, or one that is open.
        data: a prepared dataset.
        split: which scenes: `train`, `validation`, `test`, `unassigned` or `all`.
        events: only these; all by default.
        threshold: building threshold of all classes instead of the card's.
        bootstrap: resamples of the scenes for the intervals; 0 leaves them out.
        boundary_m: width in metres of the band in which boundary IoU compares outlines; by default 2 % of the diagonal.
        workers: how many, each with the model; models with a legend take one, as tiles of an image are stitched.
        engine: processes of this machine, or actors of Ray on machines that see the same folders.
        address: of the Ray cluster.
        on_scene: called with each scene.
        running: how a model that is not open yet is run; see `aftermap.inference.ensemble.Options`.

    Raises:
        InputError: options that a model with a legend does not take.
        DataError: no labelled scenes, or the dataset has other classes than the model.
    """
    scenes = labelled_scenes(data, split, events)
    check_engine(engine, address)
    if workers > 1 or engine == "ray":
        return _evaluate_by_workers(
            model,
            data,
            scenes,
            workers=workers,
            engine=engine,
            address=address,
            threshold=threshold,
            bootstrap=bootstrap,
            boundary_m=boundary_m,
            on_scene=on_scene,
            running=running,
        )
    predictor = opened(model, **running)
    manifest = Manifest.load(data)
    if predictor.card.legend is not None:
        if threshold is not None or boundary_m is not None:
            raise InputError(
                f"{predictor.name} tells classes by the likeliest: leave --threshold and --boundary-m out"
            )
        return evaluate_legend(predictor, manifest, scenes, on_scene=on_scene)
    if manifest.legend is not None:
        raise DataError(
            f"{data} is labelled with the classes of {manifest.legend.name}, {predictor.name} tells "
            f"{predictor.card.scheme}: give a model with a legend, or a dataset of buildings or damage"
        )
    return evaluate(
        predictor,
        scenes,
        threshold=threshold,
        bootstrap=bootstrap,
        boundary_m=boundary_m,
        on_scene=on_scene,
    ).report


def evaluate_legend(
    predictor: AnyPredictor,
    manifest: Manifest,
    scenes: Sequence[Scene],
    *,
    on_scene: Callable[..., None] | None = None,
) -> ClassScores:
    """Score a model with a legend on scenes of a dataset, whose classes are found by their names.

    Pixels of classes that the model does not have are left out. Tiles of a large image are stitched: each of its pixels
    counts once.

    Args:
        predictor: the model.
        manifest: of the dataset.
        scenes: of it, labelled.
        on_scene: called after every scene.

    Raises:
        DataError: the dataset has none of the model's classes, or no known pixel.
    """
    dataset, model = manifest.class_scheme, predictor.card.classes
    lookup = lookup_between(dataset, model)
    if (lookup[: len(dataset)] == IGNORE).all():
        raise DataError(
            f"the data is labelled with {', '.join(dataset.names)}, the model tells {', '.join(model.names)}: "
            "they have no class in common"
        )
    target: Target = "classes"
    if manifest.legend is None:
        target = "damage" if dataset == DAMAGE else "building"
    confusion = evaluate_classes(
        predictor, scenes, lookups=lookup, classes=len(model), target=target, on_scene=on_scene
    )
    return ClassScores.of(confusion, names=model.names, background=model.background)


def require_scheme(card: BaseCard, command: str, instead: str) -> None:
    """Refuse a model with a legend where only buildings and damage are known.

    Raises:
        ModelError: it has one; says what to do.
    """
    if card.legend is not None:
        raise ModelError(
            f"{command} is about buildings and their damage, {card.name} tells the classes of {card.scheme}: {instead}"
        )


def class_file(folder: Path, scene: Scene) -> Path:
    """Where the map of a scene goes: `<scene>_classes_prediction.png`."""
    return folder / f"{scene.name}_classes_prediction.png"


def describe_classes(card: BaseCard) -> dict[str, Any]:
    """What the values of such maps mean, for `classes.json`."""
    return {
        "legend": card.scheme,
        "classes": [
            {"value": value, "name": name, "colour": colour}
            for value, (name, colour) in enumerate(zip(card.classes.names, card.classes.colours, strict=True))
        ],
    }


@dataclass(frozen=True)
class EvaluateWork:
    """Counting scenes of a dataset; arguments as those of `evaluate`."""

    model: str
    data: Path
    threshold: float | None
    boundary_m: float | None
    running: Mapping[str, Any]

    def start(self) -> Do:
        """Open the model and the dataset's list."""
        predictor, scenes = opened(self.model, **self.running), scenes_by_name(self.data)
        require_scheme(predictor.card, "--workers", "evaluate it with one process, which stitches tiles")
        decision = Decision.of(predictor.card, threshold=self.threshold)

        def do(job: Job) -> Mapping[str, Any]:
            scene = scenes[job.name]
            tally = Tally(decision, boundary_m=self.boundary_m)
            tally.add(scene, predict_scene(predictor, read_images(scene, dates=predictor.dates)))
            return {"tally": tally.without_samples()}

        return do


def _evaluate_by_workers(
    model: str | Path | AnyPredictor,
    data: Path,
    scenes: Sequence[Scene],
    *,
    workers: int,
    engine: Engine,
    address: str | None,
    threshold: float | None,
    bootstrap: int,
    boundary_m: float | None,
    on_scene: Callable[..., None] | None,
    running: RunningKeywords,
) -> ScoreReport:
    """The same by several processes; a scene that could not be counted is refused."""
    manifest = Manifest.load(data)
    if manifest.legend is not None:
        raise DataError(
            f"{data} is labelled with the classes of {manifest.legend.name}: evaluate it without --workers"
        )
    work = EvaluateWork(named_model(model), data.absolute(), threshold, boundary_m, dict(running))
    ended = by_workers(work, scenes, workers, on_scene, engine=engine, address=address)
    refuse_failed(ended, "evaluated, and without them the figures would be others")
    whole = Tally(Decision((0.5,)), boundary_m=boundary_m)
    for outcome in ended:
        whole.merge(outcome.facts["tally"])
    return whole.evaluation(bootstrap=bootstrap).report
