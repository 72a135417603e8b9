"""Learning from teachers, and from labels beside them: one forward pass of each model per batch."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, StringConstraints, field_validator, model_validator
from torch import Tensor, nn

from aftermap.config import Config
from aftermap.data.batch import Batch
from aftermap.data.loading.targets import DamageTargets, damage_index
from aftermap.errors import RecipeError
from aftermap.learning.losses.pixel import widened
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.distillation_terms import (
    DistillationTerm,
    FeatureTerm,
    SupervisedTerm,
    TeacherOutput,
    check_distillation,
    class_weights_of,
    distillation_names,
    distillation_value,
    factor,
    teacher_of,
)
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.objectives.terms import DEFAULT, SupervisedConfig, Term
from aftermap.learning.teacher_cache import TeacherCache, remembered
from aftermap.learning.teachers import StudentImages, Teacher, TeacherConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.models.taps import feature_channels, tapped

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


class Distillation(Objective):
    """Weighted terms of labels and teachers.

    The student runs once per batch; a teacher runs once, or not at all where none of its terms counts for anything at
    this step or where all it has to say is cached.

    Attributes:
        teachers: by name.
        adapters: 1x1 convolutions, by teacher, that bring the student's features to the teacher's width; trained and
            saved with the student, but no part of it.
    """

    def __init__(
        self,
        config: DistillationConfig,
        student: DenseModel,
        teachers: Mapping[str, Teacher],
        *,
        bands: int = 3,
    ) -> None:
        """Make the adapters.

        Args:
            config: weights, schedules and terms.
            student: looked at for the width of its features.
            teachers: those that the configuration names.
            bands: of the student's images.

        Raises:
            RecipeError: features are asked of a model that has none.
        """
        super().__init__()
        self.config = config
        self.hard = None if config.hard is None else Supervised(config.hard)
        self.teachers = nn.ModuleDict(teachers)
        self.adapters = nn.ModuleDict()
        for name in _in_order(t.teacher for t in self._feature_terms() if t.compares_channels):
            ours, theirs = feature_channels(student, bands=bands), teachers[name].feature_channels
            if ours != theirs:
                self.adapters[name] = nn.Conv2d(ours, theirs, 1)
        for number, term in enumerate(config.distil):
            weights = class_weights_of(term)
            self.register_buffer(
                f"class_weights_{number}",
                None if weights is None else torch.tensor(weights),
                persistent=False,
            )
        self._names = distillation_names(config.distil)
        self._cache = None if config.cache is None else TeacherCache(config.cache, gigabytes=config.cache_gb)
        self.before_step(0, 1)

    def before_step(self, step: int, steps: int) -> None:
        """Take the weights that the schedules give at this step."""
        self._weights = [
            self.config.weight(term) * factor(term.schedule, step, steps) for term in self.config.distil
        ]

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """Terms by name, as far as they count for something at this step."""
        active = [number for number, weight in enumerate(self._weights) if weight]
        terms = [self.config.distil[number] for number in active]
        told = {name: self._ask(name, batch.image) for name in _in_order(map(teacher_of, terms))}
        with tapped(model) if any(isinstance(t, FeatureTerm) for t in terms) else nullcontext() as tap:
            logits = widened(model(batch.image))
        features = () if tap is None else tap.features(len(batch.image))
        values: dict[str, Tensor] = {}
        if self.hard is not None:
            share = self.config.hard_share
            hard = self.hard.values(logits, batch.mask)
            values |= {name: value * share for name, value in hard.items()} if share != 1 else hard
        mask = batch.mask if self.config.targets is None else damage_index(batch.mask, self.config.targets)
        for number, term in zip(active, terms, strict=True):
            name = teacher_of(term)
            weights: Tensor | None = getattr(self, f"class_weights_{number}")
            compared = isinstance(term, FeatureTerm) and term.compares_channels
            ours = self._adapted(name, features) if name is not None and compared else features
            output = None if name is None else told[name]
            value = distillation_value(term, logits, ours, output, mask, weights)
            values[self._names[number]] = self._weights[number] * value
        # a schedule may begin with nothing to learn
        return values or {self._names[0]: 0.0 * logits.sum()}

    def _ask(self, name: str, image: Tensor) -> TeacherOutput:
        """What a teacher says about a batch; features come along where any of its terms may want them."""
        teacher = self.teachers[name]
        assert isinstance(teacher, Teacher)
        features = any(term.teacher == name for term in self._feature_terms())
        if self._cache is not None:
            return remembered(teacher, image, self._cache, features=features)
        output: TeacherOutput = teacher(image, features=features)
        return output

    def _adapted(self, name: str, features: Sequence[Tensor]) -> Sequence[Tensor]:
        """The student's features at the width of a teacher's, in 32 bits."""
        if name not in self.adapters:
            return features
        adapter = self.adapters[name]
        with torch.autocast(features[0].device.type, enabled=False):
            return [adapter(widened(values)) for values in features]

    def _feature_terms(self) -> list[FeatureTerm]:
        """Terms of features that may ever count."""
        return [t for t in self.config.distil if isinstance(t, FeatureTerm) and self.config.weight(t)]


def build_distillation(
    config: DistillationConfig,
    student: DenseModel,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    bands: Sequence[str],
    dates: int,
    classes: int,
    crop_px: int | None = None,
) -> Distillation:
    """Open the teachers and check everything that can be checked before the first step.

    Args:
        config: of the objective.
        student: the model that will be trained.
        mean: normalisation of its images, per band in its order, in units of the stored values.
        std: likewise.
        bands: its order of bands.
        dates: its images per place.
        classes: its logits.
        crop_px: height and width of its crops.

    Raises:
        RecipeError: a teacher is missing, or does not fit the student or a term.
    """
    images = StudentImages(tuple(bands), tuple(mean), tuple(std), dates)
    try:
        config.check_classes(classes)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    teachers = {name: Teacher.open(name, given, images) for name, given in config.teachers.items()}
    for name, teacher in teachers.items():
        if crop_px is not None and crop_px % teacher.multiple:
            raise RecipeError(
                f"sampling.crop_px is {crop_px}, teacher {name} takes multiples of {teacher.multiple}: "
                f"such as {max(1, round(crop_px / teacher.multiple)) * teacher.multiple}"
            )
    for number, term in enumerate(config.distil):
        owner = teacher_of(term)
        if owner is None or not config.weight(term):
            continue
        try:
            _check_term(term, teachers[owner], classes=classes, dates=dates)
        except ValueError as error:
            raise RecipeError(f"objective.distil[{number}]: {error}") from None
    return Distillation(config, student, teachers, bands=len(bands))


def _check_term(term: DistillationTerm, teacher: Teacher, *, classes: int, dates: int) -> None:
    """Raise ValueError (or RecipeError) where a teacher cannot tell what a term asks for."""
    if isinstance(term, FeatureTerm):
        _ = teacher.feature_channels
        if term.dates == "both" and teacher.dates != dates:
            raise ValueError(
                f"teacher {teacher.name} looks at {teacher.dates} date(s), the student at {dates}: compare the first "
                "with dates: pre"
            )
        if teacher.classes is None and term.where == "buildings":
            raise ValueError(
                f"teacher {teacher.name} sees one of its dates only and cannot say where buildings are: leave where out"
            )
    elif teacher.classes is None:
        raise ValueError(
            f"teacher {teacher.name} looks at two dates, the student at one: it can lend its features only, not "
            f"{term.loss}"
        )
    else:
        check_distillation(term, classes, teacher.classes)


def _in_order(names: Iterable[str | None]) -> list[str]:
    """Different names in the order in which they first come; None is passed over."""
    return list(dict.fromkeys(name for name in names if name is not None))
