"""A whole published archive of checkpoints to one ensemble folder."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.ensemble_card import EnsembleCard
from aftermap.artefacts.folder import check_replaceable
from aftermap.errors import ModelError
from aftermap.wording import counted
from aftermap.workflows.weights.archives import (
    Found,
    System,
    choose_system,
    expected_of,
    file_name,
    find_checkpoints,
    system_of,
)
from aftermap.workflows.weights.import_weights import ORIGINS, KeyReport, import_weights

WINNER_THRESHOLDS = (0.38, 0.13, 0.13, 0.14)
"""p(building) above which a pixel of no, minor, major damage and destroyed is a building.

Source: xView2 first place, `create_submission.py`.
"""
OPEN_CITIES_THRESHOLD = 0.54
"""The same, of the mean of all its runs; one alone is cut at 0.57."""


@dataclass(frozen=True, slots=True)
class ImportedArchive:
    """A folder of checkpoints that became an ensemble folder.

    Attributes:
        folder: the ensemble folder.
        card: its card.
        reports: one per member, by the member's folder.
        files: which checkpoint became which member.
        gaps: what the published ensemble has and this one has not, or has otherwise.
    """

    folder: Path
    card: EnsembleCard
    reports: dict[str, KeyReport]
    files: dict[str, Path]
    gaps: tuple[str, ...]


def import_archive(
    source: Path,
    folder: Path,
    *,
    system: System | None = None,
    partial: bool = False,
    compat: bool = False,
    licence: str | None = None,
    command: str = "",
    on_member: Callable[[str, int, int], None] = lambda *_: None,
) -> ImportedArchive:
    """Write all checkpoints of a published system in a folder as one ensemble folder.

    Every localization network has the same say, whatever the number of its seeds; damage networks are averaged one
    by one, and so are those of Open Cities. The winner's thresholds and its spread of minor damage go into the card of
    its ensemble.

    Args:
        source: the folder, searched with the folders in it.
        folder: the ensemble folder; an older one there is replaced.
        system: whose checkpoints, where those of several are there.
        partial: allow gaps, and files that were trained further before they were published.
        compat: as the winner predicted: cut to 8 bits before the mean, and minor damage that spreads over major.
        licence: of the weights; by default what the origin states.
        command: how it was made, for the cards.
        on_member: called with the name, the number and the count before every member.

    Raises:
        ModelError: nothing is recognised, something is missing, or a file is not what its name says.
        OutputError: `folder` holds something else.
    """
    check_replaceable(folder)
    everything = find_checkpoints(source)
    chosen = choose_system(everything.values(), system)
    found = {key: everything[key] for key in sorted(everything, key=_order) if system_of(key[0]) == chosen}
    gaps = gaps_of(chosen, found)
    if gaps and not partial:
        raise ModelError(
            f"{source} lacks {len(gaps)} of the {counted(len(expected_of(chosen)), 'file')} of the published ensemble "
            f"({'; '.join(gaps[:3])}{'; ...' if len(gaps) > 3 else ''}): --partial makes an ensemble of the others"
        )
    work = folder.with_name(folder.name + ".members")
    shutil.rmtree(work, ignore_errors=True)
    reports: dict[str, KeyReport] = {}
    files: dict[str, Path] = {}
    parts = []
    try:
        for number, ((name, seed), one) in enumerate(found.items(), 1):
            on_member(name, number, len(found))
            member = f"{name.removeprefix(f'{chosen}-')}-{seed}"
            imported = import_weights(
                one.path, name, work / member, seed=seed, licence=licence, command=command
            )
            reports[member], files[member] = imported.report, one.path
            runs = sum(other == name for other, _ in found)
            locates = imported.card.dates == 1
            grouped = locates and chosen != "opencities"  # whose runs are voices of their own
            parts.append(
                Ingredient(
                    work / member,
                    "localization" if locates else "damage",
                    weight=1 / runs if grouped else 1.0,
                    group=name if grouped else None,
                )
            )
        logits = chosen == "metadamagenet"  # whose aggregators average before the activation
        card, members = compose(
            f"{chosen}-ensemble",
            parts,
            averaging="logits" if logits else "probabilities",
            compat_uint8=compat and not logits,
        )
        card = save_ensemble(folder, _decided(card, chosen, gaps, compat=compat, command=command), members)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return ImportedArchive(folder, card, reports, files, gaps)


def gaps_of(system: System, found: Mapping[tuple[str, int], Found]) -> tuple[str, ...]:
    """What is missing of the published ensemble, in words: absent files, and files of an earlier stage."""
    gaps = []
    for name, seed in expected_of(system):
        file = file_name(name, seed)
        one = found.get((name, seed))
        if one is None:
            gaps.append(file)
        elif not one.final:
            gaps.append(f"{file}, with {one.path.name} in its place")
    return tuple(gaps)


def _order(key: tuple[str, int]) -> tuple[bool, str, int]:
    """Localization networks first."""
    return (key[0].endswith("damage"), *key)


def _decided(
    card: EnsembleCard, system: System, gaps: tuple[str, ...], *, compat: bool, command: str
) -> EnsembleCard:
    """The card with the system's rules of decision, its licence said once, and the gaps."""
    origin = ORIGINS[system]
    limits = []
    if gaps:
        limits = [
            f"Not the published ensemble: of its {counted(len(expected_of(system)), 'file')} it lacks {'; '.join(gaps)}."
        ]
    changes: dict[str, object] = {
        "limits": " ".join([*limits, *([card.limits] if card.limits else [])]),
        "training": card.training.model_copy(
            update={
                "data": f"{origin.data}, by the {origin.title}; {counted(len(card.members), 'file')}",
                "command": command,
            }
        ),
    }
    if system == "xview2" and len(card.classes) == len(WINNER_THRESHOLDS) + 1:
        changes["class_thresholds"] = WINNER_THRESHOLDS
        changes["minor_dilation"] = "compat" if compat else "right"
    if system == "opencities":
        changes["building_threshold"] = OPEN_CITIES_THRESHOLD
    return EnsembleCard.model_validate(card.model_dump() | changes)
