import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.store import LoadedModel
from aftermap.errors import ModelError
from aftermap.inference.predictor import Predictor
from aftermap.inference.tta import View, views
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel


class Toy(DenseModel):
    """One logit, `k` times the image plus a wave that knows where it stands."""

    dates, classes, stride = 1, 1, 1

    def __init__(self, k=1.0, *, aware=True):
        super().__init__()
        self.k, self.aware = k, aware

    def forward_features(self, image):
        return image[:, 0]

    def forward_head(self, features, size):
        wave = torch.sin(1.3 * torch.arange(size[0] * size[1])).reshape(1, 1, *size)
        return self.k * (features + wave * self.aware)


def predictor(model, **options):
    card = Card(
        name="toy",
        model=CustomConfig(target="test_tta:Toy", classes=1),
        dates=1,
        scheme="building",
        bands=("grey",),
        activation="sigmoid",
        normalisation=Normalisation(mean=(0.0,), std=(1.0,)),
        training=TrainingRecord(data="none", data_licence="none"),
        licence="MIT",
    )
    return Predictor(LoadedModel(model, card, None, "0"), **options)


WAVE = np.sin(np.arange(16, dtype=np.float32)).reshape(1, 1, 1, 4, 4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.500000, 0.858760, 0.806090, 0.366643]),
        ({"tta": "flips", "averaging": "logits"}, [0.501595, 0.695878, 0.710039, 0.536809]),
        ({"tta": "rotations", "averaging": "logits"}, [0.501595, 0.690823, 0.696719, 0.536809]),
        ({"tta": "flips"}, [0.502091, 0.672753, 0.685864, 0.535554]),
    ],
)
def test_views_average_as_metadamagenet_published(options, expected):
    probabilities = predictor(Toy(), **options).predict(WAVE)
    assert probabilities[0, 1, 0] == pytest.approx(expected, abs=1e-6)
    assert probabilities[0, 0, 0] == pytest.approx([1 - p for p in expected], abs=1e-6)


@pytest.mark.parametrize("tta", ["half-turn", "flips", "rotations", "full"])
def test_a_model_that_does_not_know_where_it_stands_is_left_as_it_is(tta):
    plain, augmented = (predictor(Toy(aware=False), tta=t).predict(WAVE[..., :3, :]) for t in ("none", tta))
    assert np.allclose(plain, augmented, atol=1e-6)


def test_all_eight_views_average_the_rotations_of_both_mirrorings():
    full = predictor(Toy(), tta="full", averaging="logits").channels(WAVE).logit()
    rotations = predictor(Toy(), tta="rotations", averaging="logits")
    straight = rotations.channels(WAVE).logit()
    mirrored = rotations.channels(WAVE[..., ::-1]).logit().flip(-1)
    assert torch.allclose(full, (straight + mirrored) / 2, atol=1e-5)


def test_the_half_turn_is_the_mean_of_both_orientations():
    model = Toy()
    x = torch.from_numpy(WAVE)
    with torch.no_grad():
        turned = model(x.flip((-2, -1))).sigmoid().flip((-2, -1))
        expected = ((model(x).sigmoid() + turned) / 2)[0, 0]
    found = predictor(model, tta="half-turn").predict(WAVE)[0, 1]
    assert np.allclose(found, expected, atol=1e-6)


@given(st.sampled_from(["half-turn", "flips", "rotations", "full"]), st.integers(1, 5), st.integers(1, 5))
def test_every_view_is_undone_whatever_the_shape(tta, height, width):
    image = torch.arange(2.0 * height * width).reshape(1, 1, 2, height, width)
    for view in views(tta):
        shown = view.show(image, multiple=1)
        assert torch.equal(view.undo(shown[:, 0], (height, width)), image[:, 0])


@pytest.mark.parametrize(("tta", "count"), [("none", 1), ("half-turn", 2), ("flips", 4), ("full", 8)])
def test_no_view_is_shown_twice(tta, count):
    image = torch.arange(6.0).reshape(1, 1, 1, 2, 3)
    shown = {str(view.show(image, multiple=1).tolist()) for view in views(tta)}
    assert len(shown) == count


def test_scaled_views_come_at_multiples_and_go_back():
    image = torch.rand(1, 2, 3, 64, 96)
    shown = View(turns=1, scale=0.75).show(image, multiple=32)
    assert shown.shape == (1, 2, 3, 64, 64)  # 48 and 72 round to 64 and 64, turned
    assert View(turns=1, scale=0.75).undo(shown[:, 0], (64, 96)).shape == (1, 3, 64, 96)


def test_scales_leave_a_smooth_ramp_where_it_is():
    rows = np.linspace(-1, 1, 64, dtype=np.float32)[:, None] * np.ones((1, 64), np.float32)
    plain = predictor(Toy(aware=False)).predict(rows[None, None, None])
    scaled = predictor(Toy(aware=False), scales=(0.5, 1.0, 1.25)).predict(rows[None, None, None])
    assert np.abs(plain - scaled)[..., 4:-4, :].max() < 2e-4 and np.abs(plain - scaled).max() < 5e-3
    assert np.allclose(scaled.sum(axis=1), 1, atol=1e-6)


def test_a_scale_that_changes_what_is_seen_changes_the_mean():
    # a checkerboard of single pixels disappears at half the size
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 2 - 1).astype(np.float32)[None, None, None]
    plain = predictor(Toy(4.0, aware=False)).predict(board)[0, 1]
    halved = predictor(Toy(4.0, aware=False), scales=(0.5,)).predict(board)[0, 1]
    assert plain.std() > 0.45 and np.abs(halved - 0.5).max() < 0.15


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, 9.0)])
def test_scales_that_make_no_sense_are_refused(scales):
    with pytest.raises(ModelError, match=r"expected one or more numbers from 0\.25 to 4"):
        views("none", scales)


def test_an_unknown_kind_of_augmentation_is_refused():
    with pytest.raises(ModelError, match="no test-time augmentation 'spins'"):
        views("spins")


def dihedral(flip, transpose):
    """The view of Open Cities by its own words: mirror rows, columns or both, then transpose."""

    def change(image):
        axes = {0: (), 2: (-2,), 3: (-1,), 23: (-2, -1)}[flip]
        mirrored = image.flip(axes) if axes else image
        return mirrored.transpose(-1, -2) if transpose else mirrored

    return change


FLIPS = [(flip, transpose) for flip in (0, 2, 3, 23) for transpose in (False, True)]


@pytest.mark.parametrize(("flip", "transpose"), FLIPS)
def test_the_eight_published_views_are_shown_and_undone(flip, transpose):
    image = torch.arange(24.0).reshape(1, 1, 1, 4, 6)
    view = View.of_flip(flip, transpose=transpose)
    shown = view.show(image, multiple=1)
    assert torch.equal(shown, dihedral(flip, transpose)(image))
    assert torch.equal(view.undo(shown[:, 0], (4, 6)), image[:, 0])


def test_the_eight_published_views_are_the_full_augmentation():
    assert {View.of_flip(f, transpose=t) for f, t in FLIPS} == set(views("full"))


@pytest.mark.parametrize(("flip", "transpose"), FLIPS)
def test_the_published_order_turns_two_views_by_180_degrees(flip, transpose):
    image = torch.arange(16.0).reshape(1, 1, 1, 4, 4)
    view = View.of_flip(flip, transpose=transpose, compat_transpose=True)
    found = view.undo(view.show(image, multiple=1)[:, 0], (4, 4))
    # what the original did: mirror and transpose, then undo the mirroring first
    shown = dihedral(flip, transpose)(image[:, 0])
    undone = dihedral(flip, False)(shown)
    assert torch.equal(found, undone.transpose(-1, -2) if transpose else undone)
    turned = transpose and flip in (2, 3)
    assert torch.equal(found, torch.rot90(image[:, 0], 2, (-2, -1)) if turned else image[:, 0])


def test_views_vote_or_give_their_largest():
    shown = [WAVE, WAVE[..., ::-1, :], WAVE[..., ::-1], WAVE[..., ::-1, ::-1]]
    undone = [(), (-2,), (-1,), (-2, -1)]
    wave = np.sin(1.3 * np.arange(16)).reshape(4, 4)
    p = np.stack(
        [np.flip(1 / (1 + np.exp(-(v[0, 0, 0] + wave))), axes) for v, axes in zip(shown, undone, strict=True)]
    )
    votes = predictor(Toy(), tta="flips", averaging="votes").predict(WAVE)[0]
    assert votes[1] == pytest.approx((p > 0.5).mean(0), abs=1e-6)
    largest = predictor(Toy(), tta="flips", averaging="largest").predict(WAVE)[0]
    assert largest[1] == pytest.approx(p.max(0) / (p.max(0) + (1 - p).max(0)), abs=1e-5)
    assert votes.sum(0) == pytest.approx(np.ones((4, 4))) == largest.sum(0)
