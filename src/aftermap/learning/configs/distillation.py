"""Learning from teachers, as data."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from aftermap.config import Config
from aftermap.data.loading.damage_targets import DamageTargets
from aftermap.learning.configs.distillation_terms import (
    DistillationTerm,
    FeatureTerm,
    SupervisedTerm,
    check_distillation,
    teacher_of,
)
from aftermap.learning.configs.terms import DEFAULT, SupervisedConfig, Term


class TeacherConfig(Config):
    """A model that a student learns from.

    Attributes:
        model: a model folder, an ensemble folder, `box`, or a model of the hub.
        weight: factor of all terms that look at it.
        tta: `flips` answers with the mean over four mirrorings, at four times the cost.
    """

    model: Path
    weight: Annotated[float, Field(ge=0)] = 1.0
    tta: Literal["none", "flips"] = "none"


MAIN = "main"


TeacherName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]


class DistillationConfig(Config):
    """What is learned from teachers, and from labels.

    Attributes:
        targets: see `SupervisedConfig`; terms of distillation that look at labels look at these.
        terms: of the labels, as `SupervisedConfig` has them; none for a student of its teachers alone.
        teachers: by the name that terms call them; none (null, where a recipe extends one that has some) for a
            student alone.
        distil: terms of the teachers, and terms of labels that only distillation has.
        mixing: share m of the teachers other than `main`: terms of `main` are multiplied by 1 - m, theirs by m. None
            takes the weights as they are. Terms of labels alone are outside.
        compat_mix_hard: terms of labels are multiplied by 1 - m too, but for `hard-labels`, as the published
            localization student was trained.
        cache: folder in which the teachers' outputs are kept; worth while with `sampling.pool`.
        cache_gb: most that is kept there.
    """

    kind: Literal["distillation"] = "distillation"
    targets: DamageTargets | None = None
    terms: tuple[Term, ...] = DEFAULT
    teachers: dict[TeacherName, TeacherConfig] = Field(default_factory=dict)
    distil: tuple[DistillationTerm, ...] = ()
    mixing: float | None = Field(default=None, ge=0, le=1)
    compat_mix_hard: bool = False
    cache: Path | None = None
    cache_gb: float = Field(default=20.0, gt=0)

    @property
    def hard(self) -> SupervisedConfig | None:
        """What is learned from labels in the ordinary way; None if nothing is."""
        if not any(term.weight for term in self.terms):
            return None
        return SupervisedConfig(targets=self.targets, terms=self.terms)

    def weight(self, term: DistillationTerm) -> float:
        """Factor of a term of distillation, its schedule aside."""
        name = teacher_of(term)
        if name is not None:
            return term.weight * self.teachers[name].weight * self.share(name)
        return term.weight * (self.hard_share if isinstance(term, SupervisedTerm) else 1.0)

    def share(self, teacher: str) -> float:
        """Factor by which `mixing` changes the terms of a teacher."""
        if self.mixing is None:
            return 1.0
        return 1 - self.mixing if teacher == MAIN else self.mixing

    @property
    def hard_share(self) -> float:
        """Factor of the terms of labels."""
        return self.share(MAIN) if self.compat_mix_hard else 1.0

    @field_validator("teachers", mode="before")
    @classmethod
    def _null_is_none(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _teachers_and_terms_fit(self) -> Self:
        named = [name for term in self.distil if (name := teacher_of(term)) is not None]
        unknown = [name for name in named if name not in self.teachers]
        if unknown:
            raise ValueError(
                f"a term looks at teacher {unknown[0]!r}, teachers are {', '.join(self.teachers)}"
            )
        if self.mixing is not None and (MAIN not in self.teachers or len(self.teachers) < 2):
            raise ValueError(f"mixing is between teacher {MAIN} and others, teachers are {self._listed}")
        if self.compat_mix_hard and self.mixing is None:
            raise ValueError("compat_mix_hard goes with mixing, which is not given")
        if self.hard is None and not any(self.weight(term) for term in self.distil):
            raise ValueError("every term has weight 0")
        used = {teacher_of(term) for term in self.distil if self.weight(term)}
        idle = [name for name in self.teachers if name not in used]
        if idle:
            raise ValueError(f"teacher {idle[0]} is never used: no term of weight above 0 looks at it")
        if self.targets is not None and self.targets.channel_0 == "building":
            overlapping = [term.loss for term in self.distil if not isinstance(term, FeatureTerm)]
            if overlapping:
                raise ValueError(
                    f"targets.channel_0 building overlaps the damage classes, which {overlapping[0]} compares as a "
                    "softmax: give channel_0 background"
                )
        return self

    @property
    def _listed(self) -> str:
        return ", ".join(self.teachers) or "none"

    def check_classes(self, classes: int) -> None:
        """Raise ValueError where the terms do not fit a student with so many logits."""
        if self.hard is not None:
            self.hard.check_classes(classes)
        for number, term in enumerate(self.distil):
            try:
                check_distillation(term, classes)
                if isinstance(term, SupervisedTerm):
                    SupervisedConfig(terms=term.terms).check_classes(classes)
            except ValueError as error:
                raise ValueError(f"objective.distil[{number}]: {error}") from None
