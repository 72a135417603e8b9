"""Few-shot rows of a benchmark: every model adapted to every event with 1, 5, 10 labelled scenes of it.

What changes weights are the steps of `aftermap adapt` with labels. Its verdict is left out: it would look at the scenes
that are tested here, so the adapted weights count, whether they are better or not.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftermap.artefacts.card import Card
from aftermap.artefacts.ensemble import is_ensemble
from aftermap.artefacts.store import load_card
from aftermap.config import build_config
from aftermap.data.scene import Manifest
from aftermap.errors import InputError
from aftermap.files import write_json
from aftermap.files.plain_json import read_json
from aftermap.inference.ensemble import Options
from aftermap.wording import counted
from aftermap.workflows.adaptation.config import AdaptConfig
from aftermap.workflows.benchmark.entrants import Entrant
from aftermap.workflows.benchmark.protocol import Protocol
from aftermap.workflows.benchmark.trained import OnTraining

if TYPE_CHECKING:
    from aftermap.artefacts.store import LoadedModel

RECORD = "few-shot.json"
OPEN = frozenset(AdaptConfig.model_fields) - {
    "kind", "model", "data", "event", "scenes", "names", "evaluated", "force", "answers", "records"
}  # fmt: skip
"""What may be said of the adaptation; the rest is the protocol's."""


def check_adapting(words: Sequence[str]) -> None:
    """Refuse settings that the protocol decides, and those that an adaptation does not know.

    Raises:
        InputError: one that the protocol decides.
        RecipeError: an unknown one, or a wrong value.
    """
    for word in words:
        key = word.partition("=")[0].partition(".")[0]
        if key in AdaptConfig.model_fields and key not in OPEN:
            raise InputError(f"--adapt {word}: the protocol decides {key}; pass such as steps=40")
    _config("box", Path("data"), "event", (), words, seed=0)


def alike(running: Options, protocol: Protocol) -> Options:
    """How models are run: by few-shot a model that came in 8 bits and what was adapted from its full weights alike."""
    is_open = protocol.kind == "few-shot" and running.backend == "auto"
    return replace(running, backend="torch") if is_open else running


def with_scenes(
    entrants: Sequence[Entrant],
    protocol: Protocol,
    manifest: Manifest,
    data: Path,
    runs: Path,
    *,
    words: Sequence[str],
    on_training: OnTraining,
) -> list[Entrant]:
    """Each entrant as it is, and once more for every number of scenes, adapted with them.

    Args:
        entrants: who takes part.
        protocol: of kind few-shot.
        manifest: the scenes.
        data: where it is from, for the record.
        runs: folder for the adapted models; those that are there are taken.
        words: `key=value` settings of the adaptation.
        on_training: told the stage, and steps done and in all.

    Raises:
        ModelError: a model that is not there, or no model folder.
        InputError: an ensemble, or adapted models there that were made with other settings.
        AftermapError: what an adaptation raises.
    """
    for path in {path for entrant in entrants for path in entrant.models.values()}:
        _check_adaptable(path)
    rows = []
    for entrant in entrants:
        for shots in protocol.shots:
            if not shots:
                rows.append(replace(entrant, shots=0))
                continue
            models = {}
            for (fold_name, seed), path in entrant.models.items():
                fold = next(fold for fold in protocol.folds if fold.name == fold_name)
                folder = runs / f"{entrant.name}-{fold_name}-{seed}-{shots}-scenes"
                told = _told(on_training, folder.name)
                config = _config(path, data, fold_name, fold.support[:shots], words, seed=seed)
                models[fold_name, seed] = str(_adapted(config, manifest, folder, told))
            name = f"{entrant.name} +{shots}"
            rows.append(replace(entrant, name=name, models=models, shots=shots, base=entrant.name))
    return rows


def _check_adaptable(path: str) -> None:
    """Refuse what has no weights that could learn, before any of them learns."""
    if is_ensemble(path):
        raise InputError(
            f"{path} is an ensemble, which cannot be adapted: name its members, they are its sub-folders"
        )
    load_card(path)


def _told(on_training: OnTraining, name: str) -> Callable[[int, int], None]:
    return lambda done, total: on_training(f"{name}: adapting", done, total)


def _config(
    model: str, data: Path, event: str, names: Sequence[str], words: Sequence[str], *, seed: int
) -> AdaptConfig:
    said: dict[str, Any] = {"model": model, "data": data, "event": event, "names": list(names), "seed": seed}
    return build_config(AdaptConfig, said, words, source="--adapt")


def _adapted(config: AdaptConfig, manifest: Manifest, folder: Path, told: Callable[[int, int], None]) -> Path:
    """The model folder of one adaptation; one that is finished is taken, if it was made with these settings."""
    card = load_card(config.model)
    settings = config.model_dump(mode="json", exclude={"data", "records", "model"})
    record = {"settings": settings, "parent_sha256": card.weights.sha256 if card.weights else None}
    file = folder / RECORD
    if file.is_file():
        if read_json(file) != record:
            raise InputError(
                f"{folder} was adapted with other settings or from another model: move it away, or name another --out"
            )
        return folder / "model"
    _adapt(config, manifest, folder, told)
    write_json(file, record)
    return folder / "model"


def _adapt(config: AdaptConfig, manifest: Manifest, folder: Path, told: Callable[[int, int], None]) -> None:
    from aftermap.artefacts.store import load_model, save_model
    from aftermap.workflows.adaptation.with_labels import fine_tune

    started = time.monotonic()
    child = load_model(config.model)
    scenes = {scene.name: scene for scene in manifest.scenes}
    for step in fine_tune(child, [scenes[name] for name in config.names], config):
        told(step.number, config.steps)
    minutes = (time.monotonic() - started) / 60
    save_model(folder / "model", child.model, _card(child, config, manifest.licence or "not stated", minutes))


def _card(parent: "LoadedModel", config: AdaptConfig, licence: str, minutes: float) -> Card:
    card, record = parent.card, parent.card.training
    learned = f"{config.event} with {counted(len(config.names), 'scene')}: {', '.join(config.names)}"
    training = record.model_copy(
        update={
            "data": f"{record.data}; adapted to {learned}",
            "data_licence": f"{record.data_licence}; {licence}",
            "command": "aftermap benchmark --protocol few-shot",
            "steps": config.steps,
            "minutes": round(minutes, 1),
            "parent_sha256": parent.sha256,
            "events": tuple(sorted({*record.events, config.event})),
        }
    )
    said: dict[str, Any] = {
        "name": f"{card.name}-{config.event}",
        "metrics": {},
        "weights": None,
        "training": training,
        "licence": f"{card.licence}; adapted with data whose licence is: {licence}",
        "limits": f"{card.limits} Adapted to {config.event} for a benchmark, whether it helped or not.".strip(),
    }
    return card.model_copy(update=said)
