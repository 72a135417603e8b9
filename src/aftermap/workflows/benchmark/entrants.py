"""Who takes part in a benchmark: models as they are, a model for each fold, or recipes that were trained for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aftermap.artefacts.ensemble import is_ensemble, read_card
from aftermap.artefacts.exported import is_exported, load_exported_card
from aftermap.artefacts.store import model_folder
from aftermap.errors import InputError, ModelError
from aftermap.files.plain_json import read_json
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.wording import counted
from aftermap.workflows.benchmark.protocol import Protocol

FOLD = "{fold}"
_BY_EVENT = ("leave-one-event-out", "few-shot")


@dataclass(frozen=True)
class Entrant:
    """One row of the leaderboard.

    Attributes:
        name: what it is called.
        models: model folder by fold and seed.
        trained: by the benchmark itself, on what the protocol allows.
        siblings: a model for each fold, made by its user.
        seeds: of the recipe; (0,) for models.
        shots: by few-shot, labelled scenes of the event that it was adapted with.
        base: name of the row that it is compared with; None for the first of all.
        begun_from: models from elsewhere that a recipe begins with or is taught by, by fold and seed.
        training_seconds: processor time of its trainings, evaluations included, the mean over folds and seeds; None where
            nothing tells.
    """

    name: str
    models: dict[tuple[str, int], str]
    trained: bool = False
    siblings: bool = False
    seeds: tuple[int, ...] = (0,)
    shots: int | None = None
    base: str | None = None
    begun_from: Mapping[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    training_seconds: float | None = None


@dataclass(frozen=True)
class Known:
    """What is known of a model before it is run.

    Attributes:
        identity: changes with its weights and with how it decides.
        data: what it has learned from, in its maker's words.
        events: that it has learned from; empty where nothing tells.
    """

    identity: str
    data: str
    events: frozenset[str]


def known_model(path: str) -> Known:
    """Read the card of a model, and what its run says where it lies in one.

    Raises:
        ModelError: there is none.
    """
    if is_exported(path):
        exported = load_exported_card(path)
        return Known(exported.model_dump_json(), exported.training.data, frozenset(exported.training.events))
    card = read_card(path)
    events = set(card.training.events)
    if path != "box" and not is_ensemble(path):
        run = model_folder(path).parent / "run.json"
        facts = read_json(run) if run.is_file() else {}
        events |= set(facts.get("events") or ())
    return Known(card.model_dump_json(), card.training.data, frozenset(events))


def known_models(entrants: Sequence[Entrant]) -> dict[str, Known]:
    """What is known of all models, by path; looked at before the first scene is.

    Raises:
        ModelError: one is not there; it is told whose and of which fold.
    """
    found: dict[str, Known] = {}
    for entrant in entrants:
        others = [(fold, path) for (fold, _), paths in entrant.begun_from.items() for path in paths]
        for fold, path in (*((fold, path) for (fold, _), path in entrant.models.items()), *others):
            if path in found:
                continue
            try:
                found[path] = known_model(path)
            except ModelError as error:
                if not entrant.siblings:
                    raise
                raise ModelError(f"{entrant.name} has no model for fold {fold}: {error}") from None
    return found


def leaks(entrant: Entrant, protocol: Protocol, known: Mapping[str, Known]) -> list[str]:
    """Folds whose event a model has learned from, by what is known of it and of those that it begins with.

    Only where a fold is an event that is left out: by blocks and splits the same event lies on both sides. A model that
    was adapted to the event by few-shot has the row of the model before beside it.
    """
    if protocol.kind not in _BY_EVENT or entrant.shots:
        return []
    seen = [
        key[0]
        for key in entrant.models
        if any(key[0] in known[path].events for path in _behind(entrant, key))
    ]
    return list(dict.fromkeys(seen))


def provenance(entrant: Entrant, protocol: Protocol, known: Mapping[str, Known]) -> str:
    """In words, what is known of whether the tested scenes were learned from."""
    adapted = (
        f"; adapted with {counted(entrant.shots, 'scene')} apart from those tested" if entrant.shots else ""
    )
    seen = leaks(entrant, protocol, known)
    if seen:
        return f"leaks: it has learned from {', '.join(seen)}, on which it is tested"
    tells = protocol.kind in _BY_EVENT and not entrant.shots
    told = tells and all(known[path].events for key in entrant.models for path in _behind(entrant, key))
    others = ", ".join(sorted({path for paths in entrant.begun_from.values() for path in paths}))
    if entrant.trained and not others:
        return f"checked: trained on what the protocol allows{adapted}"
    if entrant.trained and told:
        return f"checked: trained on what the protocol allows; {others}, which it begins with, names other events"
    if entrant.trained:
        begun = f"but it begins with {others}, which names no events"
        return f"not checked: trained on what the protocol allows, {begun}{adapted}"
    how = "one model for each fold" if entrant.siblings else "one model for all folds"
    if told:
        return f"{how}; the events that its card or run names are not among those tested{adapted}"
    if entrant.siblings:
        return f"not checked: {how}, as its maker says{adapted}"
    learned_from = known[next(iter(entrant.models.values()))].data
    return f"not checked: {how}, learned from {learned_from}{adapted}"


def _behind(entrant: Entrant, key: tuple[str, int]) -> tuple[str, ...]:
    """The model of a fold and seed, unless it was trained here, and those that it begins with."""
    before = entrant.begun_from.get(key, ())
    return before if entrant.trained else (entrant.models[key], *before)


def open_all(paths: Sequence[str], options: Options, kept: dict[str, AnyPredictor]) -> list[AnyPredictor]:
    """The models of these paths, those in `kept` as they are; afterwards it holds these and no other."""
    needed = {path: kept.get(path) for path in paths}
    kept.clear()
    for path, predictor in needed.items():
        kept[path] = predictor or open_predictor(path, options)
    return [kept[path] for path in paths]


def named(words: Sequence[str], what: str) -> list[tuple[str, str]]:
    """(name, path) of words such as `mine=runs/mine/model` or `runs/mine/model`; without a name the path gives it.

    Raises:
        InputError: two of one name.
    """
    found: dict[str, str] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not sign:
            name, path = _short(word), word
        if not name or not path:
            raise InputError(f"{word!r} is not {what}: pass it as PATH or NAME=PATH")
        if name in found:
            raise InputError(f"two of {what} are called {name}: give names, such as other={path}")
        found[name] = path
    return list(found.items())


def given_model(name: str, path: str, protocol: Protocol) -> Entrant:
    """A model for all folds, or one for each where the path holds `{fold}`."""
    models = {(fold.name, 0): path.replace(FOLD, fold.name) for fold in protocol.folds}
    return Entrant(name, models, siblings=FOLD in path)


def _short(path: str) -> str:
    """`mine` of `runs/mine/model`, `mine` of `runs/mine-{fold}/model`, `damage` of `recipes/damage.yaml`."""
    place = Path(path)
    name = place.parent.name if place.name == "model" and place.parent.name else place.stem
    return name.replace(f"-{FOLD}", "").replace(FOLD, "") or path
