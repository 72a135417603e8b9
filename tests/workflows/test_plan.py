"""The winner's whole plan in miniature: its own files, with a tiny encoder on scenes made here."""

import json
import shutil

import cv2
import numpy as np
import pytest

from aftermap.artefacts.ensemble import load_ensemble
from aftermap.artefacts.store import load_card
from aftermap.cli.app import main
from aftermap.config import build_config
from aftermap.errors import DataError, RecipeError
from aftermap.workflows.plans.plan import Plan, load_plan, plan_jobs
from aftermap.workflows.plans.stages import PlanListener, discard, job_state, run_jobs
from squares import make_dataset

TINY = [
    "each.model.encoder_name=test_resnet",
    "each.model.encoder_weights=null",
    "each.model.decoder_channels=[8, 8, 8, 8, 8]",
    "each.sampling.crop_px=32",
    "each.sampling.batch_size=4",
    "each.epochs=1",
    "each.evaluate_every=1",
    "each.optimizer.lr=0.001",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight training scenes and two test scenes, without a validation split: the plan holds scenes out itself."""
    folder = make_dataset(tmp_path_factory.mktemp("plan") / "squares", scenes=10, seed=3)
    file = folder / "manifest.json"
    tree = json.loads(file.read_text())
    for scene in tree["scenes"]:
        scene["split"] = "test" if scene["split"] == "validation" else "train"
    file.write_text(json.dumps(tree))
    return folder


class StoppedError(Exception):
    pass


def run(data, folder, *, stop_at=None, seeds="[0, 1]", words=()):
    """Run the winner's plan; raise when the job `stop_at` has made its first step."""
    plan, recipes = load_plan(
        "recipes/xview2/plan.yaml", [f"data.manifests=[{data}]", f"seeds={seeds}", *TINY, *words]
    )
    jobs = plan_jobs(plan, recipes, folder)
    seen = []

    def on_job(job, state):
        seen.append((job.name, state))

    def on_step(progress):
        if seen[-1][0] == stop_at:
            raise StoppedError

    for _ in run_jobs(plan, jobs, folder, command="", listener=PlanListener(on_job, on_step)):
        pass
    return jobs, seen


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "winner"
    with pytest.raises(StoppedError):
        run(data, folder, stop_at="res50-cls-1", seeds="[0, 1]")
    half = {f.name: f.stat().st_mtime_ns for f in (folder / "res50-loc-0" / "model").iterdir()}
    jobs, seen = run(data, folder)
    return folder, jobs, seen, half


def test_an_interrupted_plan_goes_on_where_it_broke(finished):
    folder, jobs, seen, half = finished
    states = dict(seen)
    assert [name for name, _ in seen] == [job.name for job in jobs]
    assert states["res50-loc-0"] == states["res50-cls-0"] == states["loc-validation"] == "done"
    assert states["res50-cls-1"] == "started" and states["submission"] == "waiting"
    assert all(job_state(job, folder) == "done" for job in jobs)
    assert {f.name: f.stat().st_mtime_ns for f in (folder / "res50-loc-0" / "model").iterdir()} == half


def test_every_run_of_the_winner_is_made_for_every_seed(finished):
    _, jobs, _, _ = finished
    trained = [job.name for job in jobs if job.recipe is not None]
    assert len(trained) == 28 and len(jobs) == 31
    seeds = {job.name: job.recipe.seed for job in jobs if job.recipe is not None}
    assert seeds["res34-loc-0"] == 545 and seeds["res34-loc-1"] == 546 and seeds["se154-cls-1"] == 123124
    assert {job.recipe.data.holdout.seed for job in jobs if job.name.endswith("-1")} == {1}


def test_damage_models_grow_from_the_localization_of_their_fold(finished):
    folder, jobs, _, _ = finished
    by_name = {job.name: job for job in jobs}
    assert by_name["res50-cls-1"].needs == ("res50-loc-1", "loc-validation")
    parent = load_card(folder / "res34-cls-1" / "model").training.parent_sha256
    assert parent == load_card(folder / "res34-loc-1" / "model").weights.sha256


def test_out_of_fold_maps_come_from_models_that_did_not_learn_from_the_scene(finished):
    folder, jobs, _, _ = finished
    held = {}
    for job in jobs:
        if job.name in ("res34-loc-0", "res34-loc-1"):
            facts = json.loads((folder / job.name / "run.json").read_text())
            held[job.name] = facts["validation_scenes"]
    maps = sorted((folder / "loc-validation" / "maps").glob("*.png"))
    assert 1 <= len(maps) <= sum(held.values())
    assert cv2.imread(str(maps[0]), cv2.IMREAD_UNCHANGED).shape == (64, 64)


def test_the_ensemble_holds_the_models_that_the_winner_averaged(finished):
    folder, _, _, _ = finished
    card = load_ensemble(folder / "winner" / "model")
    assert [m.role for m in card.members].count("localization") == 8
    assert [m.role for m in card.members].count("damage") == 8
    assert {m.group for m in card.members if m.role == "localization"} == {
        "res34-loc", "res50-loc-tuned", "dpn92-loc-tuned", "se154-loc",
    }  # fmt: skip
    assert card.class_thresholds == (0.38, 0.13, 0.13, 0.14) and card.compat_uint8


def test_the_submission_holds_predictions_of_the_test_scenes_and_their_score(finished):
    folder, _, _, _ = finished
    written = sorted(p.name for p in (folder / "submission" / "predictions").glob("*.png"))
    assert len(written) == 4 and written[0].endswith("_damage_prediction.png")
    values = np.unique(
        cv2.imread(str(folder / "submission" / "predictions" / written[0]), cv2.IMREAD_UNCHANGED)
    )
    assert set(values.tolist()) <= {0, 1, 2, 3, 4}
    assert 0 <= json.loads((folder / "submission" / "score.json").read_text())["score"] <= 1


def test_results_of_other_settings_are_not_taken_for_done(finished, data):
    folder, _, _, _ = finished
    with pytest.raises(RecipeError, match="other settings or other data"):
        run(data, folder, words=["each.optimizer.lr=0.002"])


def test_redo_discards_a_stage_and_what_was_made_from_it(finished, tmp_path):
    folder, jobs, _, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    gone = discard(jobs, copy, ["se154-cls"])
    assert gone == [
        "se154-cls-0",
        "se154-cls-1",
        "se154-cls-tuned-0",
        "se154-cls-tuned-1",
        "submission",
        "winner",
    ]
    assert not (copy / "winner").exists() and (copy / "res34-cls-0" / "model").exists()


def test_redo_of_what_was_never_made_discards_nothing(finished, tmp_path):
    _, jobs, _, _ = finished
    assert discard(jobs, tmp_path, ["se154-cls"]) == []


def test_a_stage_alone_says_what_it_needs(data, tmp_path, capsys):
    words = [*TINY, f"data.manifests=[{data}]", "--only", "winner", "-o", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        main(["run", "xview2/plan.yaml", *words])
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and "which is not done: do its stage too, or leave --only out" in err


def test_a_job_that_could_not_begin_leaves_nothing_that_bars_other_settings(tmp_path):
    with pytest.raises(DataError, match=r"holds no manifest\.json"):
        run(tmp_path / "nowhere", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_stage_that_refers_forward_is_refused():
    tree = {
        "name": "p",
        "data": {"manifests": ["x"]},
        "stages": [{"kind": "train", "name": "b", "recipe": "b.yaml", "init_from": "a"}],
    }
    with pytest.raises(RecipeError, match="no earlier stage"):
        build_config(Plan, tree)


def test_the_command_lists_a_plan_without_doing_it(data, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "recipes/xview2/plan.yaml", f"data.manifests=[{data}]", *TINY, "-o", str(tmp_path / "w"),
              "--list", "--json"])  # fmt: skip
    assert stop.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 45 and {row["state"] for row in rows} == {"waiting"}
    assert not (tmp_path / "w").exists()
