import logging
import shutil
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.exported import load_exported
from aftermap.artefacts.store import load_model
from aftermap.errors import BackendWarning, ModelError
from aftermap.inference.backends import auto
from aftermap.inference.backends.auto import AutoNetwork, Choice, choose, measure
from aftermap.inference.backends.base import Execution, wanted_backend
from aftermap.inference.backends.opening import open_companion
from aftermap.inference.backends.pytorch import TorchNetwork
from aftermap.inference.ensemble import Options, open_predictor
from backend_models import KINDS, export, pictures, save

IMAGES = np.zeros((1, 1, 3, 32, 32), np.float32)


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A program that has chosen nothing yet, on a machine that remembers nothing."""
    monkeypatch.delenv("AFTERMAP_BACKEND")
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(auto, "_settled", {})


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_model(save(tmp_path_factory.mktemp("models") / "one", KINDS["one date"]))


@dataclass
class Pretended:
    """Runtimes that are PyTorch, with times and differences as told.

    Attributes:
        seconds: per call, by runtime; a list gives that of each call.
        shift: added to the second logit.
        fails: runtimes that cannot be opened.
        opened, calls: what happened.
    """

    seconds: dict
    shift: dict
    fails: tuple
    opened: list
    calls: list

    def open(self, loaded, runtime, execution):
        self.opened.append(runtime)
        if runtime in self.fails:
            raise ModelError(f"no {runtime} for this model")
        network = TorchNetwork(loaded)
        inside, shift = network._model, torch.tensor([0.0, self.shift.get(runtime, 0.0)]).reshape(1, 2, 1, 1)
        network._forward = network._model = lambda images: inside(images) + shift
        network.backend = runtime
        return network

    def timed(self, network, images):
        self.calls.append(network.backend)
        told = self.seconds[network.backend]
        if isinstance(told, list):
            told = told[self.calls.count(network.backend) - 1]
        return told, network(network.take(images))


@pytest.fixture
def pretend(monkeypatch):
    def use(shift=None, fails=(), **seconds):
        told = Pretended(seconds, shift or {}, fails, [], [])
        monkeypatch.setattr(auto, "open_loaded", told.open)
        monkeypatch.setattr(auto, "_timed", told.timed)
        return told

    return use


def test_the_fastest_is_taken(loaded, pretend):
    pretend(torch=0.3, onnxruntime=0.2, openvino=0.1)
    network, choice = choose(loaded, IMAGES, Execution())
    assert network.backend == choice.runtime == "openvino" and choice.left_out == {}
    assert choice.seconds == {"torch": 0.3, "onnxruntime": 0.2, "openvino": 0.1}


def test_the_first_call_of_each_does_not_count(loaded, pretend):
    pretend(torch=0.3, onnxruntime=0.25, openvino=[5.0] + [0.1] * 9)
    assert choose(loaded, IMAGES, Execution())[1].runtime == "openvino"


def test_a_runtime_with_other_probabilities_is_left_out_with_a_warning(loaded, pretend):
    pretend(torch=0.3, onnxruntime=0.2, openvino=0.1, shift={"openvino": 0.05})
    with pytest.warns(
        BackendWarning, match=r"openvino is not used for one: its probabilities differ .* 0\.01"
    ):
        network, choice = choose(loaded, IMAGES, Execution())
    assert network.backend == "onnxruntime" and set(choice.left_out) == {"openvino"}


def test_differences_of_rounding_do_not_matter(loaded, pretend):
    pretend(torch=0.3, onnxruntime=0.2, openvino=0.1, shift={"openvino": 1e-3})
    assert choose(loaded, IMAGES, Execution())[1].runtime == "openvino"


def test_a_runtime_that_gives_no_numbers_is_left_out(loaded, pretend):
    pretend(torch=0.3, onnxruntime=0.2, openvino=0.1, shift={"openvino": float("nan")})
    with pytest.warns(BackendWarning, match="openvino is not used"):
        assert choose(loaded, IMAGES, Execution())[1].runtime == "onnxruntime"


def test_a_runtime_that_cannot_take_the_model_is_left_out_in_silence(loaded, pretend):
    pretend(torch=0.3, onnxruntime=0.2, openvino=0.1, fails=("openvino",))
    choice = choose(loaded, IMAGES, Execution())[1]
    assert choice.runtime == "onnxruntime" and choice.left_out == {"openvino": "no openvino for this model"}


def test_a_model_that_torch_cannot_run_is_an_error(loaded, pretend):
    pretend(torch=0.3, onnxruntime=0.2, openvino=0.1, fails=("torch",))
    with pytest.raises(ModelError, match="no torch for this model"):
        choose(loaded, IMAGES, Execution())


def test_packages_that_are_not_there_are_not_tried(loaded, pretend, monkeypatch):
    told = pretend(torch=0.3, openvino=0.1)
    find = auto.importlib.util.find_spec
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    assert choose(loaded, IMAGES, Execution())[1].left_out == {"onnxruntime": "onnx not installed"}
    assert told.opened == ["torch", "openvino"]


def test_rounds_alternate_and_those_far_behind_are_not_repeated(loaded, pretend):
    told = pretend(torch=0.9, onnxruntime=0.11, openvino=0.1)
    choose(loaded, IMAGES, Execution())
    first, both = ["torch", "onnxruntime", "openvino"], ["onnxruntime", "openvino"]
    assert told.calls == first * 2 + both * (auto.ROUNDS - 1)


def test_a_slow_model_is_judged_by_its_first_calls(loaded, pretend):
    told = pretend(torch=20.0, onnxruntime=12.0, openvino=15.0)
    assert choose(loaded, IMAGES, Execution())[1].runtime == "onnxruntime" and len(told.calls) == 3


def test_no_round_begins_after_the_time_is_up(monkeypatch, pretend, loaded):
    told = pretend(torch=0.1, openvino=0.1)
    clock = iter([0.0, 1.0, auto.SECONDS + 1])
    monkeypatch.setattr(auto.time, "perf_counter", lambda: next(clock))
    networks = {name: told.open(loaded, name, None) for name in ("torch", "openvino")}
    measure(networks, IMAGES, {"torch": 0.1, "openvino": 0.1})
    assert told.calls == ["torch", "openvino"] * 2


def test_the_choice_is_said_in_one_line():
    seconds = {"torch": 0.25, "openvino": 0.1, "onnxruntime": 0.11}
    choice = Choice("openvino", seconds, {}, (1, 2, 3, 1024, 512))
    assert str(choice) == (
        "backend openvino: 1.1 times as fast as onnxruntime, 2.5 times as fast as torch "
        "(1024 x 512 px, measured now)"
    )
    alone = Choice("torch", {"torch": 0.25}, {"openvino": "no"}, (1, 1, 3, 64, 64), remembered=True)
    assert str(alone) == "backend torch: nothing else runs this model here (64 x 64 px, measured earlier)"


def test_the_next_program_remembers(loaded, pretend, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "aftermap.backends")
    told = pretend(torch=0.3, onnxruntime=0.2, openvino=0.1)
    AutoNetwork(loaded, Execution(backend="auto")).prepare(IMAGES)
    calls = len(told.calls)
    monkeypatch.setattr(auto, "_settled", {})
    again = AutoNetwork(loaded, Execution(backend="auto"))
    again.prepare(IMAGES)
    assert len(told.calls) == calls and again.backend == "openvino"
    assert again.execution["auto"]["remembered"] and again.execution["backend"] == "openvino"
    assert [record.getMessage().split(", ")[-1] for record in caplog.records] == [
        "measured now)",
        "measured earlier)",
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"execution": Execution(backend="auto", threads=3)},
        {"images": np.zeros((1, 1, 3, 128, 128), np.float32)},
        {"processor": "another"},
        {"seed": 7},
    ],
)
def test_other_threads_windows_processors_and_weights_are_measured_anew(
    loaded, pretend, other, monkeypatch, tmp_path
):
    told = pretend(torch=0.3, onnxruntime=0.2, openvino=0.1)
    AutoNetwork(loaded, Execution(backend="auto")).prepare(IMAGES)
    calls = len(told.calls)
    monkeypatch.setattr(auto, "_settled", {})
    if "processor" in other:
        monkeypatch.setattr(auto, "processor", lambda: other["processor"])
    model = load_model(save(tmp_path / "o", KINDS["one date"], other["seed"])) if "seed" in other else loaded
    AutoNetwork(model, other.get("execution", Execution(backend="auto"))).prepare(other.get("images", IMAGES))
    assert len(told.calls) == 2 * calls


def test_windows_of_about_one_size_share_a_choice(loaded, pretend):
    told = pretend(torch=0.3, onnxruntime=0.2, openvino=0.1)
    for side in (1024, 992):
        AutoNetwork(loaded, Execution(backend="auto")).prepare(np.zeros((1, 1, 3, 8, 8 * side), np.float32))
    assert told.opened.count("torch") == 1


def test_what_was_remembered_and_no_longer_works_is_measured_anew(loaded, pretend, monkeypatch):
    pretend(torch=0.3, onnxruntime=0.2, openvino=0.1)
    AutoNetwork(loaded, Execution(backend="auto")).prepare(IMAGES)
    monkeypatch.setattr(auto, "_settled", {})
    pretend(torch=0.3, onnxruntime=0.2, fails=("openvino",))
    network = AutoNetwork(loaded, Execution(backend="auto"))
    network.prepare(IMAGES)
    assert network.backend == "onnxruntime"


def test_members_of_one_architecture_are_measured_once(tmp_path, pretend, caplog):
    caplog.set_level(logging.INFO, "aftermap.backends")
    told = pretend(torch=0.3, onnxruntime=0.2, openvino=0.1)
    parts = [Ingredient(save(tmp_path / str(seed), KINDS["one date"], seed)) for seed in (0, 1)]
    card, members = compose("pair", parts)
    save_ensemble(tmp_path / "pair", card, members)
    predictor = open_predictor(tmp_path / "pair", Options(backend="auto"))
    assert predictor.execution["backend"] == "auto"
    predictor.predict(pictures(1, (32, 32)))
    assert told.opened == ["torch", "onnxruntime", "openvino", "openvino"] and len(caplog.records) == 1
    assert predictor.execution["backend"] == "openvino" and "members" not in predictor.execution


def test_the_environment_says_what_auto_stands_for(monkeypatch, loaded):
    monkeypatch.setenv("AFTERMAP_BACKEND", "onnxruntime")
    assert wanted_backend("auto") == "onnxruntime" and wanted_backend("torch") == "torch"
    monkeypatch.setenv("AFTERMAP_BACKEND", "fastest")
    with pytest.raises(ModelError, match="AFTERMAP_BACKEND 'fastest': expected one of auto, torch"):
        wanted_backend("auto")


def test_auto_gives_the_probabilities_of_torch(loaded):
    predictor = open_predictor(loaded.path, Options(backend="auto"))
    found = predictor.predict(pictures(1))
    assert np.abs(found - open_predictor(loaded.path).predict(pictures(1))).max() < 1e-4
    told = predictor.execution
    assert told["backend"] in told["auto"]["seconds"] and set(told["auto"]["seconds"]) == {
        "torch",
        "onnxruntime",
        "openvino",
    }


class TestAnExportedFormInTheModelsFolder:
    """Stands in for the model with `auto`, and nothing is measured."""

    @pytest.fixture
    def model(self, tmp_path):
        folder = save(tmp_path / "model", KINDS["folded"])
        (folder / "exported").mkdir()
        return folder

    def put(self, model, name, kind="openvino", source=None, **graph):
        export(
            source or model,
            model / "exported" / name,
            kind,
            **{"inside": False, "parity": {"passed": True}} | graph,
        )

    @pytest.mark.parametrize("inside", [False, True])
    def test_gives_the_models_probabilities_under_the_models_name(self, model, inside, pretend, caplog):
        caplog.set_level(logging.INFO, "aftermap.backends")
        told = pretend()
        self.put(model, "mine", inside=inside)
        predictor = open_predictor(model, Options(backend="auto"))
        plain = open_predictor(model)
        images = pictures()
        assert np.abs(predictor.predict(images) - plain.predict(images)).max() < 1e-4
        assert predictor.execution["backend"] == "openvino" and predictor.network.raw == inside
        assert (predictor.sha256, predictor.card) == (plain.sha256, plain.card)
        assert told.opened == [] and [r.getMessage() for r in caplog.records] == [
            "backend exported/mine: it came with the model"
        ]

    def test_is_the_smallest_of_several(self, model):
        self.put(model, "a-fp32", execution="f32")
        self.put(model, "b-onnx", "onnx")
        sizes = {
            name: load_exported(model / "exported" / name).card.graph.bytes for name in ("a-fp32", "b-onnx")
        }
        network = open_companion(model, Execution(backend="auto"))
        assert network.graph.path.parent.name == min(sizes, key=sizes.get)

    def test_stands_in_for_a_member_of_an_ensemble(self, model, tmp_path, pretend):
        told = pretend()
        self.put(model, "mine")
        card, members = compose("one", [Ingredient(model)])
        save_ensemble(tmp_path / "one", card, members)
        shutil.copytree(model / "exported", tmp_path / "one" / card.members[0].folder / "exported")
        found = open_predictor(tmp_path / "one", Options(backend="auto")).predict(pictures())
        assert np.abs(found - open_predictor(tmp_path / "one").predict(pictures())).max() < 1e-4
        assert told.opened == []

    @pytest.mark.parametrize("parity", [None, {"passed": False}])
    def test_is_passed_over_unless_it_passed_the_gate(self, model, parity):
        self.put(model, "mine", parity=parity)
        assert open_companion(model, Execution()) is None

    def test_is_passed_over_where_it_is_of_other_weights(self, model, tmp_path):
        self.put(model, "mine", source=save(tmp_path / "other", KINDS["folded"], seed=1))
        assert open_companion(model, Execution()) is None

    @pytest.mark.parametrize("asked", [{"precision": "f32"}, {"device": "cuda"}, {"compiled": True}])
    def test_is_passed_over_where_something_else_is_asked_for(self, model, asked):
        self.put(model, "mine")
        assert open_companion(model, Execution(**asked)) is None

    def test_that_was_altered_is_passed_over_with_a_warning(self, model):
        self.put(model, "mine")
        with (model / "exported" / "mine" / "model.bin").open("ab") as file:
            file.write(b"x")
        with pytest.warns(BackendWarning, match="mine is passed over: .*model.bin was altered or cut short"):
            assert open_companion(model, Execution()) is None

    def test_whose_runtime_is_not_there_is_passed_over_with_a_warning(self, model, monkeypatch):
        self.put(model, "mine")
        monkeypatch.delitem(sys.modules, "aftermap.inference.backends.openvino", raising=False)
        monkeypatch.setitem(sys.modules, "openvino", None)
        with pytest.warns(BackendWarning, match="mine is passed over: .*openvino"):
            assert open_companion(model, Execution()) is None
