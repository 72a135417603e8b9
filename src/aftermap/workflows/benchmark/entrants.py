"""Who takes part in a benchmark: models as they are, a model for each fold, or recipes that are trained for it."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aftermap.data.scene import Manifest, Split
from aftermap.errors import DataError, InputError
from aftermap.files.plain_json import read_json
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.workflows.benchmark.protocol import Fold, Protocol, hashed

FOLD = "{fold}"
OnTraining = Callable[[str, int, int], None]


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
    """

    name: str
    models: dict[tuple[str, int], str]
    trained: bool = False
    siblings: bool = False
    seeds: tuple[int, ...] = (0,)
    shots: int | None = None
    base: str | None = None


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


def trained_recipe(
    name: str,
    recipe: str,
    protocol: Protocol,
    manifest: Manifest,
    runs: Path,
    *,
    seeds: Sequence[int],
    overrides: Sequence[str],
    on_training: OnTraining,
) -> Entrant:
    """Train a recipe for every fold and seed; runs that are finished are taken, interrupted ones go on.

    Args:
        name: of the row.
        recipe: a file, or the name of one that comes along; of kind train, or meta-train.
        protocol: says what may be learned from.
        manifest: the scenes.
        runs: folder for the runs, and for the dataset of each fold.
        seeds: of the runs.
        overrides: `key=value` words for the recipe; `{fold}` in them stands for the fold's name.
        on_training: told the stage, and steps done and in all.

    Raises:
        InputError: a recipe of another kind.
        AftermapError: what a training raises.
    """
    from aftermap.workflows.kinds import read_recipe

    is_meta = _is_meta(recipe)
    if not is_meta and (kind := read_recipe(recipe)[0]) != "train":
        raise InputError(
            f"{recipe} is of kind {kind}: a benchmark trains recipes of kind train and meta-train"
        )
    models = {}
    for fold, seed in itertools.product(protocol.folds, seeds):
        folder = runs / f"{name}-{fold.name}-{seed}"
        words = _meta_words(fold, manifest, runs, protocol.seed) if is_meta else _words(fold, manifest, runs)
        words += [f"seed={seed}", *(word.replace(FOLD, fold.name) for word in overrides)]
        _train(recipe, folder, words, on_training)
        models[fold.name, seed] = str(folder / "model")
    return Entrant(name, models, trained=True, seeds=tuple(seeds))


def fold_manifest(fold: Fold, manifest: Manifest) -> Manifest:
    """The scenes that a fold learns from and is tested on, in its splits."""
    splits: dict[str, Split] = dict(_splits(fold))
    scenes = [s.model_copy(update={"split": splits[s.name]}) for s in manifest.scenes if s.name in splits]
    return manifest.model_copy(update={"scenes": scenes})


def _words(fold: Fold, manifest: Manifest, runs: Path) -> list[str]:
    """What tells an ordinary recipe its data."""
    data = fold_manifest(fold, manifest).save(runs / f"{fold.name}.json")
    return [f"data.manifests=[{data}]"]


def _meta_words(fold: Fold, manifest: Manifest, runs: Path, seed: int) -> list[str]:
    """What tells a recipe of meta-training its data: no tested scene, and one event by hash that chooses the best step.

    Raises:
        DataError: fewer than two other events.
    """
    learned = {*fold.train, *fold.validation}
    scenes = [scene for scene in manifest.scenes if scene.name in learned]
    events = sorted({scene.event for scene in scenes}, key=lambda event: hashed(seed, event))
    if len(events) < 2:
        raise DataError(f"fold {fold.name}: meta-training takes two other events, there are {len(events)}")
    others = manifest.model_copy(update={"scenes": scenes}).save(runs / f"{fold.name}-others.json")
    return [f"data.manifests=[{others}]", f"data.validation_events=[{events[0]}]"]


def _is_meta(recipe: str) -> bool:
    """Whether a recipe is of meta-training; it may leave its events to the protocol, so that it is not complete."""
    from aftermap.config import read_tree
    from aftermap.workflows.kinds import kind_of
    from aftermap.workflows.training.recipe_files import recipe_path

    return kind_of(read_tree(recipe_path(recipe)), recipe) == "meta-train"


def _splits(fold: Fold) -> Iterator[tuple[str, Split]]:
    parts: tuple[tuple[Split, tuple[str, ...]], ...] = (
        ("train", fold.train),
        ("validation", fold.validation),
        ("test", fold.test),
    )
    for split, names in parts:
        yield from ((name, split) for name in names)


def _train(recipe: str, folder: Path, words: Sequence[str], on_training: OnTraining) -> None:
    """One run; a finished one is taken, an interrupted one goes on, if it was begun with these settings.

    Raises:
        InputError: it was not.
    """
    from aftermap.workflows.kinds import read_recipe, train_recipe

    kind, settings = read_recipe(recipe, words)
    status = ""
    if (folder / "run.json").is_file():
        status = str(read_json(folder / "run.json").get("status"))
        _, begun = read_recipe(folder / "recipe.yaml", kind=kind)
        ours, theirs = settings.model_dump(mode="json"), begun.model_dump(mode="json")
        changed = sorted(key for key in ours if ours[key] != theirs.get(key))
        if changed:
            raise InputError(
                f"{folder} was trained with other settings ({', '.join(changed)}): move it away, or name another --out"
            )
    if status != "complete":
        train_recipe(
            settings,
            folder,
            resume=bool(status),
            on_progress=lambda p: on_training(f"{folder.name}: {p.stage}", p.done, p.total),
        )


def _short(path: str) -> str:
    """`mine` of `runs/mine/model`, `mine` of `runs/mine-{fold}/model`, `damage` of `recipes/damage.yaml`."""
    place = Path(path)
    name = place.parent.name if place.name == "model" and place.parent.name else place.stem
    return name.replace(f"-{FOLD}", "").replace(FOLD, "") or path
