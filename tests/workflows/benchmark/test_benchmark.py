"""A benchmark from end to end on made-up towns of three events."""

import json

import numpy as np
import pytest

import aftermap
from aftermap.cli.app import main
from aftermap.data.scene import read_mask
from aftermap.errors import DataError, InputError
from aftermap.inference.postprocess import Decision
from aftermap.inference.tiling import predict_scene
from aftermap.scoring.objects import BuildingScore
from aftermap.scoring.pixels import Score
from aftermap.workflows.benchmark import run as module
from aftermap.workflows.benchmark.counting import Target, _shapes, count_scene, load_counts, save_counts
from aftermap.workflows.benchmark.figures import difference, mean_of_seeds, mean_over, of_scenes
from aftermap.workflows.scoring.evaluate import decide


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "towns"
    made = aftermap.synth(folder, scenes=6, size_px=256, seed=5, kinds=["wind", "fire"], geotiff=False)
    events = ("one", "two", "three")
    scenes = [s.model_copy(update={"event": events[n % 3]}) for n, s in enumerate(made.scenes)]
    made.model_copy(update={"scenes": scenes}).save(folder)
    return folder


@pytest.fixture(scope="module")
def box():
    return aftermap.open_model("box")


@pytest.fixture(scope="module")
def counts(towns, box):
    scenes = aftermap.Manifest.load(towns).scenes
    return {scene.name: (scene, count_scene(box, Target.of(scene))) for scene in scenes}


@pytest.fixture(scope="module")
def compared(towns, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "compared"
    told = []
    result = aftermap.benchmark(
        towns, out, models=["box", "again=box"], bootstrap=100, progress=lambda *words: told.append(words)
    )
    return result, told


def test_counts_are_those_of_evaluate(counts, box):
    pixels, buildings = Score(), BuildingScore()
    for scene, _ in counts.values():
        probabilities = predict_scene(box, Target.of(scene).images)
        building, damage = decide(probabilities, Decision.of(box.card))
        truth = read_mask(scene, target="building"), read_mask(scene, target="damage")
        for score in (pixels, buildings):
            score.add(building, damage, *truth, event=scene.event, scene=scene.name)
    found = of_scenes([one for _, one in counts.values()], resamples=0, seed=0).values
    assert found["localization_f1"] == pytest.approx(pixels.result(bootstrap=0).localization_f1)
    assert found["official_score"] == pytest.approx(pixels.result(bootstrap=0).score)
    confusion = np.array(buildings.result(bootstrap=0).confusion)[1:]
    summed = sum(one.buildings for _, one in counts.values())[:25].reshape(5, 5)[1:]
    assert (confusion == summed).all()


def test_given_buildings_are_those_of_the_mask(counts):
    for _, one in counts.values():
        assert len(one.truth) == len(one.own) == len(one.decided)
        assert one.own.sum(axis=1) == pytest.approx(1)
    assert sum(len(one.truth) for _, one in counts.values()) > 20


def test_unlikely_shapes_are_left_out_and_the_others_numbered_anew():
    building = np.zeros((12, 40), np.uint8)
    building[2:8, 2:8] = building[2:8, 12:18] = building[2:8, 22:28] = 1
    building[0, 39] = 1  # too small for a shape
    probabilities = np.full((5, 12, 40), 0.1, np.float32)
    probabilities[0, :, 10:20] = 0.4
    shapes = _shapes(building, probabilities, 0.7)
    assert [shapes[4, col] for col in (4, 14, 24)] == [1, 0, 2] and shapes[0, 39] == 0
    assert [_shapes(building, probabilities, 0.0)[4, col] for col in (4, 14, 24)] == [1, 2, 3]
    assert (
        _shapes(building, probabilities, 0.95).max() == _shapes(building * 0, probabilities, 0.7).max() == 0
    )


def test_counts_come_back_as_they_were_kept(counts, tmp_path):
    scene = next(iter(counts.values()))[1]
    save_counts(tmp_path / "a.npz", [scene, scene])
    again = load_counts(tmp_path / "a.npz", 2)
    assert (again[1].own == scene.own).all() and again[0].mpx == scene.mpx
    assert load_counts(tmp_path / "a.npz", 3) is None and load_counts(tmp_path / "b.npz", 1) is None


def test_the_report_has_every_fold_and_its_mean(compared):
    result, _ = compared
    report = result.report
    assert report["protocol"]["kind"] == "leave-one-event-out"
    assert list(report["protocol"]["folds"]) == ["one", "three", "two"]
    first, second = report["entrants"]
    assert (first["name"], second["name"]) == ("box", "again")
    by_fold = [fold["values"]["localization_f1"] for fold in first["folds"].values()]
    assert first["mean"]["values"]["localization_f1"] == pytest.approx(np.mean(by_fold), abs=1e-5)
    low, high = first["mean"]["intervals"]["localization_f1"]
    assert low <= first["mean"]["values"]["localization_f1"] <= high
    assert json.loads((result.folder / "benchmark.json").read_text())["entrants"][0]["mean"] == first["mean"]


def test_the_same_model_differs_by_nothing(compared):
    gaps = compared[0].report["entrants"][1]["against"]["differences"]
    assert {gap["difference"] for gap in gaps.values()} == {0.0}
    assert not any(gap["clear"] for gap in gaps.values())


def test_every_scene_is_told_once(compared):
    assert compared[1] == [("scoring", n, 6) for n in range(1, 7)]


def test_the_page_names_everybody_and_runs_nothing(compared):
    page = compared[0].page.read_text()
    assert "again less box" in page and "reliability and risk-coverage" in page
    assert "<script" not in page and "default-src 'none'" in page
    rows = (compared[0].folder / "benchmark.csv").read_text().splitlines()
    assert rows[0] == "name,fold,figure,value,low,high" and len(rows) == 1 + 2 * 4 * 13


def test_another_benchmark_by_its_protocol_shows_these_rows_too(compared, towns, tmp_path, capsys):
    folder = compared[0].folder
    words = ["benchmark", towns, "-m", "new=box", "-o", tmp_path / "out", "--bootstrap", "0"]
    words += ["--protocol", folder / "protocol.json", "--include", folder / "benchmark.json", "--json"]
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    assert end.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in report["entrants"]] == ["new", "box", "again"]
    assert report["entrants"][0]["mean"]["intervals"] == {}
    assert report["entrants"][0]["mean"]["values"] == report["entrants"][1]["mean"]["values"]


def test_an_interrupted_benchmark_goes_on(towns, tmp_path, monkeypatch):
    def stop(stage, done, total):
        if done == 2:
            raise KeyboardInterrupt

    wanted = {"models": ["box"], "bootstrap": 0}
    with pytest.raises(KeyboardInterrupt):
        aftermap.benchmark(towns, tmp_path / "out", progress=stop, **wanted)
    shown = []
    monkeypatch.setattr(module, "count_scene", lambda *words: shown.append(1) or count_scene(*words))
    aftermap.benchmark(towns, tmp_path / "out", resume=True, **wanted)
    assert len(shown) == 4 and not (tmp_path / "out.work").exists()


def test_an_interrupted_training_tells_how_to_go_on(towns, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        (tmp_path / "out-runs").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("aftermap.api.benchmark", stop)
    with pytest.raises(SystemExit) as end:
        main(["benchmark", str(towns), "-r", "recipes/damage.yaml", "-o", str(tmp_path / "out")])
    assert end.value.code == 130
    assert "out-runs keeps what was trained: the same command goes on" in " ".join(
        capsys.readouterr().err.split()
    )


def test_rows_of_another_protocol_cannot_stand_beside_these(compared, towns, tmp_path):
    with pytest.raises(DataError, match="by another protocol or of other data"):
        aftermap.benchmark(
            towns, tmp_path / "out", models=["box"], protocol="block", include=[compared[0].folder]
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing to compare"),
        ({"models": ["box", "box"]}, "two of the models are called box"),
        (
            {"models": ["box"], "protocol": "loeo"},
            "no protocol loeo: pass leave-one-event-out, few-shot, block, split",
        ),
        ({"models": ["box="]}, "pass it as PATH or NAME=PATH"),
        (
            {"models": ["box"], "recipes": ["box=recipes/x.yaml"]},
            "two of the models and recipes are called box",
        ),
    ],
)
def test_mistakes_are_told_at_once(towns, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        aftermap.benchmark(towns, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()


def test_the_interval_of_the_mean_knows_that_events_differ(counts):
    scenes = [one for _, one in counts.values()]
    alike = [of_scenes(scenes, resamples=200, seed=n) for n in range(3)]
    unlike = [of_scenes(scenes[n : n + 2], resamples=200, seed=n) for n in (0, 2, 4)]
    spread = [
        np.ptp(np.percentile(mean_over(f, seed=0).draws["localization_f1"], [5, 95])) for f in (alike, unlike)
    ]
    assert spread[1] > spread[0] > 0
    assert mean_over(alike, seed=0).values == pytest.approx(alike[0].values, nan_ok=True)


def test_seeds_are_averaged_draw_by_draw(counts):
    scenes = [one for _, one in counts.values()]
    one, other = of_scenes(scenes, resamples=20, seed=0), of_scenes(scenes[:3], resamples=20, seed=0)
    mean = mean_of_seeds([one, other])
    assert mean.draws["brier"] == pytest.approx((one.draws["brier"] + other.draws["brier"]) / 2)
    assert difference(one, one)["brier"] == {"difference": 0.0, "interval": [0.0, 0.0], "clear": False}
