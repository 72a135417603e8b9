"""Learning from teachers, and from labels beside them: one forward pass of each model per batch."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from aftermap.data.batch import Batch
from aftermap.data.loading.date_dropout import BOTH
from aftermap.data.loading.targets import damage_index
from aftermap.errors import RecipeError
from aftermap.learning.configs.distillation import DistillationConfig
from aftermap.learning.configs.distillation_terms import (
    DistillationTerm,
    FeatureTerm,
    SupervisedTerm,
    check_distillation,
    class_weights_of,
    distillation_names,
    teacher_of,
)
from aftermap.learning.configs.schedule import factor
from aftermap.learning.losses.custom import require_custom
from aftermap.learning.losses.one_date import merged
from aftermap.learning.losses.pixel import widened
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.distillation_terms import TeacherOutput, distillation_value
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.teacher_cache import TeacherCache, remembered
from aftermap.learning.teachers import StudentImages, Teacher
from aftermap.models.networks.dense import DenseModel
from aftermap.models.taps import feature_channels, tapped


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
        for term in config.distil:
            require_custom(term.terms if isinstance(term, SupervisedTerm) else ())
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
        """Terms by name, as far as they count for something at this step.

        Teachers are asked about samples that show all dates; of others the plain terms learn what `Supervised` says.
        """
        whole = slice(None) if batch.dates is None else batch.dates == BOTH
        active = [number for number, weight in enumerate(self._weights) if weight]
        if not len(batch.image[whole]):
            active = []
        terms = [self.config.distil[number] for number in active]
        told = {name: self._ask(name, batch.image[whole]) for name in _in_order(map(teacher_of, terms))}
        with tapped(model) if any(isinstance(t, FeatureTerm) for t in terms) else nullcontext() as tap:
            logits = widened(model(batch.image))
        features = [] if tap is None else [each[whole] for each in tap.features(len(batch.image))]
        values: dict[str, Tensor] = {}
        if self.hard is not None:
            share = self.config.hard_share
            shown = logits if batch.dates is None else merged(logits, batch.mask, batch.dates)
            hard = self.hard.values(shown, batch.mask)
            values |= {name: value * share for name, value in hard.items()} if share != 1 else hard
        mask = batch.mask if self.config.targets is None else damage_index(batch.mask, self.config.targets)
        logits, mask = logits[whole], mask[whole]
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
