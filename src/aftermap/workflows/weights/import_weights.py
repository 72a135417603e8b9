"""Published checkpoints to model folders: every key accounted for, a card that says what the network wants."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.checkpoint import Checkpoint, read_checkpoint
from aftermap.artefacts.folder import check_replaceable
from aftermap.artefacts.store import save_model
from aftermap.classes import BUILDING, DAMAGE
from aftermap.errors import ModelError
from aftermap.models.build import build_model
from aftermap.models.networks.dense import DenseModel
from aftermap.models.weights.published import PUBLISHED, original_shapes, published, to_ours
from aftermap.models.weights.published_keys import segformer_keys, transformers_5_name
from aftermap.workflows.weights.archives import Found, System, recognise_file

COUNTER = "num_batches_tracked"
"""Counts of batches seen, which files of torch before 0.4.1 do not have and predictions do not need."""


OTHER_NAMES = ((".se_fc1.", ".se_module.fc1."), (".se_fc2.", ".se_module.fc2."))
"""Names in the files of the winner's release, and in the code that was published with them."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who published the networks of a system.

    Attributes:
        title: the system, for people.
        licence: of its repository, which is what it states for its weights.
        data: what they learned from.
        data_licence: of that.
        limits: what follows from it, for the card.
    """

    title: str
    licence: str
    data: str = "xBD"
    data_licence: str = "CC BY-NC-SA 4.0"
    limits: str = "The images that it learned from (xBD) are licensed for non-commercial use."


ORIGINS: dict[System, Origin] = {
    "xview2": Origin("first place of xView2 (2019)", "MIT"),
    "kd-student": Origin("building_damage_kd, distilled from the first place of xView2 (2022)", "MIT"),
    "metadamagenet": Origin("MetaDamageNet (2022)", "MIT"),
    "opencities": Origin(
        "third place of the Open Cities AI challenge (2020)",
        "MIT",
        data="Open Cities AI and SpaceNet",
        data_licence="to our knowledge images CC BY 4.0 (Open Cities) and CC BY-SA 4.0 (SpaceNet), footprints ODbL",
        limits="It learned from African cities seen by drones and from two cities of SpaceNet.",
    ),
}


@dataclass(frozen=True, slots=True)
class WrongShape:
    """A weight whose shape is not the network's."""

    key: str
    found: tuple[int, ...]
    expected: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.key} is {_shape(self.found)} for {_shape(self.expected)}"


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What became of every key of a checkpoint and of every weight of a network, by the original's names.

    Attributes:
        name: of the published network.
        matched: in both, with one shape.
        missing: the checkpoint does not have them.
        counters: batch counters that it does not have, which play no part in predictions.
        unexpected: the network does not have them.
        wrong_shape: in both, with different shapes.
        ignored: entries of the file that are no weights.
        renamed: keys that the file has under an older name, or the one of transformers 5, by that name.
    """

    name: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    counters: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[WrongShape, ...]
    ignored: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Entries of the network's state."""
        return len(self.matched) + len(self.missing) + len(self.counters) + len(self.wrong_shape)

    @property
    def fits(self) -> bool:
        """Whether nothing is missing, left over or of another shape."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        wrong = [{"key": w.key, "found": w.found, "expected": w.expected} for w in self.wrong_shape]
        return {
            "name": self.name,
            "total": self.total,
            "matched": len(self.matched),
            "missing": [*self.missing, *self.counters],
            "unexpected": list(self.unexpected),
            "wrong_shape": wrong,
            "ignored": list(self.ignored),
            "renamed": list(self.renamed),
        }


@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint that became a model folder."""

    checkpoint: Path
    sha256: str
    folder: Path
    card: Card
    report: KeyReport


class KeysError(ModelError):
    """A checkpoint does not fit the network that it was said to be.

    Attributes:
        report: every key.
    """

    def __init__(self, message: str, report: KeyReport) -> None:
        super().__init__(message)
        self.report = report


def import_weights(
    file: Path,
    name: str,
    folder: Path,
    *,
    seed: int | None = None,
    partial: bool = False,
    licence: str | None = None,
    command: str = "",
) -> Imported:
    """Write a published checkpoint as a model folder.

    Args:
        file: the checkpoint.
        name: of the published network, see `PUBLISHED`.
        folder: the model folder; an older one there is replaced.
        seed: of the run it is from, for the card; by default what the file's name says. With `partial` also the
            seed of the weights that stay random.
        partial: take the weights that fit and leave the others random.
        licence: of the weights; by default what the origin states.
        command: how it was made, for the card.

    Raises:
        KeysError: it is not the checkpoint of that network (and nothing is written), or nothing fits.
        ModelError: no such network, or no checkpoint that can be read safely.
        OutputError: `folder` holds something else.
    """
    published(name)
    check_replaceable(folder)
    checkpoint, renamed = _read(file)
    found = recognise_file(file)
    if seed is None and found is not None and found.name == name:
        seed = found.seed
    report = replace(compare_keys(name, checkpoint.state), ignored=checkpoint.ignored, renamed=renamed)
    if not report.matched or not (report.fits or partial):
        raise KeysError(_misfit(report, checkpoint), report)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        model = build_model(published(name).config)
    load_matched(model, report, checkpoint.state)
    card = make_card(name, checkpoint, report, seed=seed, found=found, licence=licence, command=command)
    return Imported(file, checkpoint.sha256, folder, save_model(folder, model, card), report)


def identify(file: Path) -> str:
    """What a checkpoint seems to be, by its keys, in words.

    Raises:
        ModelError: no checkpoint that can be read safely.
    """
    best = best_fit(_read(file)[0].state)
    if best.fits:
        return f"by its keys it is {best.name}"
    if not best.matched:
        return "no published network has such keys"
    return f"nearest comes {best.name}, with {len(best.matched)} of {best.total} keys"


def compare_keys(name: str, found: Mapping[str, Tensor]) -> KeyReport:
    """What becomes of every key of a checkpoint, and of every weight of a published network."""
    wanted = original_shapes(name)
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    absent = [key for key in wanted if key not in shapes]
    return KeyReport(
        name=name,
        matched=tuple(key for key, shape in wanted.items() if shapes.get(key) == shape),
        missing=tuple(key for key in absent if not key.endswith(COUNTER)),
        counters=tuple(key for key in absent if key.endswith(COUNTER)),
        unexpected=tuple(key for key in shapes if key not in wanted),
        wrong_shape=tuple(
            WrongShape(key, shapes[key], shape)
            for key, shape in wanted.items()
            if shapes.get(key, shape) != shape
        ),
    )


def load_matched(model: DenseModel, report: KeyReport, found: Mapping[str, Tensor]) -> None:
    """Put the matched weights of a checkpoint into the network; the others stay.

    Raises:
        ModelError: one is not finite.
    """
    for key in report.matched:
        if not torch.isfinite(found[key]).all():
            raise ModelError(f"{key} holds values that are not finite: the checkpoint is of no use")
    state = model.state_dict()
    state.update(to_ours(report.name, {key: found[key] for key in report.matched}))
    model.load_state_dict(state)


def best_fit(found: Mapping[str, Tensor]) -> KeyReport:
    """The published network with the largest share of keys in common with a checkpoint."""
    theirs = any(key.startswith(("unet.", "segformer.", "decode_head.")) for key in found)
    names = [name for name, entry in PUBLISHED.items() if (entry.system == "metadamagenet") == theirs]
    reports = [compare_keys(name, found) for name in names]
    return max(reports, key=lambda r: len(r.matched) / (r.total + len(r.unexpected)))


def make_card(
    name: str,
    checkpoint: Checkpoint,
    report: KeyReport,
    *,
    seed: int | None,
    found: Found | None = None,
    licence: str | None = None,
    command: str = "",
) -> Card:
    """The card of an imported network: what its system fed it, what its logits mean, where the weights come from."""
    entry = published(name)
    origin = ORIGINS[entry.system]
    tuned = found is not None and found.stage.lower().startswith("tuned")
    where = "its own training, on images it learned from" if tuned else "validation during its own training"
    score = checkpoint.best_score
    epoch = "" if checkpoint.epoch is None else f", epoch {checkpoint.epoch}"
    run = "" if seed is None else f"-{seed}"
    return Card(
        name=name + run,
        model=entry.config,
        dates=2 if entry.role == "damage" else 1,
        scheme=(DAMAGE if entry.role == "damage" else BUILDING).name,
        resolution_m=entry.resolution_m,
        bands=entry.bands,
        normalisation=Normalisation(mean=entry.mean, std=entry.std),
        activation=entry.activation,
        channel_0=entry.channel_0,
        building_threshold=entry.building_threshold,
        metrics={} if score is None else {where: {"best_score": score}},
        training=TrainingRecord(
            data=f"{origin.data}, by the {origin.title}; file {checkpoint.path.name}{epoch}",
            data_licence=origin.data_licence,
            command=command,
            parent_sha256=checkpoint.sha256,
        ),
        licence=licence or origin.licence,
        limits=_limits(report, origin),
    )


def _read(file: Path) -> tuple[Checkpoint, tuple[str, ...]]:
    """A checkpoint under the names of the published code, and those that had to be renamed."""
    checkpoint = read_checkpoint(file)
    state: dict[str, Tensor] = {}
    renamed = []
    newer = {transformers_5_name(key): key for key in segformer_keys()}
    for key, value in checkpoint.state.items():
        name = newer.get(key, key)
        for old, new in OTHER_NAMES:
            name = name.replace(old, new)
        if name != key:
            renamed.append(key)
        state[name] = value
    return replace(checkpoint, state=state), tuple(renamed)


def _limits(report: KeyReport, origin: Origin) -> str:
    text = (
        "Weights of another system, as its authors published them: the score on this card is what the file says, "
        f"nothing was measured here. {origin.limits}"
    )
    if report.fits:
        return text
    random = len(report.missing) + len(report.wrong_shape)
    first = [*report.missing, *(w.key for w in report.wrong_shape)][:3]
    if random:
        text = (
            f"INCOMPLETE: {random} of {report.total} weights ({', '.join(first)}{', ...' if random > 3 else ''}) were "
            f"not in the checkpoint and are random, so train it before use. {text}"
        )
    if report.unexpected:
        text += f" {len(report.unexpected)} entries of the checkpoint were left out."
    return text


def _misfit(report: KeyReport, checkpoint: Checkpoint) -> str:
    """One line: how much fits, the first keys that do not, and which network it is instead."""
    faults = []
    for what, keys in (
        ("missing", report.missing),
        ("unexpected", report.unexpected),
        ("wrong shape", [str(wrong) for wrong in report.wrong_shape]),
    ):
        if keys:
            faults.append(f"{len(keys)} {what} ({', '.join(keys[:2])}{', ...' if len(keys) > 2 else ''})")
    other = best_fit(checkpoint.state)
    hint = "--partial takes what fits"
    if other.fits and other.name != report.name:
        hint = f"these are the weights of {other.name}"
    elif len(other.matched) > len(report.matched):
        hint = f"{other.name} comes nearest, with {len(other.matched)} of {other.total} keys"
    elif not report.matched:
        hint = "no published network has such keys"
    return (
        f"{checkpoint.path} is not {report.name}: {len(report.matched)} of {report.total} keys match, "
        f"{', '.join(faults)}: {hint}"
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
