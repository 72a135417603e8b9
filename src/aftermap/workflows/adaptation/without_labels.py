"""A trained model adapted to an event without labels, with a verdict on whether that helped."""

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from aftermap.artefacts.card import Card
from aftermap.artefacts.ensemble import is_ensemble
from aftermap.artefacts.store import LoadedModel, load_model, save_model
from aftermap.config import build_config, read_tree
from aftermap.data.loading.loader import CropSource
from aftermap.data.loading.sampling import ClassSampling
from aftermap.data.scene import has_labels
from aftermap.errors import ModelError, RecipeError, TrainingError
from aftermap.inference.predictor import Predictor
from aftermap.learning.experiments.records import Records
from aftermap.learning.experiments.tracking import connect
from aftermap.learning.loop import Training, fit
from aftermap.learning.meta import refresh_statistics
from aftermap.learning.objectives.mean_teacher import MeanTeacher
from aftermap.learning.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.run import Run, data_checksum
from aftermap.learning.trainable import tune_only
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.adaptation.event_scenes import EventScenes, event_scenes
from aftermap.workflows.adaptation.guard import Evidence, gather_evidence, judge
from aftermap.workflows.adaptation.report import EventAdapted, card_of, measures, truth_of, write_report
from aftermap.workflows.adaptation.with_labels import AdaptProgress
from aftermap.workflows.adaptation.without_labels_config import AdaptEventRecipe
from aftermap.workflows.scoring.evaluate import spread

Tell = Callable[[Literal["before", "adapting", "after"], int, int], None]


def adapt_event(
    recipe: AdaptEventRecipe,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    on_progress: Callable[[AdaptProgress], None] | None = None,
) -> EventAdapted:
    """Adapt a model to the unlabelled scenes of an event and write it, with the verdict of the guard rails.

    Where they refuse, the folder gets the parent's weights (see `AdaptEventRecipe.force`). Written are `model/`,
    `adaptation.json`, `before-after.png`, `recipe.yaml`, `run.json` and `metrics.jsonl`.

    Args:
        recipe: what to do.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        resume: go on from the saved state, to the same weights as without the interruption.
        command: how the user asked for it; goes to the card.
        on_progress: called after every step and stage.

    Raises:
        DataError: no scene of the event, or not of the dates that the model needs.
        ModelError: there is no such model, it is an ensemble, or has nothing that could be adapted.
        RecipeError: crops or an objective that the model does not take.
        OutputError: the run folder exists or cannot be written.
        TrainingError: a loss is not finite, or there is nothing to resume.
    """
    started = time.monotonic()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    if is_ensemble(recipe.model):
        raise ModelError(
            f"{recipe.model} is an ensemble: adapt its members one by one, they are its sub-folders"
        )
    parent = load_model(recipe.model)
    given = event_scenes(recipe, parent.card)
    check_recipe(recipe, parent)
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    if resume:
        run = Run(folder)
        run.record(status="running")
    else:
        Run.check_new(folder)
    connection = connect(recipe.records, folder)
    if not resume:
        facts = {
            "seed": recipe.seed,
            "task": given.target,
            "events": sorted({scene.event for scene in given.scenes}),
            "training_scenes": len(given.scenes),
            "source_scenes": len(given.source),
            "parent_sha256": parent.sha256,
            "data_checksum": data_checksum([*given.bare, *given.source]),
        }
        run = Run.start(folder, text, facts)
        shutil.rmtree(folder / "samples", ignore_errors=True)  # empty: there is one picture, of another kind

    def tell(stage: Literal["before", "adapting", "after"], done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(AdaptProgress(stage, done, total))

    with Records(connection, run, recipe.model_dump(mode="json")) as records:
        return _adapt(recipe, run, records, parent, given, command, tell, started)


def resumed_event_recipe(folder: Path, overrides: Sequence[str] = ()) -> AdaptEventRecipe:
    """The recipe of an interrupted adaptation, from its folder.

    Raises:
        TrainingError: there is none to go on with.
    """
    file, facts = folder / "recipe.yaml", folder / "run.json"
    if not file.is_file() or not facts.is_file() or json.loads(facts.read_text())["status"] == "complete":
        raise TrainingError(f"{folder} holds no interrupted run to resume")
    return build_config(AdaptEventRecipe, read_tree(file), list(overrides), source=str(file))


def check_recipe(recipe: AdaptEventRecipe, parent: LoadedModel) -> None:
    """Refuse what does not go with the model.

    Raises:
        RecipeError: crops, or an objective.
        ModelError: statistics are to be adapted, and it has none.
    """
    stride = parent.model.stride
    if recipe.crop_px % stride:
        near = max(1, round(recipe.crop_px / stride)) * stride
        raise RecipeError(
            f"crop_px is {recipe.crop_px}, this model needs multiples of {stride}, such as {near}"
        )
    if recipe.method == "batch-norm":
        if not any(name.endswith("running_mean") for name in parent.model.state_dict()):
            raise ModelError(
                f"{recipe.model} has no batch normalisation, so there is nothing that method batch-norm could adapt: "
                "use mean-teacher"
            )
        return
    try:
        recipe.objective.check_classes(parent.model.classes)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if recipe.objective.activation != parent.card.activation:
        raise RecipeError(
            f"objective.activation is {recipe.objective.activation}, the model's is {parent.card.activation}: "
            f"say objective.activation={parent.card.activation}"
        )


def adapted_model(
    recipe: AdaptEventRecipe,
    given: EventScenes,
    *,
    run: Run | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> LoadedModel:
    """The parent with the weights, or statistics, that the event gave it.

    Args:
        recipe: what to do.
        given: the scenes.
        run: where the state is kept, and gone on with where there is one.
        on_step: called after every step with its number and loss.

    Raises:
        TrainingError: a loss is not finite.
    """
    child = load_model(recipe.model)
    with closing(_crops(recipe, given, child.card)) as source:
        if recipe.method == "mean-teacher":
            model = _learned(recipe, child, source, run, on_step)
        else:
            model = _restated(recipe, child, source, on_step)
    return LoadedModel(model.eval(), child.card, child.path, child.sha256)


def _learned(
    recipe: AdaptEventRecipe,
    child: LoadedModel,
    source: CropSource,
    run: Run | None,
    on_step: Callable[[int, float], None] | None,
) -> DenseModel:
    """The mean teacher's teacher after all steps."""
    torch.manual_seed(recipe.seed)
    objective = MeanTeacher(recipe.objective, child.model)
    tune_only(child.model, recipe.tune)
    schedule = CosineConfig(warmup_steps=min(10, recipe.steps), final_fraction=0.1)
    training = Training(
        child.model,
        objective,
        # nothing but the event pulls: decay would shrink the weights of a trained model
        OptimizerConfig(lr=recipe.lr, weight_decay=0.0, schedule=schedule),
        steps=recipe.steps,
        seed=recipe.seed,
        precision=recipe.precision,
    )
    source.device = training.accelerator.device
    if run is not None and run.resume.is_dir():
        training.load(run.resume)
    try:
        for step in fit(training, source):
            if run is not None and step.number % recipe.save_every == 0:
                training.save(run.resume)
                run.append_metrics({"step": step.number, "loss": step.loss, "lr": step.lr, **step.terms})
            if on_step is not None:
                on_step(step.number, step.loss)
    except KeyboardInterrupt:
        if run is not None:
            training.save(run.resume)
        raise
    return objective.evaluated(child.model).to("cpu")


def _restated(
    recipe: AdaptEventRecipe,
    child: LoadedModel,
    source: CropSource,
    on_step: Callable[[int, float], None] | None,
) -> DenseModel:
    """The model with its statistics moved towards those of the crops."""
    before = {name: value.clone() for name, value in child.model.state_dict().items()}

    def batches() -> Any:
        for number in range(recipe.steps):
            yield source.batch(number)
            if on_step is not None:
                on_step(number + 1, math.nan)

    refresh_statistics(child.model, batches())
    for name, value in child.model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.lerp(before[name], value, recipe.statistics))
        elif name.endswith("num_batches_tracked"):
            value.copy_(before[name])
    return child.model


def _crops(recipe: AdaptEventRecipe, given: EventScenes, card: Card) -> CropSource:
    """Crops of the event without labels, and of the source with them."""
    share = 0.0 if recipe.source is None else recipe.source.share
    return CropSource(
        [*given.source, *given.bare],
        target=given.target,
        dates=card.dates,
        sampling=ClassSampling(
            crop_px=recipe.crop_px, batch_size=recipe.batch_size, unlabelled_share=1.0 - share
        ),
        augment=recipe.augment,
        bands=card.bands,
        mean=card.normalisation.mean,
        std=card.normalisation.std,
        seed=recipe.seed,
    )


def _adapt(
    recipe: AdaptEventRecipe,
    run: Run,
    records: Records,
    parent: LoadedModel,
    given: EventScenes,
    command: str,
    tell: Tell,
    started: float,
) -> EventAdapted:
    """Gather evidence, learn, gather it again, judge, and write what came of it."""
    looked_at = given.scenes if recipe.guard.labels else given.bare
    predictor = Predictor(parent, device=recipe.device)
    judged = [s for s in given.scenes if has_labels(s, given.target)] if recipe.evaluate else []
    judged = spread(judged, recipe.evaluated)
    known = run.facts().get("before")
    tell("before", 0, 1)
    if known is None:
        before = gather_evidence(predictor, looked_at, recipe.guard)
        truth_before = truth_of(predictor, judged)
        run.record(before={"evidence": before.as_dict(), "truth": truth_before})
        run.append_metrics({"step": 0, **measures(before, truth_before)})
        records.log(0, measures(before, truth_before), kept=False)
    else:
        before, truth_before = Evidence.of(known["evidence"]), known["truth"]
        run.metrics(up_to_step=_saved_step(run))
    tell("before", 1, 1)
    child = adapted_model(
        recipe, given, run=run, on_step=lambda number, loss: tell("adapting", number, recipe.steps)
    )
    tell("after", 0, 1)
    changed = Predictor(child, device=recipe.device)
    after = gather_evidence(changed, looked_at, recipe.guard, teacher=predictor)
    truth_after = truth_of(changed, judged)
    tell("after", 1, 1)
    verdict = judge(before, after, recipe.guard)
    kept: Literal["adapted", "parent"] = "adapted" if verdict.kept == "student" or recipe.force else "parent"
    line = {"step": recipe.steps, **measures(after, truth_after)}
    run.append_metrics(line)
    records.log(recipe.steps, measures(after, truth_after), kept=kept == "adapted")
    minutes = (time.monotonic() - started) / 60
    adapted = EventAdapted(
        run.model, kept, verdict, before, after, truth_before, truth_after, len(given.scenes), minutes
    )
    card = card_of(parent, recipe, given, adapted, command)
    stored = parent.card.weights.dtype if parent.card.weights is not None else "float32"
    save_model(
        run.model,
        (parent if kept == "parent" else child).model,
        card,
        dtype="float16" if stored == "float16" else "float32",
    )
    write_report(run.folder, recipe, given, predictor, changed, adapted)
    shutil.rmtree(run.resume, ignore_errors=True)
    run.record(minutes=round(minutes, 2), kept=kept, best=line)
    return adapted


def _saved_step(run: Run) -> int:
    """The step that an interrupted run goes on from."""
    file = run.resume / "step.json"
    return int(json.loads(file.read_text())["step"]) if file.is_file() else 0
