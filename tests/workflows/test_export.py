"""Export end to end: what passes is a model like its original, what does not leaves nothing behind."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from aftermap.artefacts.ensemble import GateIngredient, Ingredient, compose, save_ensemble
from aftermap.artefacts.exported import load_exported
from aftermap.artefacts.store import BOX
from aftermap.data.scene import Manifest
from aftermap.errors import BackendWarning, DataError, InputError, ModelError, OutputError
from aftermap.inference.ensemble import open_predictor
from aftermap.inference.parity import Budget
from aftermap.models.build import build_model
from aftermap.models.networks.dense import count_parameters
from aftermap.workflows.export import run as export
from aftermap.workflows.export.run import (
    ExportOptions,
    default_budget,
    export_model,
    gmacs_of,
    synthetic_tiles,
)
from aftermap.workflows.weights.counting import measure
from backend_models import BGR, KINDS, save
from prepared_datasets import prepare_xbd
from squares import make_dataset

ANYTHING = Budget(
    difference_max=1, difference_quantile=1, difference_mean=1, agreement=0, f1_loss=1, f1_agreement=0
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "one": save(root / "one", KINDS["one date"], seed=1),
        "two": save(root / "two", KINDS["two dates"], seed=2, temperature=1.5, **BGR),
    }


@pytest.fixture
def small_town(monkeypatch):
    """One synthetic scene of 128 px instead of four of 512."""
    monkeypatch.setattr(export, "synthetic_tiles", lambda: synthetic_tiles(1, size_px=128))


def raw(dates, size=(64, 96)):
    return np.random.default_rng(7).integers(0, 256, (2, dates, 3, *size), dtype=np.uint8)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_an_exported_model_predicts_what_its_original_predicts(models, data, tmp_path, to, inside):
    result = export_model(models["two"], tmp_path / "out", ExportOptions(to=to, inside=inside, tiles=data))
    assert result.parity.passed and result.folder == tmp_path / "out"
    images = raw(2)
    exported, original = (open_predictor(name).predict(images) for name in (tmp_path / "out", models["two"]))
    assert np.abs(exported - original).max() < 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_the_card_holds_size_arithmetic_and_the_comparison(models, data, tmp_path):
    export_model(models["two"], tmp_path / "out", ExportOptions(to="onnx", tiles=data))
    graph = load_exported(tmp_path / "out").card.graph
    model = build_model(KINDS["two dates"])
    assert graph.parameters == count_parameters(model)
    assert graph.gmacs == round(measure(KINDS["two dates"]).gmacs, 3) > 0
    assert graph.bytes == (tmp_path / "out" / "model.onnx").stat().st_size
    assert graph.parity["passed"] and graph.parity["on"] == "squares"
    # two scenes are for validation, none for testing
    assert graph.parity["scenes"] == graph.parity["labelled_scenes"] == 2
    bare = load_exported(tmp_path / "out" / "model.onnx").card.graph
    assert bare.parity == graph.parity
    assert "Compared with the original on 2 scenes (squares)" in (tmp_path / "out" / "README.md").read_text()


def test_an_ensemble_is_exported_as_one_model(models, data, tmp_path):
    save_ensemble(tmp_path / "e", *compose("e", [Ingredient(models[name]) for name in ("one", "two")]))
    result = export_model(tmp_path / "e", tmp_path / "out", ExportOptions(to="onnx", tiles=data))
    assert result.card.graph.gmacs == pytest.approx(sum(gmacs_of(m) for m in models.values()), abs=1e-3)
    images = raw(2)
    exported, original = (open_predictor(tmp_path / name).predict(images) for name in ("out", "e"))
    assert np.abs(exported - original).max() < 1e-4


def test_a_gate_that_the_graph_leaves_out_is_warned_of(models, data, tmp_path):
    guard = GateIngredient(save(tmp_path / "guard", KINDS["one date"]), threshold=0.0, min_pixels=1)
    save_ensemble(tmp_path / "e", *compose("e", [Ingredient(models["two"])], gate=guard))
    with pytest.warns(BackendWarning, match="the gate of .*e is no part of the graph"):
        result = export_model(tmp_path / "e", tmp_path / "out", ExportOptions(to="openvino", tiles=data))
    assert result.card.graph.parameters == count_parameters(build_model(KINDS["two dates"]))


def reversed_bands(monkeypatch):
    """A mistake that any exporter could make: the graph takes blue for red."""
    right = export.graph_module

    def wrong(*arguments, **options):
        made = right(*arguments, **options)
        assert made.module.prepare.order is None
        made.module.prepare.order = [2, 1, 0]
        return made

    monkeypatch.setattr(export, "graph_module", wrong)


def test_a_broken_export_is_refused_and_the_class_that_fell_is_named(tmp_path, monkeypatch):
    reversed_bands(monkeypatch)
    monkeypatch.setattr(export, "synthetic_tiles", lambda: synthetic_tiles(2, size_px=256))
    budget = default_budget("fp32", "f32").model_copy(update={"least_px": 100})
    result = export_model(BOX, tmp_path / "out", ExportOptions(to="openvino", budget=budget))
    assert not result.parity.passed and result.folder is None
    fallen = {name: row for name, row in result.parity.report["classes"].items() if row["judged"]}
    assert any(name in result.parity.reason for name in fallen)
    assert min(row["f1_change"] for row in fallen.values()) < -budget.f1_loss
    assert not list(tmp_path.iterdir())


def test_a_refused_export_leaves_the_earlier_one_in_place(models, data, tmp_path, monkeypatch):
    out, options = tmp_path / "out", ExportOptions(to="onnx", tiles=data)
    export_model(models["two"], out, options)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    right = export.graph_module

    def wrong(*arguments, **options):
        made = right(*arguments, **options)
        torch.nn.init.normal_(made.module.model.head.bias)
        return made

    monkeypatch.setattr(export, "graph_module", wrong)
    assert not export_model(models["two"], out, options, overwrite=True).parity.passed
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_an_export_that_fails_half_way_leaves_nothing(models, data, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "compare", full)
    with pytest.raises(OutputError, match=r"cannot write .*out: the disk is full: free some space"):
        export_model(models["one"], tmp_path / "out", ExportOptions(to="onnx", tiles=data))
    assert not list(tmp_path.iterdir())


def test_without_scenes_made_up_ones_are_compared(models, tmp_path, small_town):
    result = export_model(models["one"], tmp_path / "out", ExportOptions(to="onnx", precision="fp16"))
    report = result.card.graph.parity
    assert (report["on"], report["scenes"], report["pixels"]) == ("synthetic scenes", 1, 128**2)
    assert result.card.graph.precision == "fp16" and 0 < report["difference"]["max"] < 0.2


def test_made_up_scenes_are_the_same_every_time():
    first, again = (next(synthetic_tiles(1, size_px=64)) for _ in range(2))
    assert np.array_equal(first.images, again.images) and first.images.shape == (2, 3, 64, 64)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_8_bits_are_measured_on_scenes_that_are_not_judged(models, data, tmp_path, to, monkeypatch):
    used = []
    windows = export.calibration_windows

    def spied(scenes, *arguments, **options):
        used.extend(scenes)
        return windows(scenes, *arguments, **options)

    monkeypatch.setattr(export, "calibration_windows", spied)
    monkeypatch.setattr(export, "_WINDOW_PX", 64)
    options = ExportOptions(to=to, precision="int8", calibrate=data, windows=3, tiles=data, budget=ANYTHING)
    result = export_model(models["two"], tmp_path / "out", options)
    assert result.parity.passed and result.card.graph.precision == "int8"
    assert {scene.split for scene in used} == {"train"}
    found = open_predictor(tmp_path / "out").predict(raw(2))
    assert found.shape == (2, 5, 64, 96) and np.allclose(found.sum(axis=1), 1, atol=1e-5)


def test_scenes_to_judge_on_are_never_calibrated_on(data, tmp_path):
    options = ExportOptions(to="onnx", precision="int8", calibrate=data, tiles=data)
    manifest = Manifest.load(data)
    unsplit = manifest.model_copy(
        update={"scenes": [s.model_copy(update={"split": "unassigned"}) for s in manifest.scenes]}
    )
    unsplit.save(tmp_path)
    options = replace(options, calibrate=tmp_path)
    tiles = export._tiles(options)
    left = export._calibration_scenes(options, tiles)
    assert {scene.split for scene in tiles} == {"validation"} and len(left) == 4
    assert not {scene.name for scene in tiles} & {scene.name for scene in left}


def test_at_most_so_many_scenes_are_compared_spread_evenly(data, tmp_path):
    manifest = Manifest.load(data)
    tested = [s.model_copy(update={"split": "test"}) for s in manifest.scenes]
    manifest.model_copy(update={"scenes": tested}).save(tmp_path)
    names = [s.name for s in export._tiles(ExportOptions(to="onnx", tiles=tmp_path, scenes=3))]
    assert names == [tested[index].name for index in (0, 2, 4)]
    assert len(export._tiles(ExportOptions(to="onnx", tiles=tmp_path, scenes=0))) == 6


def test_an_output_that_exists_is_only_replaced_on_demand_and_if_it_is_an_export(models, data, tmp_path):
    out, options = tmp_path / "out", ExportOptions(to="onnx", tiles=data)
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="exists: pass --overwrite"):
        export_model(models["one"], out, options)
    with pytest.raises(OutputError, match="is no exported model, so --overwrite leaves it"):
        export_model(models["one"], out, options, overwrite=True)
    assert (out / "letter.txt").read_text() == "dear"


def test_what_cannot_be_asked_for_is_said_before_any_work(models, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="int8 needs scenes to measure ranges on: pass --calibrate"):
        export_model(models["one"], out, ExportOptions(to="onnx", precision="int8"))
    with pytest.raises(ModelError, match="bf16 on the processor is for OpenVINO only"):
        export_model(models["one"], out, ExportOptions(to="onnx", execution="bf16"))


@pytest.mark.parametrize(("name", "least"), [("windows", 1), ("scenes", 0)])
def test_counts_that_make_no_sense_are_refused(models, data, tmp_path, name, least):
    wrong = ExportOptions(to="onnx", precision="int8", calibrate=data, tiles=data, **{name: least - 1})
    with pytest.raises(InputError, match=f"--{name} {least - 1}: expected {least} "):
        export_model(models["one"], tmp_path / "out", wrong)


def test_calibrating_on_nothing_but_what_is_judged_says_so(models, data, tmp_path):
    manifest = Manifest.load(data)
    unsplit = [s.model_copy(update={"split": "unassigned"}) for s in manifest.scenes]
    manifest.model_copy(update={"scenes": unsplit}).save(tmp_path)
    options = ExportOptions(to="onnx", precision="int8", calibrate=tmp_path, tiles=tmp_path)
    with pytest.raises(DataError, match="are those of --tiles that the result is judged on: give others"):
        export_model(models["one"], tmp_path / "out", options)


def test_an_exported_model_is_not_exported_again(models, data, tmp_path):
    options = ExportOptions(to="onnx", tiles=data)
    export_model(models["one"], tmp_path / "out", options)
    with pytest.raises(ModelError, match="is exported already"):
        export_model(tmp_path / "out", tmp_path / "again", options)


def test_32_bit_weights_multiplied_in_16_bits_are_allowed_what_16_bit_weights_are():
    assert default_budget("fp32", "bf16") == Budget.of("fp16")
    assert default_budget("fp32", "f32") == Budget.of("fp32")
    assert default_budget("int8", "bf16") == Budget.of("int8")


def test_the_report_is_plain_json(models, tmp_path, small_town):
    result = export_model(models["one"], tmp_path / "out", ExportOptions(to="onnx"))
    tree = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert tree["folder"] == str(tmp_path / "out") and tree["parity"]["passed"] is True
    assert tree["graph"]["source"]["name"] == "one" and "parity" not in tree["graph"]


@pytest.mark.real
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_the_model_in_the_box_is_the_same_on_a_real_tile(shared_data, tmp_path, to):
    source, real = tmp_path / "source", shared_data / "xbd-real" / "midwest-flooding"
    for part in ("images", "labels"):
        (source / part).mkdir(parents=True)
        for file in sorted((real / part).iterdir())[:2]:
            (source / part / file.name).symlink_to(file)
    prepare_xbd(source, tmp_path / "data")
    result = export_model(BOX, tmp_path / "out", ExportOptions(to=to, tiles=tmp_path / "data"))
    assert result.parity.passed and result.parity.report["labelled_scenes"] == 1
    assert result.parity.report["agreement"] > 0.9999 and result.parity.report["difference"]["max"] < 1e-3
