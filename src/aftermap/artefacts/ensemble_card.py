"""The card of an ensemble: its members, how they are averaged, and what spares them empty windows."""

import hashlib
import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from aftermap.artefacts.card import BaseCard, describe_parts
from aftermap.classes import BUILDING
from aftermap.config import Config
from aftermap.wording import counted

GATE_FOLDER = "gate"

Role = Literal["localization", "damage"]
Averaging = Literal["probabilities", "logits"]
FusedViews = Literal["votes", "largest"]
"""Of the views of one model: the share of views in which a class is the likeliest, or its largest probability in any,
scaled to the sum of 1."""


class EnsembleMember(Config):
    """One model of an ensemble.

    Attributes:
        folder: its sub-folder, a model folder.
        role: `localization` members say where buildings are; `damage` members share p(building) out among the
            damage classes, and say where buildings are if there is no localization member.
        weight: in the mean over the members of its role; only ratios matter.
        group: members of one group are averaged before `compat_uint8` cuts to 8 bits, as the winning xView2 entry did
            with the seeds of a localization network. None: the member is cut by itself.
        sha256: of its weights; filled in when the ensemble is written.
    """

    folder: str
    role: Role
    weight: float = Field(default=1.0, gt=0)
    group: str | None = None
    sha256: str = ""


class Gate(Config):
    """A cheap model that decides which windows the members are shown.

    Attributes:
        folder: its sub-folder, a model folder of one date and the scheme building.
        threshold: a pixel may be a building where the gate's p(building) is above this.
        min_pixels: windows with fewer such pixels are taken as empty, and no member looks at them.
        sha256: of its weights; filled in when the ensemble is written.
    """

    folder: str = GATE_FOLDER
    threshold: float = Field(default=0.1, ge=0, lt=1)
    min_pixels: int = Field(default=20, ge=1)
    sha256: str = ""


class EnsembleCard(BaseCard):
    """`ensemble.json` of an ensemble folder.

    Attributes:
        members: in the order in which they are run.
        gate: what spares them empty windows; None shows them all.
        averaging: whether probabilities are averaged, or logits before one activation.
        compat_uint8: cut the channels of every member (or group) to whole 255ths before they are averaged, as
            published systems did that passed them through 8-bit files.
    """

    members: tuple[EnsembleMember, ...] = Field(min_length=1)
    averaging: Averaging = "probabilities"
    compat_uint8: bool = False
    gate: Gate | None = None

    @property
    def sha256(self) -> str:
        """Hash over the members, how they are averaged, and the gate."""
        told: list[object] = [[m.role, m.weight, m.group, m.sha256] for m in self.members]
        told += [self.averaging, self.compat_uint8]
        if self.gate is not None:
            told.append([self.gate.sha256, self.gate.threshold, self.gate.min_pixels])
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    @property
    def parts(self) -> dict[str, str]:
        """SHA-256 of the weights of every model in the folder, gate included, by sub-folder."""
        models: list[EnsembleMember | Gate] = [*self.members, *([self.gate] if self.gate else [])]
        return {model.folder: model.sha256 for model in models}

    @model_validator(mode="after")
    def _members_fit_together(self) -> Self:
        folders = [member.folder for member in self.members]
        folders += [self.gate.folder] if self.gate else []
        if len(set(folders)) < len(folders) or any(Path(f).name != f or f.startswith(".") for f in folders):
            raise ValueError(f"member folders must be different plain names, found {', '.join(folders)}")
        damage = any(member.role == "damage" for member in self.members)
        if damage == (self.scheme == BUILDING.name):
            raise ValueError(f"scheme {self.scheme} with {'' if damage else 'no '}damage members")
        roles: dict[str, str] = {}
        for member in self.members:
            if member.group and roles.setdefault(member.group, member.role) != member.role:
                raise ValueError(f"group {member.group} mixes localization and damage members")
        if self.compat_uint8 and self.averaging == "logits":
            raise ValueError("compat_uint8 cuts probabilities, so it cannot go with averaging logits")
        return self


def describe_ensemble(card: EnsembleCard) -> str:
    """The card as Markdown, for the ensemble folder's README."""
    rule = "probabilities, cut to 8 bits" if card.compat_uint8 else card.averaging
    parts = [f"- Ensemble of {counted(len(card.members), 'model')}, mean of their {rule}:"]
    for member in card.members:
        group = f", group {member.group}" if member.group else ""
        parts.append(f"  - `{member.folder}`: {member.role}, weight {member.weight:g}{group}")
    if card.gate is not None:
        parts.append(
            f"- Gate `{card.gate.folder}`: windows with fewer than {card.gate.min_pixels} pixels of p(building) above "
            f"{card.gate.threshold:g} are not shown to them"
        )
    return describe_parts(card, parts, [])
