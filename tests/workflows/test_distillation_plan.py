"""Plans in which stages teach later ones, and the distillation system's own."""

import json
from pathlib import Path

import pytest

from aftermap.artefacts.store import load_model
from aftermap.config import build_config, load_config
from aftermap.errors import RecipeError
from aftermap.workflows.plans.plan import Plan, load_plan, plan_jobs
from aftermap.workflows.plans.stages import PlanListener, job_state, run_jobs
from aftermap.workflows.training.config import TrainRecipe
from squares import make_dataset

ROOT = Path(__file__).resolve().parents[2] / "recipes"


def jobs_of(*words, name="kd/plan.yaml"):
    plan, recipes = load_plan(ROOT / name, ["data.manifests=[d]", *words])
    return {job.name: job for job in plan_jobs(plan, recipes, Path("runs/kd"))}


def test_the_plan_trains_teachers_then_the_localizer_then_the_damage_students():
    jobs = jobs_of()
    assert list(jobs) == [
        "res50-loc-0",
        "res50-loc-tuned-0",
        "loc-validation",
        "res50-cls-0",
        "res50-cls-tuned-0",
        "student-loc-0",
        "student-cls-0",
        "student-cls-dual-0",
    ]
    assert jobs["student-loc-0"].needs == ("res50-loc-tuned-0",)
    assert jobs["student-cls-0"].needs == ("student-loc-0", "res50-cls-tuned-0", "loc-validation")
    dual = ("student-loc-0", "res50-cls-tuned-0", "res50-loc-tuned-0", "loc-validation")
    assert jobs["student-cls-dual-0"].needs == dual


def test_the_plan_gives_every_student_its_start_and_teachers():
    jobs, folder = jobs_of(), Path("runs/kd")
    loc, cls = (folder / f"res50-{task}-tuned-0" / "model" for task in ("loc", "cls"))
    found = {
        name: (
            jobs[name].recipe.init_from,
            {k: t.model for k, t in jobs[name].recipe.objective.teachers.items()},
        )
        for name in ("student-loc-0", "student-cls-0", "student-cls-dual-0")
    }
    start = folder / "student-loc-0" / "model"
    assert found == {
        "student-loc-0": (None, {"main": loc}),
        "student-cls-0": (start, {"main": cls}),
        "student-cls-dual-0": (start, {"main": cls, "localization": loc}),
    }


@pytest.mark.parametrize("task", ["damage", "localization"])
@pytest.mark.parametrize("mode", ["only-student", "student", "dual-teacher"])
def test_recipes_look_for_their_teachers_where_the_plan_puts_them(mode, task):
    made = {Path("runs/kd") / job / "model" for job in jobs_of()}
    teachers = getattr(
        load_config(TrainRecipe, ROOT / "kd" / f"{mode}-{task}.yaml", []).objective, "teachers", {}
    )
    assert {teacher.model for teacher in teachers.values()} <= made


def test_teachers_of_a_plan_are_those_of_the_same_seed():
    jobs = jobs_of("seeds=[0, 1]")
    model = jobs["student-cls-1"].recipe.objective.teachers["main"].model
    assert model == Path("runs/kd/res50-cls-tuned-1/model")
    assert jobs["student-cls-1"].recipe.data.holdout.seed == 1 and jobs["student-cls-1"].recipe.seed == 1235


def plan_of(*stages, **given):
    tree = {"name": "p", "data": {"manifests": ["d"]}, "stages": list(stages)} | given
    return build_config(Plan, tree)


TEACHER = {"kind": "train", "name": "teacher", "recipe": "xview2/damage-resnet34.yaml"}
STUDENT = {
    "kind": "train",
    "name": "student",
    "recipe": "kd/student-damage.yaml",
    "teachers": {"main": "teacher"},
}


def test_a_student_of_a_seed_that_its_teacher_lacks_is_refused():
    plan = plan_of(TEACHER | {"seeds": [0]}, STUDENT | {"seeds": [0, 3]})
    with pytest.raises(RecipeError, match="stage student wants seed 3 of teacher, which has no such seed"):
        plan_jobs(plan, ROOT, Path("runs"))


def test_a_student_of_a_teacher_without_any_seed_is_refused():
    plan = plan_of(TEACHER | {"seeds": []}, STUDENT | {"seeds": [0]})
    with pytest.raises(RecipeError, match="stage student wants seed 0 of teacher, which has no such seed"):
        plan_jobs(plan, ROOT, Path("runs"))


def test_an_ensemble_teaches_the_students_of_all_seeds():
    both = {"kind": "ensemble", "name": "both", "damage": ["teacher"]}
    plan = plan_of(TEACHER, both, STUDENT | {"teachers": {"main": "both"}}, seeds=[0, 1])
    jobs = {job.name: job for job in plan_jobs(plan, ROOT, Path("runs"))}
    models = [jobs[f"student-{seed}"].recipe.objective.teachers["main"].model for seed in (0, 1)]
    assert models == [Path("runs/both/model")] * 2
    assert jobs["student-1"].needs == ("both",) and jobs["both"].needs == ("teacher-0", "teacher-1")


@pytest.mark.parametrize("wrong", ["nobody", "student"])
def test_a_teacher_must_be_an_earlier_stage(wrong):
    with pytest.raises(RecipeError, match=f"stage student refers to '{wrong}', which is no earlier stage"):
        plan_of(TEACHER, STUDENT | {"teachers": {"main": wrong}})


def test_a_student_is_made_again_when_its_teacher_changes():
    def marks(**changes):
        jobs = plan_jobs(plan_of(TEACHER | changes, STUDENT), ROOT, Path("runs"))
        return [job.fingerprint for job in jobs]

    first, again, changed = marks(), marks(), marks(overrides={"steps": 7})
    assert first == again and all(a != b for a, b in zip(first, changed, strict=True))


def test_a_teacher_that_the_recipe_does_not_use_is_refused():
    plan = plan_of(TEACHER, STUDENT | {"teachers": {"main": "teacher", "other": "teacher"}})
    with pytest.raises(RecipeError, match="teacher other is never used"):
        plan_jobs(plan, ROOT, Path("runs"))


def test_the_whole_distillation_plan_in_miniature(tmp_path):
    """Teachers, the map of the hold-out, the localizer, both damage students: on squares, with a tiny encoder."""
    folder = make_dataset(tmp_path / "squares", scenes=10, seed=3)
    words = [
        f"data.manifests=[{folder}]",
        "each.model.encoder_name=test_resnet",
        "each.model.encoder_weights=null",
        "each.model.decoder_channels=[8, 8, 8, 8, 8]",
        "each.sampling.crop_px=32",
        "each.sampling.batch_size=5",
        "each.epochs=1",
        "each.evaluate_every=1",
        "each.teacher_check=false",
    ]
    plan, recipes = load_plan(ROOT / "kd" / "plan.yaml", words)
    out = tmp_path / "kd"
    jobs = plan_jobs(plan, recipes, out)
    for _ in run_jobs(plan, jobs, out, command="", listener=PlanListener(lambda *_: None, lambda _: None)):
        pass
    assert {job_state(job, out) for job in jobs} == {"done"}
    localizer, damage = (load_model(out / f"student-{task}-0" / "model") for task in ("loc", "cls"))
    assert damage.card.training.parent_sha256 == localizer.sha256
    (line,) = (out / "student-cls-dual-0" / "metrics.jsonl").read_text().splitlines()
    terms = [
        f"loss_{loss}{of}"
        for loss in ("true-class", "feature-mse", "soft-targets")
        for of in ("", " localization")
    ]
    assert {*terms, "loss_hard-labels", "loss_dice", "loss_focal", "loss_cross-entropy"} <= json.loads(
        line
    ).keys()
