import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from aftermap.artefacts.card import BaseCard, Card, Normalisation, TrainingRecord
from aftermap.artefacts.store import LoadedModel
from aftermap.data.scene import Manifest, read_images, read_mask
from aftermap.errors import DataError
from aftermap.inference.parity import Budget, Tile, compare
from aftermap.inference.predictor import AnyPredictor, Predictor
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel
from squares import make_dataset

LOOSE = Budget(
    difference_max=1.0,
    difference_quantile=1.0,
    difference_mean=1.0,
    agreement=0.0,
    f1_loss=1.0,
    f1_agreement=0.0,
    least_px=1,
)


class Fixed(AnyPredictor):
    """Gives the same probabilities (K, H, W) whatever it is shown; images name the pixel they come from."""

    def __init__(self, probabilities, *, multiple=32, **decided):
        scheme = "building" if len(probabilities) == 2 else "joint-damage-scale"
        record = TrainingRecord(data="none", data_licence="none")
        self.card = BaseCard(name="fixed", dates=1, scheme=scheme, training=record, licence="none", **decided)
        self.sha256, self.multiple = "0" * 64, multiple
        self.sizes = []
        self._probabilities = probabilities

    def predict(self, images, valid=None):
        self.sizes.append(images.shape[-2:])
        rows, cols = images[0, 0, 0].astype(int), images[0, 0, 1].astype(int)
        return self._probabilities[:, rows, cols][None].astype(np.float32)


def places(height, width):
    """Images (1, 3, H, W) whose first two bands are the row and the column."""
    rows, cols = np.mgrid[:height, :width]
    return np.stack([rows, cols, 0 * rows])[None].astype(np.uint8)


def certain(classes, *, levels=5, sure=0.9):
    """Probabilities (K, H, W): `sure` of the given class, the rest even."""
    rest = (1 - sure) / (levels - 1)
    return np.where(np.arange(levels)[:, None, None] == classes, sure, rest)


def budget(**changes):
    return LOOSE.model_copy(update=changes)


def test_a_model_equals_itself_with_zeros():
    p = np.random.default_rng(0).dirichlet(np.ones(5), (32, 32)).transpose(2, 0, 1)
    strictest = budget(
        difference_max=0, difference_quantile=0, difference_mean=0, agreement=1, f1_loss=0, f1_agreement=1
    )
    labels = p.argmax(0).astype(np.uint8)
    tile = Tile("a", places(32, 32), np.uint8(labels > 0), labels)
    parity = compare(Fixed(p), Fixed(p), [tile], strictest)
    assert parity.passed and parity.report["difference"]["max"] == 0
    assert parity.report["difference"]["mean"] == parity.report["difference"]["quantile"] == 0
    assert parity.report["agreement"] == parity.report["building_agreement"] == 1


def test_differences_are_those_computed_by_hand():
    before = np.zeros((2, 32, 32))
    before[0] = 1
    after = before.copy()
    after[:, 0, :16] = [[0.75], [0.25]]  # 16 pixels by a quarter
    after[:, 1, 0] = [0.4, 0.6]  # one by 0.6, which turns it into a building
    for quantile, expected in ((0.98, 0.0), (0.9985, 0.25), (1.0, 0.6)):
        report = compare(
            Fixed(before), Fixed(after), [Tile("a", places(32, 32))], budget(quantile=quantile)
        ).report
        assert report["difference"]["quantile"] == pytest.approx(expected, abs=2e-5)
    assert report["difference"]["max"] == pytest.approx(0.6)
    assert report["difference"]["mean"] == pytest.approx((16 * 0.25 + 0.6) / 1024)
    assert report["agreement"] == 1023 / 1024 and report["building_agreement"] == 0


def test_f1_changes_are_those_computed_by_hand():
    labels = np.ones((32, 32), np.uint8)
    labels[16:] = 4
    after = labels.copy()
    after[16:20] = 1  # 128 of 512 destroyed pixels become no-damage
    tile = Tile("a", places(32, 32), np.ones((32, 32), np.uint8), labels)
    report = compare(Fixed(certain(labels)), Fixed(certain(after)), [tile], LOOSE).report
    destroyed, undamaged = report["classes"]["destroyed"], report["classes"]["no-damage"]
    assert destroyed["f1_original"] == 1
    assert destroyed["f1_exported"] == pytest.approx(2 * 384 / (2 * 384 + 128))
    assert undamaged["f1_change"] == pytest.approx(2 * 512 / (2 * 512 + 128) - 1)
    assert destroyed["f1_against_original"] == pytest.approx(2 * 384 / (2 * 384 + 128))
    assert (destroyed["labelled_px"], destroyed["decided_px"]) == (512, 512)
    assert report["classes"]["building"]["f1_change"] == 0


def test_the_class_that_fell_most_is_named():
    labels = np.repeat(np.array([1, 2, 3, 4], np.uint8), 8)[:, None].repeat(32, 1)
    after = labels.copy()
    after[8, :4], after[16:18] = 1, 1  # minor damage loses 4 of 256 pixels, major damage 64
    tile = Tile("a", places(32, 32), np.ones((32, 32), np.uint8), labels)
    parity = compare(Fixed(certain(labels)), Fixed(certain(after)), [tile], budget(f1_loss=0.005))
    assert not parity.passed
    assert parity.reason.startswith("major-damage fell from F1 1.0000 to 0.8571, a loss of 0.1429")
    assert "\n" not in parity.reason


def test_without_labels_the_original_decides_what_was_lost():
    classes = np.repeat(np.array([0, 4], np.uint8), 16)[:, None].repeat(32, 1)
    after = classes.copy()
    after[24:] = 1
    parity = compare(
        Fixed(certain(classes)), Fixed(certain(after)), [Tile("a", places(32, 32))], budget(f1_agreement=0.9)
    )
    assert not parity.passed and parity.report["labelled_scenes"] == 0
    assert parity.reason.startswith("destroyed agrees with the original only to F1 0.6667")
    assert parity.report["classes"]["destroyed"]["f1_original"] is None


def test_rare_classes_are_reported_and_not_judged():
    labels = np.ones((32, 32), np.uint8)
    labels[0, :10] = 3
    tile = Tile("a", places(32, 32), np.ones((32, 32), np.uint8), labels)
    after = np.ones((32, 32), np.uint8)
    judged = compare(Fixed(certain(labels)), Fixed(certain(after)), [tile], budget(f1_loss=0.05, least_px=10))
    rare = compare(Fixed(certain(labels)), Fixed(certain(after)), [tile], budget(f1_loss=0.05, least_px=11))
    assert not judged.passed and judged.reason.startswith("major-damage")
    assert rare.passed and not rare.report["classes"]["major-damage"]["judged"]
    assert rare.report["classes"]["major-damage"]["f1_change"] == -1


def test_a_class_that_improves_is_no_loss():
    labels = np.ones((32, 32), np.uint8)
    before = labels.copy()
    before[:8] = 2
    tile = Tile("a", places(32, 32), np.ones((32, 32), np.uint8), labels)
    assert compare(Fixed(certain(before)), Fixed(certain(labels)), [tile], budget(f1_loss=0)).passed


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"difference_max": 0.1}, "largest difference of probabilities 0.60000"),
        ({"difference_mean": 0.001}, "mean difference of probabilities 0.0"),
        ({"difference_quantile": 0.2, "quantile": 0.999}, "0.999 quantile of the differences 0.60"),
        ({"agreement": 0.999}, "0.99805 of the pixels keep their class"),
    ],
)
def test_every_limit_is_held(limit, words):
    before = np.zeros((2, 32, 32))
    before[0] = 1
    after = before.copy()
    after[:, 0, :2] = [[0.4], [0.6]]
    parity = compare(Fixed(before), Fixed(after), [Tile("a", places(32, 32))], budget(**limit))
    assert not parity.passed and words in parity.reason and parity.report["reason"] == parity.reason


def test_values_that_are_not_finite_are_refused():
    before = certain(np.zeros((32, 32), int))
    after = before.copy()
    after[2, 3, 4] = np.nan
    parity = compare(Fixed(before), Fixed(after), [Tile("town", places(32, 32))], LOOSE)
    assert not parity.passed and "no finite number at 1 pixels of town" in parity.reason


def test_another_number_of_classes_is_refused():
    parity = compare(
        Fixed(certain(np.zeros((32, 32), int))),
        Fixed(np.full((2, 32, 32), 0.5)),
        [Tile("a", places(32, 32))],
        LOOSE,
    )
    assert not parity.passed and "gives 2 classes on a, the original 5" in parity.reason


def test_nothing_to_compare_on_is_an_error():
    with pytest.raises(DataError, match="no scene"):
        compare(Fixed(np.full((2, 32, 32), 0.5)), Fixed(np.full((2, 32, 32), 0.5)), [], LOOSE)


def test_both_models_see_the_same_windows():
    p = np.full((2, 200, 200), 0.5)
    both = Fixed(p, multiple=8), Fixed(p, multiple=32)
    compare(*both, [Tile("a", places(200, 200))], LOOSE, window_px=96, halo_px=8)
    assert both[0].sizes == both[1].sizes and len(both[0].sizes) > 1


def test_the_report_is_plain_json():
    p = np.full((2, 32, 32), 0.5)
    report = compare(Fixed(p), Fixed(p), [Tile("a", places(32, 32))], Budget.of("int8")).report
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_budgets_widen_with_coarser_numbers():
    fp32, fp16, int8 = (Budget.of(p) for p in ("fp32", "fp16", "int8"))
    for name in ("difference_max", "difference_quantile", "difference_mean", "f1_loss"):
        assert getattr(fp32, name) < getattr(fp16, name) < getattr(int8, name)
    assert fp32.agreement > fp16.agreement > int8.agreement


class Colours(DenseModel):
    """Tells the damage of tests/squares.py by colour: four small layers, trained for a moment."""

    stride = 1

    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(*(nn.Sequential(nn.Conv2d(c, 16, 1), nn.ReLU()) for c in (6, 16, 16)))
        self.head = nn.Conv2d(16, 5, 1)

    def forward_features(self, image):
        return self.hidden(image.flatten(1, 2))

    def forward_head(self, features, size):
        return self.head(features)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    folder = make_dataset(tmp_path_factory.mktemp("parity") / "data", scenes=3)
    return Manifest.load(folder).scenes


@pytest.fixture(scope="module")
def trained(squares):
    torch.manual_seed(0)
    model = Colours()
    images = torch.from_numpy(np.stack([read_images(s, dates=2) for s in squares])).float() / 127.5 - 1
    masks = torch.from_numpy(np.stack([read_mask(s, target="damage") for s in squares])).long()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), masks).backward()
        optimizer.step()
    return model


def predictor(model):
    card = Card(
        name="colours",
        dates=2,
        scheme="joint-damage-scale",
        model=CustomConfig(target=f"{__name__}:Colours", classes=5),
        normalisation=Normalisation(),
        training=TrainingRecord(data="squares", data_licence="none"),
        licence="none",
    )
    return Predictor(LoadedModel(model, card, None, "0" * 64))


def copy_of(model):
    twin = Colours()
    twin.load_state_dict(model.state_dict())
    return twin


def test_a_trained_model_passes_against_its_copy(squares, trained):
    parity = compare(predictor(trained), predictor(copy_of(trained)), squares, Budget.of("fp32"))
    assert parity.passed and parity.report["classes"]["destroyed"]["f1_original"] > 0.9


@pytest.mark.parametrize(("channel", "name"), [(2, "minor-damage"), (3, "major-damage"), (4, "destroyed")])
def test_a_shifted_bias_of_the_head_is_caught_and_its_class_named(squares, trained, channel, name):
    broken = copy_of(trained)
    with torch.no_grad():
        broken.head.bias[channel] -= 8
    small = Budget.of("int8").model_copy(update={"least_px": 100})
    parity = compare(predictor(trained), predictor(broken), squares, small)
    assert not parity.passed and parity.reason.startswith(name)


def test_weights_of_three_bits_are_caught_and_a_class_is_named(squares, trained):
    strong = copy_of(
        trained
    )  # the same function, with one channel's weights far above the others, as trainings leave it
    broken = copy_of(trained)
    with torch.no_grad():
        for model in (strong, broken):
            convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
            for first, second in pairwise(convolutions):
                first.weight[0] *= 20
                first.bias[0] *= 20
                second.weight[:, 0] /= 20
        for layer in convolutions:
            step = layer.weight.abs().max() / 3
            layer.weight.copy_((layer.weight / step).round() * step)
    assert compare(predictor(trained), predictor(strong), squares, Budget.of("fp32")).passed
    small = Budget.of("int8").model_copy(update={"least_px": 100})
    parity = compare(predictor(trained), predictor(broken), squares, small)
    assert not parity.passed and " fell from F1 " in parity.reason


def test_one_date_of_a_pair_is_an_error_for_a_model_of_two(trained):
    tile = Tile("lonely", np.zeros((1, 3, 32, 32), np.uint8))
    with pytest.raises(DataError, match="lonely has 1 dates, the model looks at 2"):
        compare(predictor(trained), predictor(trained), [tile], LOOSE)
