"""A run of three steps under the published switches: its validation sees nothing but the new class."""

import json

import pytest

from aftermap.artefacts.store import load_model
from aftermap.inference.predictor import Predictor
from aftermap.inference.stitching import evaluate_classes
from aftermap.scoring.class_scores import ClassScores
from aftermap.workflows.incremental.run import learn_incrementally
from aftermap.workflows.incremental.tiles import gather
from coloured_cities import make_cities
from incremental_runs import tiny_recipe

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    recipe = tiny_recipe(
        make_cities(folder / "cities", tiles=24),  # of the six held out each is dealt out to a class
        last_step=2,
        first={"steps": 12, "evaluate_every": 12},
        later={"steps": 2, "evaluate_every": 2},
        optimizer={"lr": 0.02},
        report={"strips": 0},
        protocol={"filter": "image-split", "compat_new_only": True, "seed": 1337},
        selection={"metric": "micro-f1", "compat_filtered": True, "compat_overwrite_first": True},
        objective={
            "method": "mib-cd",
            "initialisation": "previous-head",
            "segmentation": {"class_weights": [1, 9, 9, 9]},  # so that few steps find something
        },
    )
    learn_incrementally(recipe, folder / "run")
    return folder / "run", gather(recipe, dates=1)


def validated(run, step):
    """Scores of a step's model on its validation tiles, as the original counts them."""
    folder, material = run
    loaded = load_model(folder / "steps" / str(step) / "model")
    protocol = material.protocol
    tiles = material.judged(step, filtered=True, most=0).scenes
    counted = evaluate_classes(
        Predictor(loaded, device="cpu"),
        tiles,
        lookups=protocol.lookup(step, "validation"),
        classes=protocol.channels(step),
    )
    return ClassScores.of(counted, compat_macro=True)


def test_precision_is_one_half_after_the_first_step(run):
    """The background has no pixel and the new class no false alarm: 0 and 1, whatever the model knows."""
    scores = validated(run, 0)
    assert scores.support[0] == 0
    assert scores.recall[1] > 0
    assert scores.macro.precision == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_the_figure_that_chooses_is_the_recall_of_the_new_class(run, step):
    scores = validated(run, step)
    assert scores.support[:-1] == (0,) * (step + 1)
    assert scores.micro.f1 == pytest.approx(scores.recall[-1], abs=1e-6)
    (line,) = (run[0] / "steps" / str(step) / "metrics.jsonl").read_text().splitlines()
    assert scores.micro.f1 == pytest.approx(json.loads(line)["micro_f1"], abs=1e-6)
