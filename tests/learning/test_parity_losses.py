"""Losses against the worked numbers of the xView2 winner (P5, P6) and of MetaDamageNet (14.1)."""

import pytest
import torch
from torch import nn

from aftermap.classes import IGNORE
from aftermap.config import build_config
from aftermap.data.batch import Batch
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.losses import lovasz, pixel, region
from aftermap.learning.objectives.supervised import Supervised

# the winner's numbers are results of 32-bit arithmetic
WINNER = 2e-5


def single(dtype=torch.float64):
    """Logits and truth of P5, (2, 1, 3, 4)."""
    logits = torch.linspace(-3, 2, 24).to(dtype).reshape(2, 1, 3, 4)
    truth = torch.tensor([(7 * i) % 5 < 2 for i in range(24)]).reshape(2, 1, 3, 4)
    return logits, truth


@pytest.mark.parametrize(
    ("loss", "options", "value"),
    [
        (region.dice, {}, 0.580708),
        (region.dice, {"per_image": True}, 0.625661),
        (region.jaccard, {}, 0.734744),
        (region.jaccard, {"per_image": True}, 0.759405),
        (lovasz.lovasz_sigmoid, {}, 0.667202),
        (lovasz.lovasz_sigmoid, {"per_image": True}, 0.702082),
    ],
)
def test_overlap_of_one_channel(loss, options, value):
    logits, truth = single()
    assert loss(logits.sigmoid(), truth, **options).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "options", "value"),
    [
        (pixel.binary_focal, {}, 0.536131),
        (pixel.binary_focal, {"compat_clamp": 1e-6}, 0.536131),
        (pixel.binary_cross_entropy, {}, 0.918361),
        (lovasz.lovasz_hinge, {}, 1.989019),
        (lovasz.lovasz_hinge, {"per_image": True}, 2.136211),
    ],
)
def test_losses_of_the_logits_of_one_channel(loss, options, value):
    logits, truth = single()
    assert loss(logits, truth, **options).item() == pytest.approx(value, abs=WINNER)


@pytest.mark.parametrize(
    ("dice", "focal", "value"),
    [
        (1, 10, 5.942022),
        (1, 6, 3.797496),
        (1, 14, 8.086547),
        (1, 12, 7.014284),
        (0.5, 2, 1.362617),
        (0.5, 5, 2.971011),
        (0.5, 0, 0.290354),
        (3, 10, 7.103438),
    ],
)
def test_the_winners_sums_of_dice_and_focal(dice, focal, value):
    logits, truth = single()
    found = dice * region.dice(logits.sigmoid(), truth) + focal * pixel.binary_focal(
        logits, truth, compat_clamp=1e-6
    )
    assert found.item() == pytest.approx(value, abs=WINNER)


def test_one_channel_without_any_building():
    logits, truth = single()
    empty = torch.zeros_like(truth)
    assert region.dice(logits.sigmoid(), empty).item() == pytest.approx(1.0, abs=1e-6)
    assert pixel.binary_focal(logits, empty).item() == pytest.approx(0.348491, abs=WINNER)


def test_certain_predictions():
    never, truth = torch.full((1, 1, 2, 2), -torch.inf), torch.ones(1, 1, 2, 2, dtype=torch.bool)
    assert region.dice(never.sigmoid(), ~truth).item() == 0
    assert pixel.binary_focal(never, ~truth, compat_clamp=1e-6).item() == pytest.approx(0, abs=1e-6)
    assert region.dice(never.sigmoid(), truth).item() == pytest.approx(1.0)
    assert pixel.binary_focal(never, truth, compat_clamp=1e-6).item() == pytest.approx(13.115693, abs=1e-4)


def test_focal_leaves_out_ignored_pixels():
    logits, truth = single()
    known = torch.ones(2, 3, 4, dtype=torch.bool)
    known[0, 0, 0] = known[1, 2, 3] = False
    assert pixel.binary_focal(logits, truth, known).item() == pytest.approx(0.459050, abs=WINNER)


class Given(nn.Module):
    """A model that answers with fixed logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.calls = logits, 0

    def forward(self, image):
        self.calls += 1
        return self.logits


def total(logits, mask, **config):
    """The objective of a recipe on given logits."""
    objective = Supervised(build_config(SupervisedConfig, config))
    model = Given(logits)
    terms = objective(model, Batch(torch.zeros(len(mask), 2, 3, *mask.shape[1:]), mask))
    assert model.calls == 1
    return sum(value.item() for value in terms.values())


def damage():
    """Logits (2, 5, 3, 4) and class mask of P6."""
    logits = 2 * torch.cos(0.7 * torch.arange(120, dtype=torch.float64)).reshape(2, 5, 3, 4)
    mask = torch.tensor([min((5 * i + 3) % 7, 4) for i in range(24)]).reshape(2, 3, 4)
    return logits, mask


def winner_terms(weights, dice, focal, cross_entropy):
    common = {"activation": "sigmoid", "class_weights": weights, "reduction": "sum", "absent": "count"}
    terms = [{"loss": "dice", "weight": dice, **common}]
    if focal:
        terms.append({"loss": "focal", "weight": focal, "compat_clamp": 1e-6, **common})
    if cross_entropy:
        terms.append({"loss": "cross-entropy", "weight": cross_entropy})
    return terms


@pytest.mark.parametrize(
    ("weights", "dice", "focal", "cross_entropy", "channel_0", "value"),
    [
        ([0.05, 0.2, 0.8, 0.7, 0.4], 1, 12, 0, "building", 12.726723),
        ([0.1, 0.1, 0.3, 0.3, 0.2], 0.5, 2, 11, "background", 28.922449),
        ([0.1, 0.1, 0.5, 0.3, 0.2], 0.5, 5, 11, "background", 30.736347),
        ([0.1, 0.1, 0.6, 0.3, 0.2], 0.5, 0, 8, "background", 20.518486),
    ],
)
def test_the_winners_damage_losses(weights, dice, focal, cross_entropy, channel_0, value):
    logits, mask = damage()
    found = total(
        logits,
        mask,
        targets={"dilation_px": 1, "channel_0": channel_0},
        terms=winner_terms(weights, dice, focal, cross_entropy),
    )
    assert found == pytest.approx(value, abs=WINNER)


@pytest.mark.parametrize(
    ("dice", "focal", "values"),
    [
        (1, 12, (3.446774, 7.480392, 4.126851, 6.316292, 8.338552)),
        (0.5, 2, (1.948132, 1.507341, 0.902820, 1.280834, 1.597725)),
        (0.5, 5, (4.173282, 3.181982, 1.773274, 2.688818, 3.526388)),
        (0.5, 0, (0.464699, 0.390913, 0.322518, 0.342178, 0.311949)),
    ],
)
def test_the_winners_loss_of_each_channel(dice, focal, values):
    logits, mask = damage()
    truth = torch.stack([mask == k for k in range(5)], dim=1)
    if dice == 1:  # the network whose first channel is "building"
        truth[:, 0] = mask > 0
    found = dice * region.dice(logits.sigmoid(), truth) + focal * pixel.binary_focal(
        logits, truth, compat_clamp=1e-6
    )
    assert found.tolist() == pytest.approx(values, abs=WINNER)


def test_cross_entropy_of_the_winners_example():
    logits, mask = damage()
    assert pixel.cross_entropy(logits, mask).item() == pytest.approx(2.509296, abs=WINNER)


# MetaDamageNet: A is one channel, B five classes


def meta_a(dtype=torch.float64):
    logits = torch.linspace(-2, 2, 32).to(dtype).reshape(2, 1, 4, 4)
    return logits, torch.tensor([i % 3 == 0 for i in range(32)]).reshape(2, 1, 4, 4)


def meta_b():
    logits = (torch.linspace(-2, 2, 90) + 0.5 * torch.sin(torch.arange(90))).double().reshape(2, 5, 3, 3)
    return logits, (torch.arange(18) % 5).reshape(2, 3, 3)


WEIGHTS = [0.1, 0.1, 0.3, 0.3, 0.2]


def test_binary_dice_of_metadamagenet():
    logits, truth = meta_a()
    assert region.dice(logits.sigmoid(), truth, smooth=1e-8).item() == pytest.approx(0.602324, abs=1e-6)
    assert region.dice(logits.sigmoid(), torch.zeros_like(truth), smooth=1e-8).item() == pytest.approx(1.0)
    nothing = torch.full_like(logits, -200).sigmoid()
    assert region.dice(nothing, torch.zeros_like(truth), smooth=1e-8).item() == pytest.approx(0.0)


def test_binary_focal_of_metadamagenet():
    logits, truth = meta_a()
    mean = pixel.binary_focal(logits, truth, alpha=0.7).item()
    assert mean == pytest.approx(0.195676, abs=1e-6) and 32 * mean == pytest.approx(6.261642, abs=2e-6)
    assert pixel.binary_focal(logits, truth, alpha=0.25).item() == pytest.approx(0.251005, abs=1e-6)


def test_binary_focal_is_finite_where_the_original_is_not():
    far = torch.tensor([-90.0, -120.0]).reshape(2, 1, 1, 1)
    truth = torch.tensor([False, True]).reshape(2, 1, 1, 1)
    first = pixel.binary_focal(far[:1], truth[:1], alpha=0.7)
    second = pixel.binary_focal(far[1:], truth[1:], alpha=0.7)
    assert first.item() == 0.0 and second.item() == pytest.approx(84.0, abs=1e-4)


def test_weighted_sum_of_metadamagenet():
    logits, truth = meta_a()
    found = region.dice(logits.sigmoid(), truth, smooth=1e-8) + 6 * pixel.binary_focal(
        logits, truth, alpha=0.7
    )
    assert found.item() == pytest.approx(1.776382, abs=2e-6)


def meta_dice(activation, weights=None):
    return {
        "loss": "dice",
        "activation": activation,
        "class_weights": weights,
        "reduction": "sum",
        "absent": "count",
        "smooth": 1e-8,
    }


@pytest.mark.parametrize(
    ("activation", "weights", "value"),
    [
        ("sigmoid", None, 3.607430),
        ("sigmoid", WEIGHTS, 0.722297),
        ("softmax", None, 4.139419),
        ("softmax", WEIGHTS, 0.814396),
    ],
)
def test_dice_of_metadamagenet_sums_over_the_classes(activation, weights, value):
    logits, mask = meta_b()
    assert total(logits, mask, terms=[meta_dice(activation, weights)]) == pytest.approx(value, abs=2e-6)


def test_an_absent_class_costs_its_weight_in_metadamagenet():
    logits, mask = meta_b()
    assert total(logits, mask % 4, terms=[meta_dice("sigmoid")]) == pytest.approx(3.779864, abs=2e-6)


@pytest.mark.parametrize(("alpha", "value"), [(1.0, 1.407036), (0.5, 0.703518)])
def test_focal_of_metadamagenet_with_its_leak(alpha, value):
    logits, mask = meta_b()
    term = {"loss": "focal", "alpha": alpha, "compat_leak": 1e-6}
    assert total(logits, mask, terms=[term]) == pytest.approx(value, abs=2e-6)


def test_cross_entropy_of_metadamagenet():
    logits, mask = meta_b()
    assert total(logits, mask, terms=[{"loss": "cross-entropy"}]) == pytest.approx(1.904594, abs=1e-6)
    both = [{**meta_dice("sigmoid", WEIGHTS), "weight": 0.5}, {"loss": "cross-entropy", "weight": 11}]
    assert total(logits, mask, terms=both) == pytest.approx(21.311686, abs=1e-5)


def test_legacy_losses_of_metadamagenet():
    logits, truth = meta_a()
    mask = truth[:, 0].long()
    focal = {"loss": "focal", "activation": "sigmoid", "compat_clamp": 1e-8}
    assert total(logits, mask, terms=[focal]) == pytest.approx(0.440534, abs=1e-6)
    localization = [meta_dice("sigmoid"), {**focal, "weight": 10}]
    assert total(logits, mask, terms=localization) == pytest.approx(5.007659, abs=1e-5)


@pytest.mark.parametrize(("weights", "value"), [(None, 1.407030), (WEIGHTS, 0.231357)])
def test_legacy_focal_of_five_classes(weights, value):
    logits, mask = meta_b()
    term = {"loss": "focal", "class_weights": weights, "reduction": "sum"}
    assert total(logits, mask, terms=[term]) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 12.0, 60.0])
def test_clamped_focal_of_metadamagenets_examples(scale):
    generator = torch.Generator().manual_seed(3)
    logits = scale * torch.randn(3, 5, 16, 16, generator=generator)
    target = torch.randint(0, 5, (3, 16, 16), generator=generator)
    weights = torch.tensor(WEIGHTS)
    # as its examples compute it: pixels as rows, the true class picked out by a mask of ones, cut, weighed, averaged
    rows, places = logits.permute(0, 2, 3, 1).reshape(-1, 5), target.reshape(-1, 1)
    picked = torch.zeros(len(rows), 5).scatter_(1, places, 1.0)
    p = (torch.softmax(rows, 1) * picked).sum(1, keepdim=True).clamp(1e-8, 1 - 1e-8)
    expected = (-weights[places] * torch.pow(1 - p, 2.0) * p.log()).mean()
    found = pixel.focal(logits, target, class_weights=weights, normalise=False, compat_clamp=1e-8)
    assert found == expected
    right = pixel.focal(logits, target, class_weights=weights, normalise=False)
    assert (found < 0.999 * right) == (scale > 1)


def test_legacy_damage_loss_of_metadamagenet():
    logits, mask = meta_b()
    terms = [
        {**meta_dice("sigmoid", WEIGHTS), "weight": 0.5},
        {"loss": "focal", "weight": 2, "class_weights": WEIGHTS, "reduction": "sum"},
        {"loss": "cross-entropy", "weight": 11},
    ]
    assert total(logits, mask, terms=terms) == pytest.approx(21.774401, abs=1e-5)


ALL_TERMS = [
    *({"loss": loss, "activation": a} for loss in ("dice", "jaccard", "log-cosh-dice", "tversky", "lovasz", "focal")
      for a in ("softmax", "sigmoid")),
    {"loss": "lovasz", "activation": "hinge"},
    {"loss": "binary-cross-entropy"},
    {"loss": "cross-entropy"},
    {"loss": "focal", "activation": "sigmoid", "alpha": 0.7, "compat_clamp": 1e-6},
]  # fmt: skip


@pytest.mark.parametrize("term", ALL_TERMS, ids=lambda t: "-".join(map(str, t.values())))
@pytest.mark.parametrize(("size", "dtype"), [(120.0, torch.float32), (20.0, torch.float16)])
def test_terms_and_gradients_are_finite_at_extreme_logits(term, size, dtype):
    logits = torch.full((2, 5, 2, 2), -size, dtype=dtype)
    logits[0, 1], logits[1, 3] = size, size
    logits.requires_grad_()
    mask = torch.tensor([[[0, 1], [2, 3]], [[4, 3], [3, IGNORE]]])
    objective = Supervised(build_config(SupervisedConfig, {"terms": [term]}))
    (value,) = objective(Given(logits), Batch(torch.zeros(2, 2, 3, 2, 2), mask)).values()
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("term", ALL_TERMS, ids=lambda t: "-".join(map(str, t.values())))
def test_a_batch_without_labels_costs_nothing(term):
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4, 4, requires_grad=True)
    objective = Supervised(build_config(SupervisedConfig, {"terms": [term]}))
    (value,) = objective(
        Given(logits), Batch(torch.zeros(2, 2, 3, 4, 4), torch.full((2, 4, 4), IGNORE))
    ).values()
    value.backward()
    assert value.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("term", ALL_TERMS, ids=lambda t: "-".join(map(str, t.values())))
def test_ignored_pixels_take_no_part(term):
    torch.manual_seed(1)
    logits, mask = torch.randn(2, 5, 4, 8), torch.randint(0, 5, (2, 4, 8))
    masked = mask.clone()
    masked[..., 5:] = IGNORE
    objective = Supervised(build_config(SupervisedConfig, {"terms": [term]}))
    (whole,) = objective(Given(logits), Batch(torch.zeros(2, 2, 3, 4, 8), masked)).values()
    (part,) = objective(Given(logits[..., :5]), Batch(torch.zeros(2, 2, 3, 4, 5), mask[..., :5])).values()
    assert whole.item() == pytest.approx(part.item(), abs=1e-6)


def test_a_perfect_prediction_costs_nothing_and_its_opposite_much():
    mask = torch.tensor([[[0, 1], [2, 3]], [[4, 4], [1, 0]]])
    right = torch.stack([mask == k for k in range(5)], dim=1).float() * 60 - 30
    for term in ALL_TERMS:
        assert total(right, mask, terms=[term]) == pytest.approx(0, abs=1e-4), term
        assert total(-right, mask, terms=[term]) > 0.4, term


def test_tversky_is_dice_at_one_half_and_jaccard_at_one():
    logits, truth = single()
    p = logits.sigmoid()
    halves = region.tversky(p, truth, smooth=0.5e-6)
    assert halves.item() == pytest.approx(region.dice(p, truth).item(), abs=1e-12)
    ones = region.tversky(p, truth, alpha=1, beta=1)
    assert ones.item() == pytest.approx(region.jaccard(p, truth).item(), abs=1e-12)


def test_log_cosh_dice_by_hand():
    logits, truth = single()
    expected = torch.log((torch.exp(torch.tensor(0.580708)) + torch.exp(torch.tensor(-0.580708))) / 2)
    assert region.log_cosh_dice(logits.sigmoid(), truth).item() == pytest.approx(expected.item(), abs=1e-6)


def test_lovasz_of_hard_predictions_is_one_minus_iou():
    # two of three predicted, two of three wanted, one in both: 1 of 3
    predicted = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
    truth = torch.tensor([True, False, True, False]).reshape(1, 1, 1, 4)
    assert lovasz.lovasz_sigmoid(predicted, truth).item() == pytest.approx(1 - 1 / 3)
