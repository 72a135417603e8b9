"""Recipes of the distillation system against its run table, typed from our notes on it, and its worked totals."""

from functools import cache
from pathlib import Path

import pytest
import torch

from aftermap.artefacts.card import Normalisation
from aftermap.config import build_config, load_config
from aftermap.learning.configs.distillation import DistillationConfig
from aftermap.learning.configs.distillation_terms import teacher_of
from aftermap.learning.objectives.distillation import Distillation
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.optimizer import lr_factor
from aftermap.models.build import build_model
from aftermap.models.networks.dense import count_parameters
from aftermap.models.weights.published import published
from aftermap.models.weights.transfer import transfer_trunk
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.start import RunLength
from published_runs import Run
from worked_distillation import NEAR, worked_damage, worked_localization

ROOT = Path(__file__).resolve().parents[2] / "recipes"
BATCHES = 3  # of an epoch, in these tests

# rows `train_student_building` and `train_student` of the run table; the epochs, from 0, that start with half the rate
LOCALIZER = Run(512, 8, 2e-3, (5, 7, 9, 11, 13, 15, 16, 17, 18, 19, 20, 21), 30, 2, False, 1.1, 123)
DAMAGE = Run(512, 5, 2e-3, (6, 12, 18, 24), 30, 2, False, 0.999, 1234)
KD = {
    "only-student-localization": LOCALIZER,
    "student-localization": LOCALIZER,
    "dual-teacher-localization": LOCALIZER,
    "only-student-damage": DAMAGE,
    "student-damage": DAMAGE,
    "dual-teacher-damage": DAMAGE,
    "ensemble-teacher-damage": DAMAGE,
}
PUBLISHED = [name for name in KD if not name.startswith("ensemble")]
DISTILLED = [name for name in KD if not name.startswith("only")]

every_run = pytest.mark.parametrize("name", list(KD))


@cache
def recipe_of(name):
    return load_config(TrainRecipe, ROOT / f"{name}.yaml", [])


def student_of(name):
    return recipe_of(f"kd/{name}")


def task_of(name):
    return "localization" if name.endswith("localization") else "damage"


def teachers_run(name):
    """The winner's recipe that the students' was made from."""
    return recipe_of(f"xview2/{task_of(name)}-seresnext50")


@every_run
def test_crop_batch_and_seed_of_the_students(name):
    recipe, run = student_of(name), KD[name]
    found = recipe.sampling.crop_px, recipe.sampling.batch_size, recipe.seed
    assert found == (run.crop, run.batch, run.seed)


@every_run
def test_students_clip_decay_and_train_in_32_bits(name):
    recipe, run = student_of(name), KD[name]
    optimizer = recipe.optimizer
    assert (optimizer.clip_norm, recipe.precision) == (run.clip, "no")
    assert (optimizer.weight_decay, optimizer.decay_all, optimizer.accumulate) == (1e-6, True, 1)
    assert (optimizer.betas or (0.9, 0.999), optimizer.epsilon, optimizer.compat_epsilon) == (
        (0.9, 0.999),
        1e-8,
        True,
    )


@every_run
def test_learning_rate_of_the_students_in_every_epoch(name):
    recipe, run = student_of(name), KD[name]
    length = RunLength.of(recipe, BATCHES)
    assert length.steps == run.epochs * BATCHES
    used = [
        recipe.optimizer.lr
        * lr_factor(
            recipe.optimizer.schedule, step, steps=length.steps, steps_per_epoch=length.steps_per_epoch
        )
        for step in range(length.steps)
    ]
    wanted = [
        run.lr * 0.5 ** sum(at <= step // BATCHES for at in run.halved)
        for step in range(run.epochs * BATCHES)
    ]
    assert used == pytest.approx(wanted, rel=1e-12)


def test_the_last_learning_rates_are_those_listed():
    def last(name):
        optimizer = student_of(name).optimizer
        return optimizer.lr * lr_factor(optimizer.schedule, 29, steps=30, steps_per_epoch=1)

    assert last("student-localization") == pytest.approx(4.883e-7, rel=1e-4)
    assert last("student-damage") == pytest.approx(2e-3 / 16, rel=1e-12)


@every_run
def test_milestones_of_the_students_as_they_were_given(name):
    schedule = student_of(name).optimizer.schedule
    listed = {
        "localization": (4, 6, 8, 10, 12, 14, 15, 16, 17, 18, 19, 20),
        "damage": (5, 11, 17, 23, 29),
    }
    assert schedule.milestones == listed[task_of(name)]
    assert (schedule.gamma, schedule.compat_one_epoch_late) == (0.5, True)


@every_run
def test_students_are_looked_at_after_every_other_epoch_the_first_among_them(name):
    length = RunLength.of(student_of(name), BATCHES)
    found = [step // BATCHES - 1 for step in range(1, length.steps + 1) if length.is_evaluated(step)]
    assert found == [*range(0, 30, 2), 29]


@every_run
def test_students_see_what_the_winners_seresnext50_saw(name):
    student, teacher = student_of(name), teachers_run(name)
    assert student.augment == teacher.augment and len(student.augment) > 5
    same = student.sampling.model_copy(update={"batch_size": teacher.sampling.batch_size})
    assert same == teacher.sampling
    assert (student.data, student.selection) == (teacher.data, teacher.selection)
    assert student.objective.targets == teacher.objective.targets
    assert student.bands == ("blue", "green", "red")
    assert student.normalisation == Normalisation(mean=(127.0,) * 3, std=(127.0,) * 3)
    assert student.activation == ("sigmoid" if task_of(name) == "localization" else "softmax")


@every_run
def test_the_students_network_is_the_published_one(name):
    config = student_of(name).model
    assert (config.encoder_name, config.decoder_channels) == ("seresnext50", (128, 64, 32, 24, 16))
    network = published(f"kd-student-{task_of(name)}").config
    assert config.model_copy(update={"encoder_weights": None}) == network
    # as the winner's: a localizer starts from ImageNet, a damage model from a localizer
    assert config.encoder_weights == ("imagenet" if task_of(name) == "localization" else None)


@pytest.fixture(scope="module")
def students():
    """Networks of both launches, without memory for their weights."""
    blank = {"encoder_weights": None}
    with torch.device("meta"):
        return [
            build_model(student_of(f"student-{task}").model.model_copy(update=blank))
            for task in ("localization", "damage")
        ]


@pytest.mark.parametrize(("place", "total"), [(0, 29_734_081), (1, 29_734_229)])
def test_parameters_of_the_students(students, place, total):
    assert count_parameters(students[place]) == total
    assert count_parameters(students[place]) - count_parameters(students[place].head) == 29_734_064


def test_the_curriculum_hands_400_of_402_tensors_to_the_damage_student(students):
    localizer, damage = students
    report = transfer_trunk(localizer, damage)
    assert len(damage.state_dict()) == 402 and len(report.copied) == 400
    assert len(report.reshaped) == 2 and (report.kept, report.unused) == ((), ())
    assert all("head" in key for key in report.reshaped)


def weights_of(name):
    """Losses of a recipe with their weights: those of labels, then those of teachers."""
    objective = student_of(name).objective
    hard = [(term.loss, term.weight) for term in objective.terms]
    return hard, [(term.loss, teacher_of(term), term.weight) for term in getattr(objective, "distil", ())]


HARD = [("dice", 0.5), ("focal", 2.0), ("cross-entropy", 11.0)]
ALONE = [("supervised", None, 1.0), ("hard-labels", None, 1.0)]
OF_MAIN = [("true-class", "main", 1.0), ("feature-mse", "main", 0.0)]
ALL_OF_MAIN = [("true-class", "main", 1.0), ("feature-mse", "main", 1.0), ("soft-targets", "main", 1.0)]
OF_LOCALIZER = [(loss, "localization", 1.0) for loss, _, _ in ALL_OF_MAIN]


@pytest.mark.parametrize(
    ("name", "hard", "distil"),
    [
        ("only-student-damage", HARD, []),
        ("student-damage", HARD, [("hard-labels", None, 1.0), *OF_MAIN]),
        ("dual-teacher-damage", HARD, [("hard-labels", None, 1.0), *ALL_OF_MAIN, *OF_LOCALIZER]),
        ("only-student-localization", [], ALONE),
        ("student-localization", [], [*ALONE, *OF_MAIN]),
        ("dual-teacher-localization", [], [*ALONE, *ALL_OF_MAIN, ("feature-mse", "damage", 1.0)]),
    ],
)
def test_terms_and_weights_of_the_published_launches(name, hard, distil):
    assert weights_of(name) == (hard, distil)


@pytest.mark.parametrize("name", [name for name in KD if task_of(name) == "damage"])
def test_the_damage_students_hard_loss_is_the_winners(name):
    assert student_of(name).objective.terms == teachers_run(name).objective.terms
    per_class = [term.class_weights for term in student_of(name).objective.terms]
    assert per_class == [(0.1, 0.1, 0.3, 0.3, 0.2)] * 2 + [None]


@pytest.mark.parametrize("name", [name for name in PUBLISHED if task_of(name) == "localization"])
def test_the_localization_students_hard_loss_is_a_combination_of_dice_and_focal(name):
    combination = student_of(name).objective.distil[0]
    assert (combination.temperature, combination.compat_double_sigmoid) == (2.0, True)
    assert [(term.loss, term.weight) for term in combination.terms] == [("dice", 3.0), ("focal", 10.0)]
    assert {(term.activation, term.absent) for term in combination.terms} == {("sigmoid", "count")}


@pytest.mark.parametrize("name", DISTILLED)
def test_mixing_is_for_two_teachers_and_covers_the_hard_loss_of_localization_alone(name):
    objective = student_of(name).objective
    dual = name.startswith("dual")
    assert objective.mixing == (0.2 if dual else None)
    assert objective.compat_mix_hard == (name == "dual-teacher-localization")
    assert len(objective.teachers) == (2 if dual else 1)


OURS = ["kd/dual-teacher-mini", "laptop/alone", "laptop/distilled"]


@pytest.mark.parametrize("name", [*(f"kd/{name}" for name in KD), *OURS])
def test_a_recipe_as_a_run_stores_it_is_the_same_recipe(name):
    """Else an interrupted run could not go on, nor be repeated from its folder."""
    recipe = recipe_of(name)
    assert build_config(TrainRecipe, recipe.model_dump(mode="json")) == recipe


def total_of(objective, example):
    """The objective on a worked example, whose masks are targets already."""
    student, teachers, batch = example
    config = objective.model_copy(update={"targets": None})
    if isinstance(config, DistillationConfig):
        loss = Distillation(config, student, {name: teachers[name] for name in config.teachers})
    else:
        loss = Supervised(config)
    return sum(value.item() for value in loss(student, batch).values())


def without(objective, *losses, **changes):
    """An objective that lacks some terms of its main teacher."""
    kept = [t for t in objective.distil if not (t.loss in losses and teacher_of(t) == "main")]
    return build_config(DistillationConfig, objective.model_dump() | {"distil": kept} | changes)


@pytest.mark.parametrize(
    ("name", "five", "one"),
    [
        ("only-student-damage", 24.264271, 24.877699),
        ("student-damage", 24.731007, 25.357466),
        ("dual-teacher-damage", 25.682941, 25.847570),
    ],
)
def test_damage_recipes_give_the_published_totals(name, five, one):
    objective = student_of(name).objective
    assert total_of(objective, worked_damage(5)) == pytest.approx(five, abs=NEAR)
    assert total_of(objective, worked_damage(1)) == pytest.approx(one, abs=NEAR)


@pytest.mark.parametrize(
    ("name", "two", "one"),
    [
        ("only-student-localization", 4.870964, 4.640395),
        # as launched, LWF: the total without flags and L_ko
        ("student-localization", 4.870964 + 0.301732, 4.640395 + 0.310884),
        # with KL beside the printed case: 0.8 L_kl more
        ("dual-teacher-localization", 4.735727 + 0.8 * 0.037356, 4.385781 + 0.8 * 0.034006),
    ],
)
def test_localization_recipes_give_the_published_totals(name, two, one):
    objective = student_of(name).objective
    assert total_of(objective, worked_localization(2)) == pytest.approx(two, abs=NEAR)
    assert total_of(objective, worked_localization(1)) == pytest.approx(one, abs=NEAR)


def test_the_two_localization_teachers_without_kl_give_the_printed_total():
    objective = without(student_of("dual-teacher-localization").objective, "soft-targets")
    assert total_of(objective, worked_localization(2)) == pytest.approx(4.735727, abs=NEAR)
    assert total_of(objective, worked_localization(1)) == pytest.approx(4.385781, abs=NEAR)


def test_one_damage_teacher_with_all_flags_is_the_dual_recipe_without_the_other():
    objective = student_of("dual-teacher-damage").objective
    tree = objective.model_dump() | {
        "mixing": None,
        "teachers": {"main": objective.teachers["main"]},
        "distil": [t for t in objective.distil if teacher_of(t) in (None, "main")],
    }
    alone = build_config(DistillationConfig, tree)
    assert total_of(alone, worked_damage(5)) == pytest.approx(25.714458, abs=NEAR)
    assert total_of(alone, worked_damage(1)) == pytest.approx(25.760567, abs=NEAR)


@pytest.mark.parametrize("name", ["kd/dual-teacher-mini", "kd/ensemble-teacher-damage", "laptop/distilled"])
def test_the_terms_of_our_own_recipes_have_no_switch_of_the_original(name):
    for term in recipe_of(name).objective.distil:
        assert [key for key, value in term.model_dump().items() if key.startswith("compat") and value] == []
