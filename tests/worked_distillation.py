"""The worked example of the published distillation: logits, features and labels by formula, behind models and teachers.

The student's and teachers' values are those of the formulas whatever image they see.
"""

from pathlib import Path

import torch
from torch import nn

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.store import LoadedModel
from aftermap.data.batch import Batch
from aftermap.learning.configs.distillation import TeacherConfig
from aftermap.learning.teachers import StudentImages, Teacher
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel
from saved_models import PLAIN

# the numbers are results of 32-bit arithmetic
NEAR = 2e-5


def ramp(shape, scale, rate, phase=0.0, wave=torch.cos):
    """scale * wave(rate i + phase), i running over the flattened tensor."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return scale * wave(rate * i + phase).reshape(shape)


def features(samples, phase, wave):
    """The worked features: wave(0.01 (2048 b + c) + phase), (B, 2048, 1, 1)."""
    return ramp((samples, 2048, 1, 1), 1, 0.01, phase, wave)


class Worked(DenseModel):
    """Logits and features as they are given; the encoder gives those of one date after the other."""

    stride = 1

    def __init__(self, logits, features, dates):
        super().__init__()
        self.classes, self.dates = logits.shape[1], dates
        self.logits, self.encoder = nn.Parameter(logits), WorkedEncoder(features)

    def forward_features(self, image):
        for date in range(self.dates):
            self.encoder(image[:, date])
        return image[:, 0]

    def forward_head(self, features, size):
        return self.logits


class WorkedEncoder(nn.Module):
    """Gives its features in turn."""

    def __init__(self, features):
        super().__init__()
        self.features, self.calls = features, 0

    def forward(self, image):
        self.calls += 1
        return [self.features[(self.calls - 1) % len(self.features)]]


def worked_teacher(name, logits, features, *, dates, student_dates):
    """A teacher that says what it is given."""
    classes = logits.shape[1]
    card = Card(
        name=name,
        model=CustomConfig(target="worked:Worked", classes=classes),
        dates=dates,
        scheme="building" if classes == 1 else "joint-damage-scale",
        activation="sigmoid" if classes == 1 else "softmax",
        training=TrainingRecord(data="none", data_licence="none"),
        licence="MIT",
    )
    loaded = LoadedModel(Worked(logits, features, dates).eval(), card, Path(name), name)
    images = StudentImages(PLAIN.bands, PLAIN.mean, PLAIN.std, student_dates)
    role = "localization" if classes == 1 else "damage"
    given = TeacherConfig(model=Path(name))
    return Teacher(name, [(loaded, role, 1.0)], images, sha256=name, config=given, averaging=None)


def worked_damage(samples, *, localizer="localization"):
    """Student, teachers by name (`main` and the localizer) and batch of the damage example."""
    student = Worked(
        ramp((samples, 5, 4, 4), 1.5, 0.7),
        [features(samples, 0, torch.sin), features(samples, 0.5, torch.sin)],
        2,
    )
    of_main = [features(samples, 0.2, torch.sin), features(samples, 0, torch.cos)]
    of_localizer = [features(samples, 0.1, torch.sin)]
    main_logits = ramp((samples, 5, 4, 4), 2, 0.7, 0.4)
    localizer_logits = ramp((samples, 1, 4, 4), 3, 0.9, 0.2, torch.sin)
    teachers = {
        "main": worked_teacher("main", main_logits, of_main, dates=2, student_dates=2),
        localizer: worked_teacher(localizer, localizer_logits, of_localizer, dates=1, student_dates=2),
    }
    mask = torch.tensor([min((3 * i + 1) % 7, 4) for i in range(16 * samples)]).reshape(samples, 4, 4)
    return student, teachers, Batch(torch.zeros(samples, 2, 3, 4, 4), mask)


def worked_localization(samples):
    """Student, teachers by name (`main` and `damage`, of whose two dates one is shown) and batch of the other example."""
    student = Worked(ramp((samples, 1, 4, 4), 2, 0.7), [features(samples, 0, torch.sin)], 1)
    of_main, of_damage = [features(samples, 0.2, torch.sin)], [features(samples, 0, torch.cos)]
    main_logits, damage_logits = ramp((samples, 1, 4, 4), 3, 0.7, 0.4), ramp((samples, 5, 4, 4), 1, 1)
    teachers = {
        "main": worked_teacher("main", main_logits, of_main, dates=1, student_dates=1),
        "damage": worked_teacher("damage", damage_logits, of_damage, dates=2, student_dates=1),
    }
    mask = torch.tensor([int((7 * i) % 5 < 2) for i in range(16 * samples)]).reshape(samples, 4, 4)
    return student, teachers, Batch(torch.zeros(samples, 1, 3, 4, 4), mask)
