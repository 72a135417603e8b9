"""Reports of incremental runs and their comparison, the shipped recipes, and the commands."""

import json

import cv2
import numpy as np
import pytest

from aftermap.cli.app import main
from aftermap.errors import InputError
from aftermap.models.growth import blank
from aftermap.workflows.incremental.config import IncrementalRecipe
from aftermap.workflows.incremental.report import compare_runs, read_run
from aftermap.workflows.incremental.run import learn_incrementally
from aftermap.workflows.incremental.scores import drawn_tiles
from aftermap.workflows.incremental.tiles import gather
from aftermap.workflows.training.recipe_files import load_recipe, shipped_recipes
from coloured_cities import make_cities
from incremental_runs import tiny_recipe

TASK = [["building", "low_vegetation"], ["tree"]]
SHIPPED = [name for name in shipped_recipes() if name.startswith("incremental/")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_cities(tmp_path_factory.mktemp("data") / "cities")


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """A run of fine-tuning, two seeds of MiB from the same first step, and joint training."""
    root = tmp_path_factory.mktemp("runs")
    changes = {
        "ft": {"objective": {"method": "fine-tuning"}},
        "mib-1": {},
        "mib-2": {"seed": 2},
        "joint": {"joint": True},
    }
    for name, change in changes.items():
        start = root / "ft" if name.startswith("mib") else None
        learn_incrementally(tiny_recipe(data, task=TASK, **change), root / name, start=start)
    return root


def test_a_report_says_what_its_confusion_matrices_say(runs):
    tree = json.loads((runs / "ft/incremental.json").read_text())
    for step, line in enumerate(tree["steps"]):
        matrix = np.array(json.loads((runs / f"ft/steps/{step}/scores.json").read_text())["confusion"])
        hit = matrix.diagonal()
        iou = hit / (matrix.sum(0) + matrix.sum(1) - hit).clip(1)
        classes = range(1, len(matrix))
        assert line["all"]["iou"] == pytest.approx(np.mean([iou[c] for c in classes]))
        assert matrix.sum() == 2 * 64 * 64


def test_a_run_is_drawn(runs):
    for name in ("curves", "classes", "confusion", "strips"):
        assert cv2.imread(str(runs / f"ft/{name}.png")).shape[0] > 200


def test_a_comparison_has_a_row_per_method_and_joint_training(runs, tmp_path):
    tree = compare_runs([runs / name for name in ("mib-1", "mib-2", "ft", "joint")], tmp_path / "out")
    assert list(tree["rows"]) == ["fine-tuning", "MiB", "joint training"]
    assert [row["seeds"] for row in tree["rows"].values()] == [1, 2, 1]
    both = [read_run(runs / f"mib-{n}").scores.final.all.iou for n in (1, 2)]
    assert tree["rows"]["MiB"]["all"]["mean"] == pytest.approx(np.mean(both))
    assert tree["rows"]["MiB"]["all"]["deviation"] == pytest.approx(np.std(both, ddof=1))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("comparison.md", "comparison.json"),
        *("curves.png", "classes.png", "strips.png"),
    }


def test_two_runs_of_one_method_and_seed_are_no_two_seeds(runs, data, tmp_path):
    recipe = tiny_recipe(data, task=TASK, name="variant")
    learn_incrementally(recipe, tmp_path / "run", start=runs / "ft")
    with pytest.raises(InputError, match="are both MiB with seed 1: say --by name"):
        compare_runs([runs / "mib-1", tmp_path / "run"], tmp_path / "out")
    assert list(compare_runs([runs / "mib-1", tmp_path / "run"], tmp_path / "out", by="name")["rows"]) == [
        "tiny",
        "variant",
    ]


def test_runs_on_other_tiles_are_not_compared(runs, tmp_path):
    other = make_cities(tmp_path / "cities", seed=5)
    learn_incrementally(tiny_recipe(other, task=TASK), tmp_path / "run")
    with pytest.raises(InputError, match="was trained or tested on other tiles"):
        compare_runs([runs / "ft", tmp_path / "run"], tmp_path / "out")


def test_runs_of_different_tasks_are_not_compared(runs, data, tmp_path):
    learn_incrementally(tiny_recipe(data, task=[["tree"], ["building"]]), tmp_path / "run")
    message = (
        r"run has learned tree -> building, .*ft building, low_vegetation -> tree: compare runs of one task"
    )
    for by in ("method", "name"):
        with pytest.raises(InputError, match=message):
            compare_runs([runs / "ft", tmp_path / "run"], tmp_path / "out", by=by)


def test_a_run_that_is_not_complete_is_not_compared(data, runs, tmp_path):
    learn_incrementally(tiny_recipe(data, task=TASK), tmp_path / "run", step=0)
    with pytest.raises(InputError, match=r"let it run to its end|compare runs of one task"):
        compare_runs([runs / "ft", tmp_path / "run"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_published_test_may_stand_beside_ours(data, tmp_path):
    learned = learn_incrementally(
        tiny_recipe(data, task=TASK, last_step=0, report={"compat_tiles": True}), tmp_path / "run"
    )
    step = learned.scores["published_steps"][0]
    assert step["pixels"] == 2 * 64 * 64
    assert step["micro"]["f1"] == pytest.approx(learned.scores["steps"][0]["scores"]["micro"]["f1"], abs=1e-6)


def test_tiles_that_are_drawn_show_most_classes(data):
    material = gather(tiny_recipe(data), dates=1)
    assert len(drawn_tiles(material, 1)) == 1
    assert [scene.tile.source for scene in drawn_tiles(material, 2)] == ["easton", "weston"]
    assert len(drawn_tiles(material, 9)) == 2


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_is_whole(name):
    recipe = load_recipe(IncrementalRecipe, shipped_recipes()[name], ["model.encoder_weights=null"])
    model = blank(recipe.model, 2)
    assert recipe.sampling.crop_px % model.stride == 0
    assert recipe.name == name.removeprefix("incremental/").removesuffix(".yaml")


def test_the_published_recipes_say_what_the_published_scripts_said():
    wanted = {
        "ft": ("fine-tuning", "random", None, 25),
        "mib": ("mib", "previous-head", None, 25),
        "mib-cd": ("mib-cd", "previous-head", (0.1, 0.1), 25),
        "ftcd": ("unbiased-fine-tuning", "random", (0.1, 10.0), 25),
    }
    for name, (method, start, factors, patience) in wanted.items():
        recipe = load_recipe(IncrementalRecipe, shipped_recipes()[f"incremental/potsdam-6s-{name}.yaml"], [])
        contrastive = recipe.objective.contrastive
        found = None if contrastive is None else (contrastive.factor, contrastive.factor_old)
        assert (recipe.objective.method, recipe.objective.initialisation, found) == (method, start, factors)
        assert (recipe.last_step, recipe.selection.patience) == (4, patience)
        assert (recipe.sampling.batch_size, recipe.sampling.crop_px, recipe.optimizer.lr) == (8, 512, 1e-3)
    assert (
        load_recipe(
            IncrementalRecipe, shipped_recipes()["incremental/potsdam-offline.yaml"], []
        ).selection.patience
        == 30
    )


def test_the_command_learns_reports_and_compares(data, tmp_path, capsys):
    words = [
        f"data.manifests=[{data}]",
        "task=[[building],[tree]]",
        "steps=2",
        "later.steps=2",
        "evaluate_every=2",
    ]
    words += [
        "model.encoder_options={channels: [8, 8, 8, 8], stem_width: 8}",
        "model.decoder_channels=[8, 8, 8, 8, 8]",
    ]
    words += ["sampling.crop_px=64", "sampling.batch_size=2", "precision=no"]
    with pytest.raises(SystemExit) as done:
        main(["train", "incremental/small", *words, "-o", str(tmp_path / "run")])
    assert done.value.code == 0
    assert "| 1 | tree |" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main(["incremental-report", str(tmp_path / "run"), "-o", str(tmp_path / "out"), "--json"])
    assert done.value.code == 0
    assert list(json.loads(capsys.readouterr().out)["rows"]) == ["MiB"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "incremental/small", "data.manifests=[nowhere]"], "nowhere holds no manifest.json"),
        (
            ["train", "recipes/localization.yaml", "--step", "1"],
            "--step and --from are for recipes of kind incremental",
        ),
        (["incremental-report", "nowhere", "-o", "out"], "nowhere is no folder of an incremental run"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(arguments)
    error = capsys.readouterr().err
    assert done.value.code == 2
    assert message in error and len(error.strip().splitlines()) == 1
