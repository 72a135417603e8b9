"""`aftermap train` goes by the kind of the recipe, and exits with 1 where guard rails keep the old model."""

import pytest
import yaml

from aftermap.cli.app import main
from aftermap.errors import RecipeError
from aftermap.workflows.adaptation.guard import Evidence, Verdict
from aftermap.workflows.adaptation.without_labels import AdaptedWithoutLabels
from aftermap.workflows.kinds import kind_of, read_recipe
from aftermap.workflows.self_training.run import SelfTrained

EMPTY = '{"kind": "folder", "scheme": "building", "scenes": []}'
"""A dataset of no scenes."""


def ended(capsys, *words):
    return ended_with(capsys, "train", *words)


def ended_with(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    printed = capsys.readouterr()
    return stopped.value.code, printed.out, printed.err.strip()


def evidence(score):
    return Evidence("views", score, {"building": score}, {"building": 0.2}, 3)


def test_a_recipe_without_kind_is_an_ordinary_run():
    assert read_recipe("localization.yaml")[0] == "train"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("self-training.yaml", "self-training"),
        ("opencities/noisy-student.yaml", "self-training"),
        ("adapt-event.yaml", "adapt-event"),
    ],
)
def test_shipped_recipes_say_their_kind(name, kind):
    assert read_recipe(name)[0] == kind


def test_an_unknown_kind_is_refused_with_those_that_there_are(capsys, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump({"kind": "distil"}))
    code, _, err = ended(capsys, str(file), "-o", str(tmp_path / "run"))
    assert code == 2 and err.startswith("aftermap: ") and "self-training, adapt-event" in err
    assert not (tmp_path / "run").exists()


def test_runs_that_do_not_say_their_kind_are_known_by_what_they_say(tmp_path):
    for kind, tree in {
        "meta-train": {"meta": {}},
        "adapt": {"shots": {}, "event": "flood"},
        "train": {"steps": 3},
    }.items():
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
        with pytest.raises(RecipeError):
            read_recipe(tmp_path / "recipe.yaml")
        assert kind_of(tree, "r") == kind


def test_an_adaptation_without_labels_is_the_shipped_recipe_with_the_options_laid_over_it(
    capsys, tmp_path, monkeypatch
):
    asked = {}

    def fake(recipe, folder, *, resume, command, on_progress):
        asked.update(recipe=recipe, folder=folder)
        raise KeyboardInterrupt

    monkeypatch.setattr("aftermap.workflows.adaptation.run.adapt", fake)
    monkeypatch.setattr("aftermap.cli.training.adapt.check_event", lambda *_: None)
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "manifest.json").write_text(EMPTY)
    monkeypatch.chdir(tmp_path)
    words = ["adapt", "box", "prepared", "--event", "flood", "--no-labels", "--seed", "3", "--scene", "a"]
    code, _, _ = ended_with(capsys, *words, "-o", str(tmp_path / "run"))
    shipped = read_recipe("adapt-event.yaml", ["data=[prepared]", "event=flood", "seed=3", "names=[a]"])[1]
    assert code == 130 and asked == {"recipe": shipped, "folder": tmp_path / "run"}


@pytest.mark.parametrize("words", [("--scenes", "2"), ("--norm", "frozen")])
def test_an_adaptation_without_labels_refuses_what_needs_them(capsys, words):
    code, _, err = ended_with(capsys, "adapt", "box", "prepared", "--event", "flood", "--no-labels", *words)
    assert code == 2 and err.startswith("aftermap: --scenes and --norm are of an adaptation with labels")


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Datasets where the shipped recipes look for them; nothing is read of them here."""
    for name in ("tiles-prepared", "event-prepared", "xbd-prepared"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(EMPTY)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize(("kept", "code"), [("student", 0), ("teacher", 1)])
def test_self_training_exits_by_its_verdict(capsys, tmp_path, monkeypatch, kept, code):
    asked = {}

    def fake(recipe, folder, *, resume, command, on_progress):
        asked.update(name=recipe.name, folder=folder, resume=resume)
        return SelfTrained(folder / "model", kept, "no gain: so it is", [], 0.1)

    monkeypatch.setattr("aftermap.workflows.self_training.run.self_train", fake)
    run = tmp_path / "run"
    found, out, _ = ended(capsys, "self-training.yaml", "name=mine", "-o", str(run))
    assert (found, asked) == (code, {"name": "mine", "folder": run, "resume": False})
    assert f"kept: the {kept} (no gain: so it is)" in out and str(run / "model") in out


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize(("kept", "code"), [("adapted", 0), ("parent", 1)])
def test_adaptation_exits_by_its_verdict_and_shows_the_truth_beside_it(
    capsys, tmp_path, monkeypatch, kept, code
):
    def fake(recipe, folder, *, resume, command, on_progress):
        truth = ({"score": 0.5}, {"score": 0.4})
        verdict = Verdict("student", "gain: on paper", {})
        return AdaptedWithoutLabels(
            folder / "model", kept, 1.0, None, verdict, evidence(0.5), evidence(0.6), *truth, scenes=3
        )

    monkeypatch.setattr("aftermap.workflows.adaptation.run.adapt", fake)
    found, out, _ = ended(capsys, "adapt-event.yaml", "model=box", "-o", str(tmp_path / "run"))
    assert found == code and f"gain: on paper; the folder holds the {kept} model" in out
    assert "from 0.500 to 0.400" in out


def test_there_must_be_something_to_resume(capsys, tmp_path):
    code, _, err = ended(capsys, "--resume", str(tmp_path))
    assert (code, err) == (2, f"aftermap: {tmp_path} holds no interrupted run to resume")


@pytest.mark.usefixtures("prepared")
def test_an_interrupted_self_training_says_how_it_goes_on(capsys, tmp_path, monkeypatch):
    def fake(recipe, folder, **_):
        folder.mkdir()
        (folder / "run.json").write_text("{}")
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        raise KeyboardInterrupt

    monkeypatch.setattr("aftermap.workflows.self_training.run.self_train", fake)
    run = tmp_path / "run"
    code, _, err = ended(capsys, "self-training.yaml", "-o", str(run))
    assert (code, err) == (130, f"aftermap: interrupted: aftermap train --resume {run} goes on")
