"""Few-shot: scenes to adapt with that are apart from those tested, and rows of models adapted with them."""

import json

import numpy as np
import pytest

import aftermap
from aftermap.artefacts.store import load_card
from aftermap.cli.app import main
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, InputError, RecipeError
from aftermap.inference.ensemble import Options
from aftermap.workflows.benchmark import few_shot
from aftermap.workflows.benchmark.protocol import Protocol, check_protocol, make_protocol
from aftermap.workflows.benchmark.trained import _meta_words


def scene(event, n, *, houses=1, same_as=None):
    sums = {"pre": same_as or f"{event}{n}pre", "post": f"{event}{n}post"}
    files = {role: f"{event}_{n}_{role}.png" for role in ("pre", "post", "damage_mask")}
    said = {"polygons": {"no-damage": houses}, "checksums": sums, **files}
    return Scene(name=f"{event}_{n}", event=event, width=64, height=64, **said)


def manifest(*scenes):
    return Manifest(kind="folder", scheme="joint-damage-scale", scenes=list(scenes))


EVENTS = manifest(*(scene(event, n, houses=n % 4) for event in ("fire", "flood") for n in range(12)))


def test_more_scenes_are_those_of_fewer_and_others_apart_from_the_tested():
    protocol = make_protocol(EVENTS, "few-shot", shots=(1, 5))
    assert protocol.shots == (0, 1, 5)
    for fold in protocol.folds:
        assert len(fold.support) == 5 and len(fold.test) == 7 and not {*fold.support} & {*fold.test}
        assert {name.split("_")[0] for name in (*fold.support, *fold.test)} == {fold.name}
        assert not any(name.startswith(fold.name) for name in (*fold.train, *fold.validation))
    fewer = make_protocol(EVENTS, "few-shot", shots=(1,))
    assert [fold.support for fold in fewer.folds] == [fold.support[:1] for fold in protocol.folds]


def test_scenes_to_adapt_with_have_buildings_and_their_order_plays_no_part():
    protocol = make_protocol(EVENTS, "few-shot", shots=(5,))
    assert not {"fire_0", "fire_4", "fire_8"} & set(protocol.folds[0].support)
    shuffled = [EVENTS.scenes[i] for i in np.random.default_rng(0).permutation(24)]
    assert make_protocol(manifest(*shuffled), "few-shot", shots=(5,)).sha256 == protocol.sha256


def test_informed_scenes_show_every_kind_and_more_are_those_of_fewer_too():
    kinds = ("no-damage", "no-damage", "destroyed")
    data = [
        s.model_copy(update={"polygons": {kinds[n % 3]: 3}})
        for n, s in enumerate(EVENTS.scenes)
        if "fire" in s.name
    ]
    data = manifest(*data, *EVENTS.scenes[12:])
    folds = [make_protocol(data, "few-shot", shots=(k,), informed=True).folds[0] for k in (2, 5)]
    shown = {kind for s in data.scenes if s.name in folds[0].support for kind in s.polygons}
    assert shown == {"no-damage", "destroyed"} and folds[1].support[:2] == folds[0].support
    assert not {*folds[1].support} & {*folds[1].test}


def test_what_shows_the_same_as_a_scene_to_adapt_with_is_not_tested():
    name = make_protocol(EVENTS, "few-shot", shots=(1,)).folds[0].support[0]
    twin = scene("fire", 99, same_as=f"{name.replace('_', '')}pre")
    protocol = make_protocol(manifest(*EVENTS.scenes, twin), "few-shot", shots=(1,))
    fire = protocol.folds[0]
    assert {name, "fire_99"} & {*fire.support} and not {name, "fire_99"} & {*fire.test}


def test_a_protocol_whose_scenes_to_adapt_with_are_tested_is_refused():
    made = make_protocol(EVENTS, "few-shot", shots=(1,))
    fold = made.folds[0]
    leaking = made.model_copy(update={"folds": (fold.model_copy(update={"test": fold.support}),)})
    with pytest.raises(DataError, match="fold fire leaks"):
        check_protocol(leaking, EVENTS)


def test_an_event_with_too_few_scenes_is_left_out_and_told(tmp_path):
    small = manifest(*EVENTS.scenes, *(scene("quake", n) for n in range(5)))
    protocol = make_protocol(small, "few-shot", shots=(5,), tested=4)
    assert protocol.left_out == ("quake",) and [fold.name for fold in protocol.folds] == ["fire", "flood"]
    assert [len(fold.test) for fold in protocol.folds] == [4, 4]
    assert Protocol.load(protocol.save(tmp_path / "protocol.json")) == protocol
    with pytest.raises(DataError, match="no event has 50 places with buildings"):
        make_protocol(small, "few-shot", shots=(50,))


def test_protocols_without_scenes_to_adapt_with_are_written_as_before():
    written = make_protocol(EVENTS, "leave-one-event-out").model_dump(mode="json")
    assert set(written) == {"format", "kind", "seed", "data", "folds"}
    assert set(written["folds"][0]) == {"name", "train", "validation", "test"}
    only = make_protocol(EVENTS, "leave-one-event-out", events=["flood"])
    assert [fold.name for fold in only.folds] == ["flood"]


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("few-shot", {"shots": (0,)}, "scenes to adapt with are numbers from 1 on, found 0"),
        ("few-shot", {"events": ["fier"]}, "no labelled scene is of event fier: there are fire, flood"),
        ("block", {"events": ["fire"]}, "events are chosen by leave-one-event-out and few-shot"),
        ("split", {"tested": 3}, "the number of tested scenes is of few-shot"),
    ],
)
def test_what_a_kind_does_not_know_is_refused(kind, options, words):
    with pytest.raises(InputError, match=words):
        make_protocol(EVENTS, kind, **options)


def test_meta_training_sees_no_scene_of_the_tested_event(tmp_path):
    data = manifest(*EVENTS.scenes, *(scene("quake", n) for n in range(12)))
    fold = make_protocol(data, "few-shot", shots=(1,)).folds[0]
    words = _meta_words(fold, data, tmp_path, 0)
    learned = Manifest.load(tmp_path / "fire-others.json")
    assert {s.event for s in learned.scenes} == {"flood", "quake"}
    assert words[1] in ("data.validation_events=[flood]", "data.validation_events=[quake]")


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "towns"
    made = aftermap.synth(folder, scenes=8, size_px=128, seed=5, kinds=["wind", "fire"], geotiff=False)
    scenes = [s.model_copy(update={"event": ("one", "two")[n % 2]}) for n, s in enumerate(made.scenes)]
    made.model_copy(update={"scenes": scenes}).save(folder)
    return folder


WANTED = {
    "models": ["box"],
    "protocol": "few-shot",
    "shots": (1,),
    "adapt": ["steps=2", "shots.crop_px=64", "batch_size=2"],
    "bootstrap": 50,
    "running": Options(backend="torch"),
}


@pytest.fixture(scope="module")
def compared(towns, tmp_path_factory):
    out, told = tmp_path_factory.mktemp("out") / "few", []
    result = aftermap.benchmark(towns, out, **WANTED, progress=lambda *words: told.append(words))
    return result, told


def test_each_number_of_scenes_has_a_row_compared_with_the_model_itself(compared):
    report = compared[0].report
    assert [(row["name"], row["shots"]) for row in report["entrants"]] == [("box", 0), ("box +1", 1)]
    bare, adapted = report["entrants"]
    assert bare["against"] is None and adapted["against"]["name"] == "box"
    for fold, gaps in adapted["against"]["folds"].items():
        one, other = (row["folds"][fold]["values"]["brier"] for row in (adapted, bare))
        assert gaps["brier"]["difference"] == pytest.approx(one - other, abs=2e-5)
        assert bare["folds"][fold]["scenes"] == adapted["folds"][fold]["scenes"] == 3
    assert len(adapted["models"]) == 2 and "1 scene apart from those tested" in adapted["leak"]


def test_adaptations_are_told_and_the_page_shows_them(compared):
    result, told = compared
    assert ("box-one-0-1-scenes: adapting", 2, 2) in told
    page = result.page.read_text()
    assert "What labelled scenes of the event are worth" in page and "box +1 less box" in page
    assert page.count("data:image/png") == 2


def test_the_card_of_an_adapted_model_says_with_what(compared, towns):
    folder = compared[0].folder.with_name("few-runs") / "box-one-0-1-scenes"
    card = load_card(folder / "model")
    used = json.loads((folder / "few-shot.json").read_text())["settings"]["names"]
    assert used[0] in card.training.data and "for a benchmark" in card.limits
    assert card.training.parent_sha256 == load_card("box").weights.sha256
    assert card.training.events == ("one",)


def test_finished_adaptations_are_taken_and_others_refused(compared, towns, monkeypatch):
    out = compared[0].folder
    monkeypatch.setattr(few_shot, "_adapt", None)
    again = aftermap.benchmark(towns, out, **WANTED, overwrite=True)
    assert again.report["entrants"][1]["mean"] == compared[0].report["entrants"][1]["mean"]
    with pytest.raises(InputError, match="was adapted with other settings or from another model"):
        aftermap.benchmark(towns, out, **WANTED | {"adapt": ["steps=3"]}, overwrite=True)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"adapt": ["event=two"]}, InputError, "the protocol decides event"),
        ({"adapt": ["stepz=3"]}, RecipeError, "steps"),
        ({"protocol": "leave-one-event-out"}, InputError, "adapt is of few-shot"),
    ],
)
def test_wrong_settings_are_told_before_any_work(towns, tmp_path, options, kind, words):
    with pytest.raises(kind, match=words):
        aftermap.benchmark(towns, tmp_path / "out", **WANTED | options)


def test_numbers_of_scenes_are_numbers(towns, tmp_path, capsys):
    words = [
        "benchmark",
        towns,
        "-m",
        "box",
        "--protocol",
        "few-shot",
        "--shots",
        "one",
        "-o",
        tmp_path / "o",
    ]
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    assert end.value.code == 2 and "--shots one" in capsys.readouterr().err
