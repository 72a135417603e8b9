"""Where an incremental run begins: at its first step, at one of its steps, or from a model of an earlier one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftermap.artefacts.card import Card
from aftermap.artefacts.folder import CARD_NAME
from aftermap.artefacts.store import load_card
from aftermap.classes import ClassScheme
from aftermap.config import build_config, read_tree
from aftermap.data.incremental.protocol import Protocol
from aftermap.errors import ModelError, OutputError, RecipeError, TrainingError
from aftermap.learning.experiments.tracking import flatten
from aftermap.workflows.incremental.config import IncrementalRecipe
from aftermap.workflows.incremental.step import MARK, step_folder
from aftermap.workflows.incremental.step_model import check_parent
from aftermap.workflows.training.run_folder import check_folder

_LENGTH = {"steps", "epochs", "evaluate_every", "validation_tiles", "optimizer.lr", "selection.patience"}
"""Keys in which steps of a run may differ: those that `first` and `later` change."""
_ELSEWHERE = {
    *("name", "licence", "limits", "weights_dtype"),
    *("threads", "precision", "save_every", "records", "notify", "report"),
    *("last_step", "first", "later"),
    *("data.manifests", "data.description", "data.licence"),
}
"""Keys that do not say how a step learns: what it is called, on which machine, from where, and which steps follow."""


@dataclass(frozen=True, slots=True)
class EarlierModel:
    """A model to begin from: its folder, and the step that it has learned."""

    model: Path
    step: int


def check_step_folder(folder: Path, *, resume: bool, step: int | None) -> None:
    """Refuse a folder that holds another run, or none to resume; a `step` may be added to a run."""
    if resume or step is None:
        check_folder(folder, resume=resume, ended=True)
    elif (step_folder(folder, step) / MARK).is_file():
        raise OutputError(f"{folder} already holds step {step}: pass another -o, or a later --step")
    elif (step_folder(folder, step) / "run.json").is_file():
        raise OutputError(f"{folder} holds step {step}, interrupted: pass --resume to go on with it")


def check_unfinished(folder: Path, first: int, last: int) -> None:
    """Refuse to go on with steps that are all there; some may follow a run that ended after one of them."""
    done = all((step_folder(folder, number) / MARK).is_file() for number in range(first, last + 1))
    if done and json.loads((folder / "run.json").read_text())["status"] == "complete":
        raise TrainingError(f"the run in {folder} is complete: there is nothing to resume")


def check_same(recipe: IncrementalRecipe, folder: Path, count: int) -> None:
    """Refuse a recipe that says otherwise than the steps of a run folder were learned.

    Finished steps may have had another length, which their own `recipe.yaml` tells; an interrupted one keeps its own.

    Args:
        recipe: what is to be done.
        folder: the run folder, which need not exist.
        count: steps of the task.

    Raises:
        RecipeError: it says something else.
    """
    for step in range(count):
        inside = step_folder(folder, step)
        file, is_finished = inside / "recipe.yaml", (inside / MARK).is_file()
        if not file.is_file() or not (is_finished or (inside / "resume").is_dir()):
            continue
        earlier = build_config(IncrementalRecipe, read_tree(file), source=str(file))
        left_out = _ELSEWHERE | _LENGTH if is_finished else _ELSEWHERE
        was, says = _keys(earlier, left_out), _keys(recipe.changed(step), left_out)
        key = next((key for key in {**was, **says} if was.get(key) != says.get(key)), None)
        if key is None:
            continue
        found = f"step {step} in {folder} was {'learned' if is_finished else 'begun'} with {key} {_shown(was.get(key))}"
        remedy = "leave it so" + f", or pass another -o and --from {folder}" * is_finished
        raise RecipeError(f"{found}, the recipe now says {_shown(says.get(key))}: {remedy}")


def _keys(recipe: IncrementalRecipe, left_out: set[str]) -> dict[str, Any]:
    """Values of a recipe by dotted key."""
    return {
        key: value
        for key, value in flatten(recipe.model_dump(mode="json"))
        if key not in left_out and key.partition(".")[0] not in left_out
    }


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def earlier_classes(
    folder: Path, *, resume: bool, step: int | None, start: Path | None
) -> ClassScheme | None:
    """The classes of the model that a run begins from; None where it begins without one.

    Datasets need not label them, for the images of the years before may not be at hand.

    Raises:
        ModelError: there is no model in `start`.
    """
    if step == 0:
        return None
    if start is None and resume:
        given = json.loads((folder / "run.json").read_text()).get("start")
        if given is not None:
            adopted = step_folder(folder, int(given["step"])) / "model"
            start = adopted if (adopted / CARD_NAME).is_file() else Path(given["model"])
    before = None if step is None else step - 1
    if start is not None:
        return load_card(model_of(start, before)).classes
    if before is None or not (step_folder(folder, before) / "model" / CARD_NAME).is_file():
        return None
    return load_card(step_folder(folder, before) / "model").classes


def first_step(
    recipe: IncrementalRecipe,
    protocol: Protocol,
    folder: Path,
    count: int,
    *,
    resume: bool,
    step: int | None,
    start: Path | None,
) -> tuple[int, EarlierModel | None]:
    """The first step to run, and the model given for the one before.

    Raises:
        RecipeError: there is no such step, or nothing is left to learn.
        TrainingError: the model of the step before is missing.
        ModelError: the model given learned other classes, or in another order.
    """
    facts = json.loads((folder / "run.json").read_text()) if (folder / "run.json").is_file() else {}
    if facts and facts["protocol_sha256"] != protocol.sha256:
        raise RecipeError(
            f"{folder} holds a run of task {facts['protocol']['task']} with another order of classes, filter or seed "
            "than this recipe, or with datasets of other classes: pass the recipe that it was started with, or another "
            "-o and --from"
        )
    if step is not None and not 0 <= step < count:
        raise RecipeError(f"--step {step}: task {protocol.task} has the steps 0 to {count - 1}")
    if resume and start is None and facts.get("start") is not None:
        start = Path(facts["start"]["model"])
        if step is None:
            return int(facts["start"]["step"]) + 1, EarlierModel(start, int(facts["start"]["step"]))
    if step == 0 and start is not None:
        raise RecipeError(
            "--step 0 begins without a model of an earlier step: leave --from out, or use init_from"
        )
    if start is not None:
        given = EarlierModel(model_of(start, None if step is None else step - 1), 0)
        card = load_card(given.model)
        found = learned_step(card, protocol, name=str(start))
        if step is not None and found != step - 1:
            raise ModelError(
                f"{start} has learned step {found} of task {protocol.task}, --step {step} needs the model of step "
                f"{step - 1}"
            )
        if found >= count - 1:
            raise RecipeError(f"{start} has learned step {found}, the last one: nothing is left to learn")
        check_parent(card, recipe, protocol, found + 1, name=str(given.model))
        return found + 1, EarlierModel(given.model, found)
    if step:
        before = step_folder(folder, step - 1)
        if not (before / MARK).is_file():
            raise TrainingError(
                f"{before} holds no model of step {step - 1}, which step {step} begins from: run --step {step - 1} "
                "first, or name a model with --from"
            )
        check_parent(load_card(before / "model"), recipe, protocol, step, name=str(before / "model"))
    return step or 0, None


def model_of(start: Path, step: int | None) -> Path:
    """The model folder that is meant by a model folder, a step's folder, or a run folder.

    Args:
        start: the folder.
        step: of a run folder the model of this step; None takes the first.

    Raises:
        ModelError: there is none.
    """
    for candidate in (start, start / "model") if not (start / "steps").is_dir() else ():
        if (candidate / CARD_NAME).is_file():
            return candidate
    inside = step_folder(start, step or 0) / "model"
    if (inside / CARD_NAME).is_file():
        return inside
    raise ModelError(f"--from {start}: neither a model folder nor a run with a model of step {step or 0}")


def learned_step(card: Card, protocol: Protocol, *, name: str) -> int:
    """The step of a protocol after which a model has exactly the classes that this one has, in their order.

    Raises:
        ModelError: there is none.
    """
    names = card.classes.names
    if card.activation != "softmax" or card.channel_0 != "background":
        raise ModelError(
            f"{name} tells its classes by {card.activation} with {card.channel_0} in channel 0: a model to begin from "
            "tells all classes, the background first, by softmax"
        )
    if protocol.places and protocol.channel_names(0) == names:
        return _step_of_places(card, protocol, name)
    for step in range(len(protocol.steps)):
        if protocol.channel_names(step) == names:
            return step
    orders = " | ".join(", ".join(protocol.names(labels)) for labels in protocol.steps)
    raise ModelError(
        f"{name} has learned {', '.join(names[1:])} in this order, task {protocol.task} learns {orders}: begin from a "
        "model of the same task"
    )


def _step_of_places(card: Card, protocol: Protocol, name: str) -> int:
    """The step of a task of places that a model of all its classes has learned; 0 where its card tells of no places."""
    learned = () if card.incremental is None else card.incremental.places
    if learned and learned != protocol.places[: len(learned)]:
        found, wanted = (
            " | ".join(", ".join(own) for own in places) for places in (learned, protocol.places)
        )
        raise ModelError(
            f"{name} has learned the places {found} in this order, task {protocol.task} learns {wanted}: begin from a "
            "model of the same task"
        )
    return max(len(learned) - 1, 0)
