"""The objective of the four heads: its terms, its switches, and that a batch can be learned by heart."""

import pytest
import torch
from pydantic import ValidationError

from aftermap.classes import IGNORE
from aftermap.data.batch import Batch
from aftermap.errors import RecipeError
from aftermap.learning.configs.heads import HeadsConfig
from aftermap.learning.configs.terms import SoftLabelConfig
from aftermap.learning.losses.region import dice
from aftermap.learning.objectives.heads import HeadsObjective
from aftermap.models.build import build_model
from aftermap.models.configs import FpnEfficientnetConfig, UnetConfig
from aftermap.models.networks.fpn import Heads

ORIGINAL = {"compat_truncate": True, "compat_detached": True, "compat_dice_floor": 0.4}
B0 = "tf_efficientnet_b0"


@pytest.fixture
def heads():
    """Answers of the worked step."""
    logits = torch.linspace(-1.5, 1.5, 32).reshape(1, 2, 4, 4).clone()
    logits[:, 1] *= -1
    overlap = torch.linspace(-1, 2, 16).reshape(1, 1, 4, 4)
    return Heads(logits, overlap, torch.tensor([[0.2, 0.4]]), torch.tensor([[0.5]]))


@pytest.fixture
def mask():
    mask = torch.zeros(1, 16, 16, dtype=torch.int64)
    mask[:, 2:11, 4:15] = 1
    return mask


def soft_of(mask):
    p = (0.9 * mask + 0.05)[:, None]
    return torch.cat([1 - p, p], dim=1)


def numbers(terms):
    return {name: float(value) for name, value in terms.items()}


def test_the_worked_step_has_the_published_terms_and_total(heads, mask):
    terms = numbers(HeadsObjective(HeadsConfig(**ORIGINAL)).values(heads, mask))
    assert terms == {
        "map": pytest.approx(0.131096, abs=1e-6),
        "dice": pytest.approx(0.0463013, abs=1e-6),
        "presence": pytest.approx(0.090909, abs=1e-6),
    }
    assert sum(terms.values()) == pytest.approx(0.268307, abs=1e-6)


def test_the_worked_soft_step_has_the_published_value(heads, mask):
    config = SoftLabelConfig(compat_class_mean=True)
    terms = HeadsObjective(HeadsConfig()).soft_values(heads, soft_of(mask), config)
    assert numbers(terms) == {"soft labels": pytest.approx(0.219456, abs=1e-6)}


def test_hard_pseudo_labels_are_learned_like_labels_that_are_sure(heads, mask):
    objective = HeadsObjective(HeadsConfig())
    terms = objective.soft_values(heads, soft_of(mask), SoftLabelConfig(kind="hard", weight=0.5))
    sure = torch.tensor([[0, IGNORE, IGNORE, IGNORE], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]])[None]
    expected = objective.values(heads, sure)
    assert numbers(terms) == {
        f"pseudo {name}": pytest.approx(0.5 * float(expected[name])) for name in ("map", "dice")
    }


def test_shares_below_the_floor_are_nothing_to_the_dice_head(heads, mask):
    low = mask.clone()
    low[:, 2] = 0  # cells of the upper row keep no pixel of their own
    low[:, 1, 5] = 1  # but one of them a quarter
    floor, plain = (
        HeadsObjective(HeadsConfig(compat_dice_floor=value)).values(heads, low)["dice"] for value in (0.4, 0)
    )
    share = torch.zeros(1, 1, 4, 4)
    share[..., 1:3, 1:] = 1
    p = torch.sigmoid(heads.dice)
    assert float(floor) == pytest.approx(0.1 * dice(p, share, smooth=1.0).item(), abs=1e-6)
    share[..., 0, 1] = 0.25
    assert float(plain) == pytest.approx(0.1 * dice(p, share, smooth=1.0).item(), abs=1e-6)


def test_weights_choose_the_terms(heads, mask):
    config = HeadsConfig(weights={"map": 0, "dice": 0, "presence": 2, "scale": 1})
    objective = HeadsObjective(config)
    terms = numbers(objective.values(heads, mask, torch.tensor([0.07])))
    assert terms == {
        "presence": pytest.approx(2 * 0.090909, abs=2e-6),
        "scale": pytest.approx(0.125),
    }
    assert float(objective.values(heads, mask)["scale"]) == 0


def test_unlabelled_images_cost_nothing_and_change_nothing(heads, mask):
    objective = HeadsObjective(HeadsConfig())
    twice = Heads(*(torch.cat([answer, -answer]) for answer in heads))
    both = torch.cat([mask, torch.full_like(mask, IGNORE)])
    assert numbers(objective.values(twice, both)) == pytest.approx(numbers(objective.values(heads, mask)))
    nothing = objective.values(heads, torch.full_like(mask, IGNORE))
    assert numbers(nothing) == {"map": 0, "dice": 0, "presence": 0}


def test_hard_pixels_replace_the_focal_loss(heads, mask):
    config = HeadsConfig(hard_pixels={"share": 0.5, "dropped": 0.25})
    found = float(HeadsObjective(config).values(heads, mask)["map"])
    index = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]])[None]
    losses = torch.nn.functional.cross_entropy(heads.map, index, reduction="none").flatten()
    assert found == pytest.approx(float(losses.sort(descending=True).values[2:8].mean()), abs=1e-6)


def test_terms_of_16_bit_answers_are_those_of_32(heads, mask):
    objective = HeadsObjective(HeadsConfig())
    model = build_model(FpnEfficientnetConfig(encoder_name=B0)).eval()
    image = torch.randn(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        terms = objective(model, Batch(image, mask.repeat(1, 4, 4)))
    assert {value.dtype for value in terms.values()} == {torch.float32}


def test_the_model_runs_once_and_every_trained_head_gets_a_gradient(mask):
    torch.manual_seed(0)
    model = build_model(FpnEfficientnetConfig(encoder_name=B0))
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    objective = HeadsObjective(HeadsConfig(soft=SoftLabelConfig()))
    batch = Batch(torch.randn(2, 1, 3, 64, 64), mask.repeat(2, 4, 4), soft_of(mask.repeat(2, 4, 4)))
    terms = objective(model, batch)
    sum(terms.values()).backward()
    assert calls == [1] and set(terms) == {"map", "dice", "presence", "soft labels"}
    trained = {
        name for name, p in model.named_parameters() if p.grad is not None and float(p.grad.abs().max()) > 0
    }
    heads = {"head.weight", "dice_head.weight", "presence_head.weight"}
    assert heads <= trained and not any(name.startswith("scale_head") for name in trained)


def test_a_model_without_heads_is_refused():
    batch = Batch(torch.zeros(1, 1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.int64))
    with pytest.raises(
        RecipeError, match="objective heads is for models of kind fpn-efficientnet, this one is a Unet"
    ):
        HeadsObjective(HeadsConfig())(build_model(UnetConfig()), batch)


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"objective\.class_weights has 2 values, the model has 5 classes"):
        HeadsConfig().check_classes(5)
    with pytest.raises(ValidationError, match="every term has weight 0"):
        HeadsConfig(weights={"map": 0, "dice": 0, "presence": 0})
    assert HeadsConfig().targets is None


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    model = build_model(FpnEfficientnetConfig(encoder_name=B0, drop_connect=0, dropout=0))
    objective = HeadsObjective(HeadsConfig(weights={"dice": 1}))
    image = 0.1 * torch.randn(2, 1, 3, 32, 32)
    mask = torch.zeros(2, 32, 32, dtype=torch.int64)
    mask[0, 8:20, 8:24] = 1
    image[0, :, :, 8:20, 8:24] += 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    losses = []
    for _ in range(16):
        optimizer.zero_grad()
        loss = sum(objective(model, Batch(image, mask)).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        heads = model(image, heads=True)
    built = mask[:, 2::4, 2::4] > 0
    assert torch.equal(heads.map.argmax(1) > 0, built) and torch.equal(heads.dice[:, 0] > 0, built)
    assert heads.presence.argmax(1).tolist() == [1, 0]
    assert losses[-1] < 0.6 * losses[0]
