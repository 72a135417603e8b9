"""`aftermap ensemble --gate`."""

import json

import pytest

import colour_town as colours
from aftermap.artefacts.ensemble import load_ensemble
from aftermap.cli.app import main
from squares import make_dataset


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return colours.save_colour_model(folder / "colours"), colours.save_roof_model(folder / "roofs")


def run(*words):
    with pytest.raises(SystemExit) as stopped:
        main(["ensemble", *map(str, words)])
    return stopped.value.code


@pytest.fixture
def fails(tmp_path, models, capsys):
    """Run `aftermap ensemble` on the colour model: it must exit 2 with one line, which is returned."""

    def failing(*words):
        assert run(models[0], "-o", tmp_path / "out", *words) == 2
        assert not list(tmp_path.glob("out*"))
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return failing


def test_a_gate_with_its_threshold_and_pixels_is_written(tmp_path, models):
    code = run(
        models[0], "--gate", models[1], "--gate-threshold", "0.3", "--gate-pixels", "9", "-o", tmp_path / "x"
    )

    gate = load_ensemble(tmp_path / "x").gate
    assert code in (0, None)
    assert (gate.threshold, gate.min_pixels) == (0.3, 9)


def test_labelled_scenes_choose_the_threshold(tmp_path, models, capsys):
    # Every scene is one window with four grey squares of 18 x 18 at 230: p(building) is near 1 there, so that the
    # gate's own building threshold is the limit.
    data = make_dataset(tmp_path / "squares")

    code = run(models[0], "--gate", models[1], "--gate-data", data, "--gate-loss", "1", "-o", tmp_path / "x")

    assert code in (0, None)
    assert load_ensemble(tmp_path / "x").gate.threshold == 0.5
    assert (
        "takes 0.0% of 2 windows as empty, with 0.00% of the labelled building pixels"
        in capsys.readouterr().out
    )


def test_a_damage_model_as_gate_is_refused(models, fails):
    assert "tells background, no-damage" in fails("--gate", models[0])


def test_gate_options_without_a_gate_are_refused(fails):
    assert "go with --gate MODEL" in fails("--gate-threshold", "0.2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gate-threshold", "1.5"), "--gate-threshold 1.5 is no probability"),
        (("--gate-pixels", "0"), "--gate-pixels 0 is no number of pixels"),
        (("--gate-data", "data", "--gate-threshold", "0.2"), "are two ways to the threshold"),
        (("--gate-data", "data", "--gate-loss", "100"), "--gate-loss 100 is no share"),
    ],
)
def test_options_of_a_gate_that_make_no_sense_are_refused(models, fails, words, said):
    assert said in fails("--gate", models[1], *words)


def test_a_gate_that_tells_damage_chooses_no_threshold(tmp_path, models, fails):
    data = make_dataset(tmp_path / "squares")

    assert "expected a localization model of one date" in fails("--gate", models[0], "--gate-data", data)
    assert json.loads((models[0] / "card.json").read_text())["dates"] == 2
