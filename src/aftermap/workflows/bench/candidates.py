"""What `aftermap bench` compares: names as the user writes them, and what is known of a model before it runs."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from aftermap.artefacts.ensemble import Ingredient, compose, read_card, save_ensemble
from aftermap.artefacts.ensemble_card import EnsembleCard
from aftermap.artefacts.exported import EXPORTED_NAME, ExportedCard, is_exported, load_exported_card
from aftermap.artefacts.store import load_card, model_folder
from aftermap.errors import InputError, ModelError
from aftermap.extras import lacking, needs
from aftermap.inference.backends.base import Backend
from aftermap.inference.backends.opening import COMPANIONS
from aftermap.inference.tta import Tta, views
from aftermap.workflows.weights.catalogue import SIZE_PX

REFERENCE = "reference:"
_SEEDS = re.compile(r"([1-9]\d?)seeds?")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model in one way of running it.

    Attributes:
        model: as the user wrote it.
        source: the model in it, without what follows a plus sign: a folder, a file, `box` or `reference:KIND`.
        seeds: how many references with different random weights are averaged as an ensemble.
        backend: the runtime.
        tta: views that are averaged.
        batch: images or pairs per call.
    """

    model: str
    source: str
    seeds: int
    backend: Backend
    tta: Tta
    batch: int

    @property
    def name(self) -> str:
        """What tells it from others in messages."""
        return f"{self.model} on {self.backend}, batch {self.batch}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model without running it.

    Attributes:
        dates: images per scene.
        members: networks that are averaged.
        views: per image, by test-time augmentation.
        parameters: of all members.
        gmacs: multiply-accumulates in 1e9 of one scene, over all members and views; None where nobody counted.
        file_bytes: of the weights.
        stored: how weights are stored.
        scores: by test set, then by name, from the card.
    """

    dates: int
    members: int
    views: int
    parameters: int
    gmacs: float | None
    file_bytes: int
    stored: str
    scores: Mapping[str, Mapping[str, float]]


def parse_candidates(
    models: Sequence[str], *, backends: Sequence[Backend], batches: Sequence[int], tta: Tta
) -> list[Candidate]:
    """Every model on every backend with every batch.

    Words after plus signs are for one model: `box+openvino`, `reference:xview2-resnet34-damage+torch+flips+3seeds`.

    Raises:
        ModelError: there is no such model or reference.
        InputError: nothing to compare, or words that do not go together.
    """
    if not models:
        raise InputError("no model given: aftermap bench box reference:xview2-resnet34-damage")
    found: list[Candidate] = []
    for model in models:
        source, words = _split(model)
        seeds = [int(match[1]) for word in words if (match := _SEEDS.fullmatch(word))]
        own_backends = [word for word in words if word in get_args(Backend)]
        own_tta = [word for word in words if word in get_args(Tta)]
        if max(len(seeds), len(own_backends), len(own_tta)) > 1:
            raise InputError(f"{model} says the same thing twice after +: leave one out")
        if seeds and not source.startswith(REFERENCE):
            raise InputError(f"{model}: +{seeds[0]}seeds is for references, whose weights are random")
        _check_there(source)
        if lacking("train") and ("torch" in (own_backends or backends) or not _has_graph(source)):
            needs(f"aftermap bench {model}", "train")
        for backend in own_backends or backends:
            for batch in batches:
                views_of = own_tta[0] if own_tta else tta
                count = seeds[0] if seeds else 1
                found.append(Candidate(model, source, count, backend, views_of, batch))  # type: ignore[arg-type]
    return list(dict.fromkeys(found))


def materialise(candidate: Candidate, folder: Path) -> str:
    """The name that `open_predictor` takes: references are written to `folder` with random weights first."""
    if not is_reference(candidate):
        return candidate.source
    kind = candidate.source.removeprefix(REFERENCE)
    members = [folder / f"{kind}-{seed}" for seed in range(candidate.seeds)]
    for seed, member in enumerate(members):
        if not member.exists():
            from aftermap.workflows.bench.references import write_reference

            write_reference(kind, member, seed)
    if len(members) == 1:
        return str(members[0])
    ensemble = folder / f"{kind}-{len(members)}seeds"
    if not ensemble.exists():
        save_ensemble(ensemble, *compose(ensemble.name, [Ingredient(member) for member in members]))
    return str(ensemble)


def is_reference(candidate: Candidate) -> bool:
    """Whether its weights are random."""
    return candidate.source.startswith(REFERENCE)


def facts_of(model: str, *, tta: Tta, size_px: int) -> Facts:
    """Look at a model's card and count what it takes.

    Args:
        model: what `materialise` gave.
        tta: views that are averaged.
        size_px: height and width of the images.
    """
    count = len(views(tta))
    if is_exported(model):
        return _exported_facts(load_exported_card(model), count, size_px)
    card = read_card(model)
    folder = model_folder(model)
    if isinstance(card, EnsembleCard):
        parts = [(load_card(folder / member.folder), folder / member.folder) for member in card.members]
    else:
        parts = [(card, folder)]
        if lacking("train") and card.weights is not None:  # then it was run by a graph that lies beside it
            for file in sorted(folder.glob(f"{COMPANIONS}/*/{EXPORTED_NAME}")):
                exported = load_exported_card(file.parent)
                if exported.graph.source.sha256 == card.weights.sha256:
                    return _exported_facts(exported, count, size_px)
    from aftermap.workflows.bench.references import measured

    sizes = [measured(each.model, size_px) for each, _ in parts]
    gmacs = [each for _, each in sizes]
    return Facts(
        dates=card.dates,
        members=len(parts),
        views=count,
        parameters=sum(total for total, _ in sizes),
        gmacs=None if None in gmacs else count * sum(each for each in gmacs if each is not None),
        file_bytes=sum((where / each.weights.file).stat().st_size for each, where in parts if each.weights),
        stored=", ".join(dict.fromkeys(each.weights.dtype for each, _ in parts if each.weights)),
        scores=card.metrics,
    )


def _split(model: str) -> tuple[str, list[str]]:
    """A model and the words after it; a plus sign that no such word follows belongs to the name."""
    source, words = model, list[str]()
    while True:
        rest, plus, word = source.rpartition("+")
        known = word in get_args(Backend) or word in get_args(Tta) or _SEEDS.fullmatch(word)
        if not plus or not known:
            return source, words
        source, words = rest, [word, *words]


def _check_there(source: str) -> None:
    if source.startswith(REFERENCE):
        needs(f"aftermap bench {source}", "train")
        from aftermap.workflows.bench.references import references

        kind, names = source.removeprefix(REFERENCE), references()
        if kind not in names:
            near = difflib.get_close_matches(kind, names, n=3, cutoff=0.4) or list(names)[:3]
            raise ModelError(f"no reference is named {kind!r}: similar names are {', '.join(near)}")
    elif is_exported(source):
        load_exported_card(source)
    else:
        read_card(source)


def _has_graph(source: str) -> bool:
    """Whether a model is an exported one, or has one beside it."""
    return is_exported(source) or any(model_folder(source).glob(f"{COMPANIONS}/*/{EXPORTED_NAME}"))


def _exported_facts(card: ExportedCard, count: int, size_px: int) -> Facts:
    graph = card.graph
    gmacs = count * graph.gmacs * (size_px / SIZE_PX) ** 2 if graph.gmacs else None
    return Facts(
        dates=card.dates,
        members=1,
        views=count,
        parameters=graph.parameters,
        gmacs=gmacs,
        file_bytes=graph.bytes,
        stored=graph.precision,
        scores=card.metrics,
    )
