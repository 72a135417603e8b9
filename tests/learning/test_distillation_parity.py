"""Terms of distillation against the worked numbers of the published system (P11, P19), its switches on."""

import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from aftermap.config import Config, build_config
from aftermap.data.batch import Batch
from aftermap.errors import RecipeError
from aftermap.learning.configs.distillation_terms import DistillationTerm
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.losses import distillation as losses
from aftermap.learning.objectives.distillation_terms import TeacherOutput, distillation_value
from aftermap.learning.objectives.supervised import Supervised
from worked_distillation import NEAR, features, ramp


class Terms(Config):
    terms: tuple[DistillationTerm, ...]


def parsed(term):
    return build_config(Terms, {"terms": [term]}).terms[0]


class Given(nn.Module):
    """A model that answers with fixed logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, image):
        return self.logits


class Damage:
    """The worked example of a damage student with two teachers."""

    def __init__(self, batch):
        self.student = ramp((batch, 5, 4, 4), 1.5, 0.7)
        self.student_features = (features(batch, 0, torch.sin), features(batch, 0.5, torch.sin))
        self.main = TeacherOutput(
            ramp((batch, 5, 4, 4), 2, 0.7, 0.4),
            (features(batch, 0.2, torch.sin), features(batch, 0, torch.cos)),
        )
        self.localizer = TeacherOutput(
            ramp((batch, 1, 4, 4), 3, 0.9, 0.2, torch.sin), (features(batch, 0.1, torch.sin),)
        )
        self.mask = torch.tensor([min((3 * i + 1) % 7, 4) for i in range(16 * batch)]).reshape(batch, 4, 4)

    def value(self, term):
        term = parsed(term)
        teacher = {"main": self.main, "localizer": self.localizer}[getattr(term, "teacher", "main")]
        return distillation_value(term, self.student, self.student_features, teacher, self.mask).item()

    def hard(self, logits):
        """The published hard loss, of the terms that the winner's SE-ResNeXt-50 has."""
        common = {
            "activation": "sigmoid",
            "class_weights": [0.1, 0.1, 0.3, 0.3, 0.2],
            "reduction": "sum",
            "absent": "count",
        }
        terms = [
            {"loss": "dice", "weight": 0.5, **common},
            {"loss": "focal", "weight": 2, "compat_clamp": 1e-6, **common},
            {"loss": "cross-entropy", "weight": 11},
        ]
        objective = Supervised(build_config(SupervisedConfig, {"terms": terms}))
        batch = Batch(torch.zeros(len(self.mask), 2, 3, 4, 4), self.mask)
        return sum(v.item() for v in objective(Given(logits), batch).values())


CLS = {"loss": "hard-labels", "compat_class_mean": True}
LWF = {"loss": "true-class", "compat_class_mean": True}
LFL = {"loss": "feature-mse", "compat_norm_over_batch": True}
KL = {"loss": "soft-targets", "temperature": 1, "direction": "reverse", "compat_class_mean": True}
OF_LOCALIZER = {"teacher": "localizer", "classes": "building", "compat_floor": 1e-9}
LOC_LWF_INTENDED = {**LWF, **OF_LOCALIZER, "temperature": 2}
LOC_LWF = {**LOC_LWF_INTENDED, "compat_channel_masks": True}
LOC_LFL = {**LFL, "teacher": "localizer", "dates": "pre"}
LOC_KL = {**KL, **OF_LOCALIZER}


@pytest.mark.parametrize(
    ("term", "five", "one"),
    [
        (CLS, 0.421036, 0.431654),
        (LWF, 0.045700, 0.048113),
        (LFL, 0.959278, 0.378843),
        (KL, 0.024176, 0.024256),
        (LOC_LWF, 0.362034, 0.381374),
        (LOC_LWF_INTENDED, 0.072919, 0.066232),
        (LOC_LFL, 0.157404, 0.063257),
        (LOC_KL, 0.352135, 0.441599),
    ],
    ids=["L_cls", "L_ko", "L_kf", "L_kl", "L_ko_loc", "L_ko_loc intended", "L_kf_loc", "L_kl_loc"],
)
def test_terms_of_the_published_damage_student(term, five, one):
    assert Damage(5).value(term) == pytest.approx(five, abs=NEAR)
    assert Damage(1).value(term) == pytest.approx(one, abs=NEAR)


@pytest.mark.parametrize(
    ("batch", "student", "teacher"), [(5, 24.264271, 28.260527), (1, 24.877699, 28.222675)]
)
def test_the_published_hard_loss_is_the_winners_in_existing_terms(batch, student, teacher):
    worked = Damage(batch)
    assert worked.hard(worked.student) == pytest.approx(student, abs=NEAR)
    assert worked.hard(worked.main.logits) == pytest.approx(teacher, abs=NEAR)


def test_the_cross_entropy_of_the_student_is_a_fifth_of_the_existing_term():
    worked = Damage(5)
    objective = Supervised(
        build_config(SupervisedConfig, {"terms": [{"loss": "cross-entropy", "weight": 0.2}]})
    )
    (value,) = objective(Given(worked.student), Batch(torch.zeros(5, 2, 3, 4, 4), worked.mask)).values()
    assert value.item() == pytest.approx(0.421036, abs=NEAR)


@pytest.mark.parametrize(("batch", "value"), [(5, 25.714458), (1, 25.760567)])
def test_total_of_one_teacher(batch, value):
    worked = Damage(batch)
    total = sum(worked.value(t) for t in (CLS, LWF, LFL, KL)) + worked.hard(worked.student)
    assert total == pytest.approx(value, abs=NEAR)


@pytest.mark.parametrize(("batch", "value"), [(5, 24.731007), (1, 25.357466)])
def test_total_of_the_recorded_launch(batch, value):
    worked = Damage(batch)
    total = worked.value(CLS) + worked.value(LWF) + worked.hard(worked.student)
    assert total == pytest.approx(value, abs=NEAR)


@pytest.mark.parametrize(("batch", "value"), [(5, 25.682941), (1, 25.847570)])
def test_total_of_two_teachers_mixes_all_but_the_hard_loss(batch, value):
    worked, m = Damage(batch), 0.2
    first = sum(worked.value(t) for t in (CLS, LWF, LFL, KL))
    second = sum(worked.value(t) for t in (CLS, LOC_LWF, LOC_LFL, LOC_KL))
    total = (1 - m) * first + m * second + worked.hard(worked.student)
    assert total == pytest.approx(value, abs=NEAR)


def test_the_published_localization_term_needs_a_batch_of_five_or_one():
    with pytest.raises(RecipeError, match="the batch has 2, expected 5 or 1"):
        Damage(2).value(LOC_LWF)
    assert math.isfinite(Damage(2).value(LOC_LWF_INTENDED))


class Localization:
    """The worked example of a localization student."""

    def __init__(self, batch):
        self.student = ramp((batch, 1, 4, 4), 2, 0.7)
        self.student_features = (features(batch, 0, torch.sin),)
        self.main = TeacherOutput(ramp((batch, 1, 4, 4), 3, 0.7, 0.4), (features(batch, 0.2, torch.sin),))
        self.damage = TeacherOutput(
            torch.zeros(batch, 5, 4, 4),
            (features(batch, 0, torch.cos), torch.full((batch, 2048, 1, 1), math.nan)),
        )
        self.mask = torch.tensor([int((7 * i) % 5 < 2) for i in range(16 * batch)]).reshape(batch, 4, 4)

    def value(self, term, logits=None):
        term = parsed(term)
        teacher = {"main": self.main, "damage": self.damage}[getattr(term, "teacher", "main")]
        logits = self.student if logits is None else logits
        return distillation_value(term, logits, self.student_features, teacher, self.mask).item()


COMBO = [
    {"loss": "dice", "weight": 3, "activation": "sigmoid", "absent": "count"},
    {"loss": "focal", "weight": 10, "activation": "sigmoid", "absent": "count", "compat_clamp": 1e-6},
]
SEG_INTENDED = {"loss": "supervised", "terms": COMBO}
SEG = {**SEG_INTENDED, "temperature": 2, "compat_double_sigmoid": True}
BUILDING_CLS_INTENDED = {"loss": "hard-labels", "temperature": 2, "compat_floor": 1e-9}
BUILDING_CLS = {**BUILDING_CLS_INTENDED, "compat_broadcast": True}
BUILDING_LWF_INTENDED = {"loss": "true-class", "temperature": 2, "compat_floor": 1e-9}
BUILDING_LWF = {**BUILDING_LWF_INTENDED, "compat_broadcast": True}
BUILDING_KL = {**KL, "compat_floor": 1e-9}
CLS_LFL = {**LFL, "teacher": "damage", "dates": "pre"}


@pytest.mark.parametrize(
    ("term", "two", "one"),
    [
        (SEG, 4.096386, 3.892412),
        (SEG_INTENDED, 6.802405, 6.757257),
        (BUILDING_CLS, 0.774578, 0.747983),
        (BUILDING_CLS_INTENDED, 0.752615, 0.747983),
        (BUILDING_LWF, 0.301732, 0.310884),
        (BUILDING_LWF_INTENDED, 0.301346, 0.310884),
        (LFL, 0.199899, 0.125933),
        (BUILDING_KL, 0.037356, 0.034006),
        (CLS_LFL, 1.413674, 0.872077),
    ],
    ids=[
        "L_seg",
        "L_seg intended",
        "L_cls",
        "L_cls intended",
        "L_ko",
        "L_ko intended",
        "L_kf",
        "L_kl",
        "clsLFL",
    ],
)
def test_terms_of_the_published_localization_student(term, two, one):
    assert Localization(2).value(term) == pytest.approx(two, abs=NEAR)
    assert Localization(1).value(term) == pytest.approx(one, abs=NEAR)


@pytest.mark.parametrize(("batch", "student", "teacher"), [(2, 4.870964, 4.975780), (1, 4.640395, 4.632749)])
def test_hard_losses_of_the_published_localization_student_and_its_teacher(batch, student, teacher):
    worked = Localization(batch)
    assert worked.value(BUILDING_CLS) + worked.value(SEG) == pytest.approx(student, abs=NEAR)
    of_teacher = worked.value(BUILDING_CLS, worked.main.logits) + worked.value(SEG, worked.main.logits)
    assert of_teacher == pytest.approx(teacher, abs=NEAR)


@pytest.mark.parametrize(("batch", "value"), [(2, 5.409951), (1, 5.111217)])
def test_localization_total_of_one_teacher(batch, value):
    worked = Localization(batch)
    total = sum(worked.value(t) for t in (BUILDING_CLS, SEG, BUILDING_LWF, LFL, BUILDING_KL))
    assert total == pytest.approx(value, abs=NEAR)


@pytest.mark.parametrize(
    ("main", "aside", "two", "one"),
    [
        ((), (), 4.051687, 3.861913),
        ((BUILDING_LWF, LFL), (CLS_LFL,), 4.735727, 4.385781),
    ],
    ids=["no flags", "LWF LFL clsLFL"],
)
def test_localization_total_of_two_teachers_mixes_the_hard_loss_too(main, aside, two, one):
    m = 0.2
    for batch, value in ((2, two), (1, one)):
        worked = Localization(batch)
        first = sum(worked.value(t) for t in (BUILDING_CLS, SEG, *main))
        second = sum(worked.value(t) for t in (BUILDING_CLS, *aside))
        assert (1 - m) * first + m * second == pytest.approx(value, abs=NEAR)


def test_the_documented_terms_are_those_of_the_worked_example():
    page = (Path(__file__).resolve().parents[2] / "docs" / "distillation.md").read_text()
    table = page.split("## The published system")[1].split("## Which is right")[0]
    found = [
        parsed(yaml.safe_load(text)) for text in re.findall(r"`(\{loss: .*\})` \|$", table, re.MULTILINE)
    ]
    worked = [CLS, LWF, LFL, KL, LOC_LWF, LOC_LFL, LOC_KL, SEG, BUILDING_CLS, BUILDING_LWF, BUILDING_KL]
    assert found == [parsed(term) for term in worked]


def test_in_32_bits_the_numbers_hold_to_the_printed_digits():
    worked = Damage(5)
    worked.student = worked.student.float()
    worked.main = TeacherOutput(worked.main.logits.float())
    assert worked.value(LWF) == pytest.approx(0.045700, abs=5e-6)
    assert worked.value(KL) == pytest.approx(0.024176, abs=5e-6)


def test_five_channels_to_two():
    channels = torch.arange(5, dtype=torch.float64).reshape(1, 5, 1, 1)
    assert losses.five_to_two(channels.log()).exp().flatten().tolist() == pytest.approx([0, 10], abs=1e-12)


def test_merged_probabilities_are_the_published_merge_of_exponentials():
    logits = ramp((2, 5, 3, 3), 3, 0.7)
    values = torch.exp(logits / 2)
    merged = torch.stack([values[:, 0], values[:, 1:].sum(dim=1)], dim=1)
    found = losses.class_log_probabilities(logits, 2.0, "building").exp()
    assert torch.allclose(found, merged / merged.sum(dim=1, keepdim=True), atol=1e-12)
