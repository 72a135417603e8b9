"""Ensemble folders: member models in sub-folders, and an `ensemble.json` that says how they are averaged."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from aftermap.artefacts.card import Card, MinorDilation, TrainingRecord
from aftermap.artefacts.ensemble_card import (
    GATE_FOLDER,
    Averaging,
    EnsembleCard,
    EnsembleMember,
    Gate,
    Role,
    describe_ensemble,
)
from aftermap.artefacts.folder import (
    CARD_NAME,
    ENSEMBLE_NAME,
    ensemble_in,
    holds_ensemble,
    link_or_copy,
    replacing_model,
)
from aftermap.artefacts.store import load_card, model_folder
from aftermap.classes import BUILDING
from aftermap.errors import ModelError


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A model that is to become a member: its folder, and what `EnsembleMember` says of it."""

    path: Path
    role: Role | None = None
    weight: float = 1.0
    group: str | None = None


@dataclass(frozen=True, slots=True)
class GateIngredient:
    """A model that is to become the gate: its folder, and what `Gate` says of it."""

    path: Path
    threshold: float = Gate.model_fields["threshold"].default
    min_pixels: int = Gate.model_fields["min_pixels"].default


def is_ensemble(name: str | Path) -> bool:
    """Whether a name leads to an ensemble folder."""
    return holds_ensemble(model_folder(name))


def load_ensemble(name: str | Path) -> EnsembleCard:
    """Read the card of an ensemble folder; the members are checked when they are loaded.

    Raises:
        ModelError: no ensemble there, or a card of another format.
    """
    return ensemble_in(model_folder(name), name)


def read_card(name: str | Path) -> Card | EnsembleCard:
    """The card of a model folder, of the model in the box, or of an ensemble folder.

    Raises:
        ModelError: none of these.
    """
    return load_ensemble(name) if is_ensemble(name) else load_card(name)


def compose(
    name: str,
    ingredients: Sequence[Ingredient],
    *,
    averaging: Averaging = "probabilities",
    compat_uint8: bool = False,
    class_thresholds: tuple[float, ...] | None = None,
    minor_dilation: MinorDilation = "none",
    gate: GateIngredient | None = None,
) -> tuple[EnsembleCard, dict[str, Path]]:
    """A card for an ensemble of these models, for `save_ensemble`.

    Roles that are not given follow the models: those that tell damage are damage members. The building threshold is
    the weighted mean of those of the members that say where buildings are; licences, training data and limits are
    those of all.

    Returns:
        The card, and the present folder of each member and of the gate, by sub-folder.

    Raises:
        ModelError: a model cannot be used, or they do not go together.
    """
    if not ingredients:
        raise ModelError("an ensemble needs at least one model")
    members: list[EnsembleMember] = []
    cards: list[Card] = []
    folders = {GATE_FOLDER: gate.path} if gate is not None else {}
    for part in ingredients:
        card = _member_card(part.path)
        stem = part.path.parent.name if part.path.name == "model" else part.path.name
        stem = stem or card.name
        names = (stem if n == 0 else f"{stem}-{n + 1}" for n in range(len(folders) + 1))
        folder = next(name for name in names if name not in folders)
        folders[folder] = part.path
        cards.append(card)
        if card.legend is not None:
            raise ModelError(
                f"{part.path} tells the classes of {card.scheme}: an ensemble combines models of buildings and damage"
            )
        role: Role = part.role or ("localization" if card.scheme == BUILDING.name else "damage")
        members.append(EnsembleMember(folder=folder, role=role, weight=part.weight, group=part.group))
    damage = [card for card, member in zip(cards, members, strict=True) if member.role == "damage"]
    locating = "localization" if any(m.role == "localization" for m in members) else "damage"
    voices = [
        (c.building_threshold, m.weight) for c, m in zip(cards, members, strict=True) if m.role == locating
    ]
    guard = None
    if gate is not None:
        guard = Gate(threshold=gate.threshold, min_pixels=gate.min_pixels)
        cards.append(_member_card(gate.path))
    finest, coarsest = max(c.resolution_m[0] for c in cards), min(c.resolution_m[1] for c in cards)
    if finest > coarsest:
        finest, coarsest = min(c.resolution_m[0] for c in cards), max(c.resolution_m[1] for c in cards)
    try:
        combined = EnsembleCard(
            name=name,
            dates=2 if any(card.dates == 2 for card in cards) else 1,
            scheme=damage[0].scheme if damage else BUILDING.name,
            bands=cards[0].given_bands,
            resolution_m=(finest, coarsest),
            one_date=tuple(
                mode for mode in cards[0].one_date if all(mode in card.one_date for card in cards)
            ),
            building_threshold=round(sum(t * w for t, w in voices) / sum(w for _, w in voices), 4),
            training=TrainingRecord(
                data=_joined(card.training.data for card in cards),
                data_licence=_joined(card.training.data_licence for card in cards),
                events=_all_events(cards),
            ),
            licence=_joined(card.licence for card in cards),
            limits=" ".join(dict.fromkeys(card.limits for card in cards if card.limits)),
            members=tuple(members),
            averaging=averaging,
            compat_uint8=compat_uint8,
            class_thresholds=class_thresholds,
            minor_dilation=minor_dilation,
            gate=guard,
        )
    except ValidationError as error:
        raise ModelError(
            f"these models make no ensemble: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from None
    return combined, folders


def save_ensemble(folder: Path, card: EnsembleCard, members: Mapping[str, Path]) -> EnsembleCard:
    """Write an ensemble folder, whole or not at all; it replaces an older one.

    Args:
        folder: the ensemble folder.
        card: the hashes of its members and of its gate are filled in.
        members: the present model folder of each member and of the gate, by the sub-folder that the card names.

    Returns:
        The card as written.

    Raises:
        ModelError: a member or the gate is missing or does not fit its role or the others.
        OutputError: the folder cannot be made.
    """
    named = set(card.parts)
    if named != set(members):
        raise ModelError(f"the card names the members {sorted(named)}, given were {sorted(members)}")
    with replacing_model(folder) as part:
        card = _gathered(part, card, members)
        (part / ENSEMBLE_NAME).write_text(card.model_dump_json(indent=1) + "\n")
        (part / "README.md").write_text(describe_ensemble(card))
    return card


def _gathered(temporary: Path, card: EnsembleCard, members: Mapping[str, Path]) -> EnsembleCard:
    """Copy members and gate that fit into a folder; the card with their hashes."""
    hashed = []
    for member in card.members:
        source = model_folder(members[member.folder])
        found = _member_card(source)
        _check_member(card, member, found)
        assert found.weights is not None
        _copy_model(source, found, temporary / member.folder)
        hashed.append(member.model_copy(update={"sha256": found.weights.sha256}))
    changes: dict[str, object] = {"members": tuple(hashed)}
    if card.gate is not None:
        source = model_folder(members[card.gate.folder])
        found = _member_card(source)
        _check_gate(card, found)
        assert found.weights is not None
        _copy_model(source, found, temporary / card.gate.folder)
        changes["gate"] = card.gate.model_copy(update={"sha256": found.weights.sha256})
    return card.model_copy(update=changes)


def _member_card(path: Path) -> Card:
    if is_ensemble(path):
        raise ModelError(f"{path} is an ensemble already: give the models in its sub-folders")
    card = load_card(path)
    if card.weights is None:
        raise ModelError(f"{path / CARD_NAME} does not name its weights")
    return card


def _check_member(card: EnsembleCard, member: EnsembleMember, found: Card) -> None:
    if member.role == "damage" and found.scheme != card.scheme:
        raise ModelError(
            f"member {member.folder} tells {', '.join(found.classes.names)}, so it cannot be a damage member: "
            f"expected the scheme {card.scheme}"
        )
    if found.given_bands != card.given_bands:
        raise ModelError(
            f"member {member.folder} wants the bands {', '.join(found.bands)}, the ensemble is given "
            f"{', '.join(card.given_bands)}"
        )
    if found.dates > card.dates:
        raise ModelError(f"member {member.folder} looks at {found.dates} dates, the ensemble at {card.dates}")


def _check_gate(card: EnsembleCard, found: Card) -> None:
    if found.scheme != BUILDING.name or found.dates != 1:
        raise ModelError(
            f"{found.name} tells {', '.join(found.classes.names)} from {found.dates} date(s), so it cannot be a gate: "
            "expected a localization model of one date"
        )
    for what, wanted, given in (
        ("the bands", found.given_bands, card.given_bands),
        ("values of", (found.dtype,), (card.dtype,)),
    ):
        if wanted != given:
            raise ModelError(
                f"the gate {found.name} wants {what} {', '.join(wanted)}, the ensemble is given {', '.join(given)}"
            )


def _copy_model(source: Path, card: Card, target: Path) -> None:
    """Copy a model folder; weights, which never change, are linked where the file system can."""
    assert card.weights is not None
    target.mkdir()
    for name in (CARD_NAME, "README.md"):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    weights = source / Path(card.weights.file).name
    try:
        link_or_copy(weights, target / weights.name)
    except FileNotFoundError:
        raise ModelError(f"{source} is incomplete: {weights.name} is missing") from None


def _all_events(cards: Sequence[Card]) -> tuple[str, ...]:
    """What the members learned from; nothing where one does not tell."""
    told = [card.training.events for card in cards]
    return tuple(sorted({event for events in told for event in events})) if all(told) else ()


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))
