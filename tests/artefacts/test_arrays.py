"""NumPy's arrays, which graphs give, and PyTorch's tensors come to the same probabilities."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aftermap.artefacts.activation import to_channels, to_probabilities, to_uint8, truncated
from aftermap.artefacts.arrays import alike, as_kind_of, filled, sigmoid, softmax
from aftermap.artefacts.card import Normalisation
from aftermap.inference.backends.base import GraphFile, GraphNetwork, Network
from aftermap.inference.backends.pytorch import TorchNetwork
from aftermap.inference.tta import views
from backend_models import BGR, KINDS, pictures, save

ULP = 3e-7
"""Two roundings of a probability: the exponentials of the two differ in their last digit."""


def both(array):
    return array, torch.from_numpy(array.copy())


@given(st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=6), st.floats(0.2, 5))
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("channel_0", ["background", "building"])
def test_probabilities_of_any_logits_are_those_of_pytorch(activation, channel_0, logits, temperature):
    values = np.array(logits, np.float32).reshape(1, -1, 1, 1)
    mine, theirs = (
        to_probabilities(to_channels(x, activation=activation, channel_0=channel_0, temperature=temperature))
        for x in both(values)
    )
    assert mine.dtype == np.float32 and mine.shape == theirs.shape
    np.testing.assert_allclose(mine, theirs.numpy(), atol=ULP)


def test_large_logits_overflow_in_neither():
    with np.errstate(all="raise", under="ignore"):
        assert softmax(np.array([300, -300], np.float32).reshape(1, 2, 1, 1)).ravel().tolist() == [1, 0]
        assert sigmoid(np.array([300, 0, -300], np.float32)).tolist() == [1, 0.5, 0]


def test_a_building_of_no_class_is_shared_out_evenly_and_in_silence():
    with np.errstate(all="raise"):
        found = to_probabilities(np.array([0.8, 0, 0, 0, 0], np.float32).reshape(1, 5, 1, 1))
    assert found.ravel().tolist() == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_classes_next_to_nothing_do_not_divide_a_building_by_it(kind):
    found = to_probabilities(kind(np.array([1, 1e-40, 0], np.float32).reshape(1, 3, 1, 1)))
    assert found.ravel().tolist() == [0, 0.5, 0.5]


def test_cut_bytes_are_those_of_pytorch():
    values = np.linspace(0, 1, 2_000, dtype=np.float32).reshape(1, 1, 40, 50)
    mine, theirs = both(values)
    assert np.array_equal(to_uint8(mine), to_uint8(theirs).numpy()) and to_uint8(mine)[0, 0, -1, -1] == 255
    assert np.array_equal(truncated(mine), truncated(theirs).numpy())


class Arrays(GraphNetwork):
    """Takes NumPy's arrays, as graphs do; there is nothing to run."""

    backend = "openvino"

    def __call__(self, images):
        raise NotImplementedError


@pytest.mark.parametrize("valid", [False, True])
def test_images_are_prepared_bit_for_bit_as_for_pytorch(tmp_path, valid):
    from aftermap.artefacts.store import load_model
    from aftermap.inference.backends.base import Execution

    loaded = load_model(save(tmp_path / "m", KINDS["two dates"], **BGR))
    graph = GraphFile(tmp_path / "none", loaded.card, loaded.sha256, 8)
    networks: list[Network] = [TorchNetwork(loaded), Arrays(graph, Execution())]
    seen = np.random.default_rng(0).random((2, 2, 64, 96)) < 0.8 if valid else None
    theirs, mine = (network.prepare(pictures(), seen) for network in networks)
    assert isinstance(mine, np.ndarray) and mine.dtype == np.float32
    assert np.array_equal(mine, theirs.numpy())
    assert seen is None or (mine.transpose(0, 1, 3, 4, 2)[~seen] == 0).all()
    assert loaded.card.normalisation == Normalisation(mean=(90, 100, 120.4), std=(50, 60, 70))


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.75, 1.5])
@pytest.mark.parametrize("tta", ["full", "flips"])
def test_views_show_what_they_show_pytorch(tta, scale, kind):
    images = pictures(size=(64, 96)).astype(kind)
    for view in views(tta, (scale,)):
        shown = [view.show(x, multiple=8) for x in both(images)]
        back = [view.undo(x[:, 0], (64, 96)) for x in shown]
        for mine, theirs in (shown, back):
            assert mine.dtype == kind and mine.shape == theirs.shape
            gap = np.abs(mine.astype(np.float64) - theirs.numpy().astype(np.float64)).max()
            # PyTorch's weights are in float32: 1e-5 of the range, or a half that is rounded to the other side
            assert gap <= (0 if scale == 1 else 1 if kind == np.uint8 else 0.003)


def test_sums_over_both_kinds_are_numpys():
    one, other = alike(np.ones(3, np.float32), torch.ones(3))
    assert isinstance(other, np.ndarray) and (one + other).tolist() == [2, 2, 2]
    same = alike(torch.ones(3), torch.ones(3))
    assert all(isinstance(x, torch.Tensor) for x in same)
    assert isinstance(as_kind_of(np.ones(2), torch.ones(1)), torch.Tensor)


def test_filled_values_take_the_type_of_what_they_fill():
    x, where = np.full((1, 2), 7, np.uint8), np.array([[True, False]])
    assert (
        filled(x, where, np.float32(31)).tolist() == [[31, 7]]
        and filled(x, where, np.float32(1)).dtype == np.uint8
    )
    theirs = filled(torch.from_numpy(x), torch.from_numpy(where), torch.tensor([31.0]))
    assert theirs.tolist() == [[31, 7]] and theirs.dtype == torch.uint8
