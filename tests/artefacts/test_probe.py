"""The answer that is kept with a graph, and graphs that runtimes compute rightly however they are compiled."""

import json
import shutil

import numpy as np
import openvino
import pytest

from aftermap.artefacts.exported import load_exported, load_exported_card, seal
from aftermap.artefacts.graphs.graph_modules import SingleGraph
from aftermap.artefacts.graphs.probe import MOST_DEVIATION, Answer, probe, probe_size
from aftermap.artefacts.graphs.write import _halve_batches, to_openvino
from aftermap.artefacts.store import load_model, model_folder
from aftermap.errors import BackendWarning, ModelError
from aftermap.inference.backends.base import Execution
from aftermap.inference.backends.opening import open_network
from aftermap.inference.backends.runtimes import open_exported
from saved_models import save_damage

BOX = model_folder("box") / "exported" / "openvino-int8"


def test_an_answer_is_every_eighth_pixel_to_three_digits():
    logits = np.arange(2 * 3 * 16 * 16, dtype=np.float32).reshape(2, 3, 16, 16) / 7
    answer = Answer.of(logits, 16)
    assert answer.shape == (2, 3, 2, 2)
    assert answer.logits[:4] == (0.0, round(8 / 7, 3), round(128 / 7, 3), round(136 / 7, 3))
    assert answer.deviation(logits) < 1e-5


def test_deviation_is_the_mean_difference_as_a_share_of_the_spread():
    logits = np.zeros((2, 1, 8, 16), np.float32)
    logits[..., 8] = 2  # kept: columns 0 and 8, so 0 and 2 with a spread of 1
    assert Answer.of(logits, 16).deviation(logits + 0.25) == pytest.approx(0.25)
    assert Answer.of(logits, 16).deviation(logits[:1]) == np.inf


def test_the_probe_is_the_same_everywhere_and_differs_in_every_plane():
    images = probe(2, 3, 64)
    assert (images.shape, images.dtype, images[0, 0, 0, 0, :3].tolist()) == (
        (2, 2, 3, 64, 64),
        np.uint8,
        [182, 181, 176],
    )
    assert len({plane.tobytes() for plane in images.reshape(-1, 64, 64)}) == 12


@pytest.mark.parametrize(("multiple", "least", "size"), [(32, 1, 64), (48, 1, 96), (32, 200, 224)])
def test_the_probe_fits_the_graph(multiple, least, size):
    assert probe_size(multiple, least) == size


def test_the_box_gives_the_answer_that_came_with_it():
    network = open_exported(BOX, Execution())
    kept = load_exported(BOX).card.graph.answer
    images = probe(2, 3, kept.size_px)
    assert kept.deviation(network(network.prepare(images))) < MOST_DEVIATION / 2


def with_other_answer(tmp_path):
    folder = tmp_path / "box"
    shutil.copytree(BOX.parent.parent, folder)
    exported = folder / "exported" / "openvino-int8"
    card = load_exported_card(exported)
    answer = card.graph.answer.model_copy(update={"logits": card.graph.answer.logits[::-1]})
    seal(exported, card.model_copy(update={"graph": card.graph.model_copy(update={"answer": answer})}))
    return folder, exported


def test_a_graph_that_is_computed_wrongly_is_refused(tmp_path):
    _, exported = with_other_answer(tmp_path)
    with pytest.raises(ModelError, match=r"openvino computes .*model\.xml wrongly on this machine"):
        open_exported(exported, Execution())


def test_a_model_whose_exported_form_is_computed_wrongly_runs_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERMAP_BACKEND", "auto")
    folder, _ = with_other_answer(tmp_path)
    with pytest.warns(BackendWarning, match="is passed over: openvino computes"):
        assert open_network(folder, Execution(backend="auto")).raw is False


def test_a_graph_of_an_earlier_time_has_no_answer_and_opens(tmp_path):
    exported = tmp_path / "old"
    shutil.copytree(BOX, exported)
    card = load_exported_card(exported)
    seal(exported, card.model_copy(update={"graph": card.graph.model_copy(update={"answer": None})}))
    assert json.loads((exported / "exported.json").read_text())["graph"]["answer"] is None
    assert open_exported(exported, Execution()).backend == "openvino"


def test_a_graph_runs_in_one_stream():
    network = open_exported(BOX, Execution())
    assert network._request.get_compiled_model().get_property("NUM_STREAMS") == 1


def test_both_dates_are_parted_by_equal_halves(tmp_path):
    loaded = load_model(save_damage(tmp_path / "damage"))
    model = to_openvino(SingleGraph(loaded, inside=False))
    kinds = [node.get_type_name() for node in model.get_ops()]
    assert "Split" in kinds
    assert "VariadicSplit" not in kinds


def test_equal_halves_are_computed_alike_in_any_number_of_streams():
    core = openvino.Core()
    model = core.read_model(BOX / "model.xml")
    images = (probe(2, 3, 128).astype(np.float32) - 127.5) / 127.5
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    logits = []
    for streams in (1, 1, 2, 3):
        compiled = core.compile_model(model, "CPU", settings | {"NUM_STREAMS": streams})
        logits.append(compiled.create_infer_request().infer([images])[0].copy())
        if len(logits) == 1:
            _halve_batches(model)  # from here on
    for other in logits[1:]:
        assert np.array_equal(logits[0], other)
