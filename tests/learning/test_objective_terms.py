"""Objectives of recipes: what they say is what is minimised, in the published runs to the published values."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aftermap.classes import IGNORE
from aftermap.config import build_config, read_tree
from aftermap.data.batch import Batch
from aftermap.errors import RecipeError
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.losses import lovasz, pixel, region
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.objectives.terms import term_names

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


class Given(nn.Module):
    """A model that answers with fixed logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, image):
        return self.logits


def objective(**config):
    return Supervised(build_config(SupervisedConfig, config))


def batch(mask):
    return Batch(torch.zeros(len(mask), 2, 3, *mask.shape[1:]), mask)


def terms_of(logits, mask, **config):
    return {k: v.item() for k, v in objective(**config)(Given(logits), batch(mask)).items()}


def recipe_objective(name):
    """The objective of a shipped recipe, without the dilation that the worked masks do not have."""
    tree = read_tree(RECIPES / f"{name}.yaml")["objective"]
    if "targets" in tree:
        assert tree["targets"]["dilation_px"] == 5
        tree["targets"]["dilation_px"] = 1
    return tree


def winner_localization():
    logits = torch.linspace(-3, 2, 24).double().reshape(2, 1, 3, 4)
    return logits, torch.tensor([int((7 * i) % 5 < 2) for i in range(24)]).reshape(2, 3, 4)


def winner_damage():
    logits = 2 * torch.cos(0.7 * torch.arange(120, dtype=torch.float64)).reshape(2, 5, 3, 4)
    return logits, torch.tensor([min((5 * i + 3) % 7, 4) for i in range(24)]).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("run", "value"),
    [
        ("localization-resnet34", 5.942022),
        ("localization-seresnext50", 5.942022),
        ("localization-dpn92", 3.797496),
        ("localization-senet154", 8.086547),
        ("tune-localization-seresnext50", 5.942022),
        ("tune-localization-dpn92", 3.797496),
        ("damage-resnet34", 12.726723),
        ("damage-seresnext50", 28.922449),
        ("damage-dpn92", 30.736347),
        ("damage-senet154", 20.518486),
        ("tune-damage-resnet34", 12.726723),
        ("tune-damage-seresnext50", 28.922449),
        ("tune-damage-dpn92", 30.736347),
        ("tune-damage-senet154", 20.518486),
    ],
)
def test_each_of_the_winners_runs_minimises_its_published_loss(run, value):
    logits, mask = winner_localization() if "localization" in run else winner_damage()
    terms = terms_of(logits, mask, **recipe_objective(f"xview2/{run}"))
    assert sum(terms.values()) == pytest.approx(value, abs=2e-5)


def test_the_runs_of_metadamagenet_minimise_their_published_losses():
    logits = torch.linspace(-2, 2, 32).double().reshape(2, 1, 4, 4)
    mask = torch.tensor([int(i % 3 == 0) for i in range(32)]).reshape(2, 4, 4)
    for run in ("localization-resnet34", "localization-seresnext50", "tune-localization-seresnext50"):
        terms = terms_of(logits, mask, **recipe_objective(f"metadamagenet/{run}"))
        assert sum(terms.values()) == pytest.approx(5.007659, abs=2e-6)
    logits = (torch.linspace(-2, 2, 90) + 0.5 * torch.sin(torch.arange(90))).double().reshape(2, 5, 3, 3)
    for run in ("damage-seresnext50", "tune-damage-seresnext50"):
        terms = terms_of(
            logits, (torch.arange(18) % 5).reshape(2, 3, 3), **recipe_objective(f"metadamagenet/{run}")
        )
        assert sum(terms.values()) == pytest.approx(21.774401, abs=1e-5)


def test_a_recipe_that_says_nothing_minimises_cross_entropy_and_dice_as_before():
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 5, 6, 6), torch.randint(0, 4, (2, 6, 6))
    mask[0, :2] = IGNORE
    known = mask != IGNORE
    p = torch.softmax(logits, dim=1) * known[:, None]
    t = F.one_hot(mask.where(known, 0), 5).movedim(-1, 1) * known[:, None]
    loss = 1 - (2 * (p * t).sum((0, 2, 3)) + 1e-6) / (p.sum((0, 2, 3)) + t.sum((0, 2, 3)) + 1e-6)
    terms = objective()(Given(logits), batch(mask))
    assert list(terms) == ["cross-entropy", "dice"]
    assert terms["cross-entropy"].item() == pytest.approx(
        F.cross_entropy(logits, mask, ignore_index=IGNORE).item(), abs=1e-6
    )
    assert terms["dice"].item() == pytest.approx(loss[:4].mean().item(), abs=1e-6)


def test_targets_are_dilated_before_the_loss():
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[0, 4, 4] = 2
    dilated = torch.zeros_like(mask)
    dilated[0, 2:7, 2:7] = 2
    logits = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    ce = {"terms": [{"loss": "cross-entropy"}]}
    assert terms_of(logits, mask, targets={}, **ce) == terms_of(logits, dilated, **ce)


def test_what_dilation_makes_unknown_takes_no_part():
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[0, 4, 4] = IGNORE
    logits = torch.zeros(1, 5, 8, 8)
    logits[0, 1, 2:7, 2:7] = 50  # sure of a building where one of unknown damage may reach
    terms = terms_of(logits, mask, targets={}, terms=[{"loss": "cross-entropy"}])
    assert terms["cross-entropy"] == pytest.approx(torch.tensor(5.0).log().item(), abs=1e-5)


def test_one_logit_learns_localization_and_passes_over_unknown_pixels():
    mask = torch.tensor([[[0, 1, IGNORE]]])
    right = torch.tensor([-40.0, 40.0, -40.0]).reshape(1, 1, 1, 3)
    terms = [{"loss": "dice", "activation": "sigmoid"}, {"loss": "binary-cross-entropy"}]
    assert terms_of(right, mask, terms=terms) == pytest.approx({"dice": 0, "binary-cross-entropy": 0})
    wrong = terms_of(-right, mask, terms=terms)
    assert wrong == pytest.approx({"dice": 1, "binary-cross-entropy": 40}, abs=1e-5)


def test_the_model_runs_once_however_many_terms_there_are():
    model = nn.Conv2d(3, 5, 1)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    mask = torch.randint(0, 5, (1, 4, 4))
    terms = [{"loss": loss} for loss in ("dice", "focal", "lovasz", "tversky", "cross-entropy")]
    objective(terms=terms)(model, Batch(torch.randn(1, 3, 4, 4), mask))
    assert len(calls) == 1


def test_terms_of_one_loss_have_names_of_their_own():
    config = build_config(
        SupervisedConfig,
        {"terms": [{"loss": "dice"}, {"loss": "focal"}, {"loss": "dice", "activation": "sigmoid"}]},
    )
    assert term_names(config.terms) == ["dice", "focal", "dice 2"]
    both = [{"loss": "dice", "of": "building"}, {"loss": "dice"}, {"loss": "dice", "of": "building"}]
    config = build_config(SupervisedConfig, {"terms": both})
    assert term_names(config.terms) == ["dice of building", "dice", "dice of building 2"]


def test_a_term_of_building_takes_all_classes_of_damage_for_one():
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.3, 0.6]])).T.reshape(1, 3, 1, 2)
    mask = torch.tensor([[[2, 0]]])
    building = [{"loss": loss, "of": "building"} for loss in ("cross-entropy", "dice")]
    terms = terms_of(logits, mask, terms=[{"loss": "cross-entropy"}, *building])
    p, q = 0.2 + 0.3, 0.1  # p(building) where one is, p(ground) where none is
    assert terms["cross-entropy"] == pytest.approx(-(math.log(0.3) + math.log(q)) / 2)
    assert terms["cross-entropy of building"] == pytest.approx(-(math.log(p) + math.log(q)) / 2)
    dice = [2 * q / ((1 - p) + q + 1), 2 * p / (p + (1 - q) + 1)]
    assert terms["dice of building"] == pytest.approx(1 - sum(dice) / 2, rel=1e-5)


def test_a_term_of_building_tells_classes_of_damage_nothing_and_passes_over_unknown_pixels():
    logits = torch.randn(1, 5, 2, 2, requires_grad=True)
    mask = torch.tensor([[[1, 4], [0, IGNORE]]])
    term = {"loss": "cross-entropy", "of": "building"}
    objective(terms=[term])(Given(logits), batch(mask))["cross-entropy of building"].backward()
    assert logits.grad[0, :, 1, 1].tolist() == [0] * 5
    known = logits.grad[0, 1:].flatten(1)[
        :, :3
    ]  # classes of damage share the push of the building by what they have
    torch.testing.assert_close(known / known.sum(0), torch.softmax(logits[0, 1:].flatten(1)[:, :3], 0))


@pytest.mark.parametrize(
    ("term", "classes", "said"),
    [
        ({"activation": "sigmoid"}, 5, "a sum that only a softmax has"),
        ({"class_weights": (1, 1, 1, 1, 1)}, 5, "of building has 2 classes"),
        ({}, 2, "which needs several"),
    ],
)
def test_a_term_of_building_wants_a_softmax_over_several_classes(term, classes, said):
    with pytest.raises((RecipeError, ValueError), match=said):
        build_config(SupervisedConfig, {"terms": [{"loss": "dice", "of": "building", **term}]}).check_classes(
            classes
        )


def test_a_term_of_weight_0_is_left_out():
    terms = terms_of(
        torch.zeros(1, 2, 1, 1),
        torch.ones(1, 1, 1).long(),
        terms=[{"loss": "dice", "weight": 0}, {"loss": "cross-entropy", "weight": 2}],
    )
    assert terms == pytest.approx({"cross-entropy": 2 * torch.tensor(2.0).log().item()})


def test_losses_run_in_32_bits_inside_autocast():
    # 1 - 1e-6 is 1 in 16 bits: there the winner's clamp would do nothing at logits of 20
    torch.manual_seed(0)
    model = nn.Conv2d(3, 5, 1)
    image, mask = torch.randn(1, 3, 16, 16), torch.randint(0, 5, (1, 16, 16))
    tested = objective(**recipe_objective("xview2/damage-seresnext50"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = tested(model, Batch(image, mask))
        logits = model(image)
    assert logits.dtype == torch.bfloat16 and all(v.dtype == torch.float32 for v in low.values())
    full = tested(Given(logits.float()), Batch(image, mask))
    assert {k: v.item() for k, v in low.items()} == {k: v.item() for k, v in full.items()}


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, t: region.dice(x.sigmoid(), t),
        lambda x, t: lovasz.lovasz_hinge(x, t),
        lambda x, t: pixel.binary_focal(x, t, compat_clamp=1e-6),
        lambda x, t: pixel.binary_cross_entropy(x, t),
    ],
    ids=["dice", "lovasz", "focal", "bce"],
)
def test_logits_of_16_bits_are_summed_in_32(loss):
    torch.manual_seed(0)
    logits, truth = torch.randn(1, 1, 512, 512).half(), torch.rand(1, 1, 512, 512) > 0.5
    assert loss(logits, truth).item() == pytest.approx(loss(logits.float(), truth).item(), rel=1e-3)


def test_per_image_terms_pass_over_images_without_known_pixels():
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 5, 4, 4), torch.randint(0, 5, (3, 4, 4))
    mask[1] = IGNORE
    for loss in ("dice", "jaccard", "tversky", "log-cosh-dice", "lovasz"):
        for absent in ("count", "skip"):
            terms = [{"loss": loss, "per_image": True, "absent": absent}]
            whole = terms_of(logits, mask, terms=terms)
            rest = terms_of(logits[[0, 2]], mask[[0, 2]], terms=terms)
            assert whole == pytest.approx(rest, abs=1e-6), (loss, absent)


def test_a_class_absent_from_an_image_is_skipped_there_only():
    logits = torch.zeros(2, 2, 1, 2)
    mask = torch.tensor([[[0, 1]], [[0, 0]]])
    half = region.dice(torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[True, False]]]])).item()
    term = {"loss": "dice", "per_image": True, "class_weights": [0, 1]}
    assert terms_of(logits, mask, terms=[term])["dice"] == pytest.approx(half)
    counted = terms_of(logits, mask, terms=[{**term, "absent": "count"}])["dice"]
    assert counted == pytest.approx((half + 1) / 2, abs=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradients_are_finite_at_certain_pixels(gamma):
    for activation in ("softmax", "sigmoid"):
        logits = torch.tensor([120.0, -120.0]).reshape(1, 2, 1, 1).requires_grad_()
        term = {"loss": "focal", "gamma": gamma, "activation": activation}
        (value,) = objective(terms=[term])(Given(logits), batch(torch.zeros(1, 1, 1).long())).values()
        value.backward()
        assert value.item() == 0 and torch.isfinite(logits.grad).all()


def berman(errors, truth):
    """The surrogate written as its definition: sorted errors times the growth of 1 - IoU."""
    pairs = sorted(zip(errors, truth, strict=True), key=lambda pair: -pair[0])
    loss, before = 0.0, 0.0
    for n in range(1, len(pairs) + 1):
        wrong_hits = sum(t for _, t in pairs[:n])
        wrong_misses = n - wrong_hits
        total = sum(truth)
        now = 1 - (total - wrong_hits) / (total + wrong_misses)
        loss += max(pairs[n - 1][0], 0) * (now - before)
        before = now
    return loss


def test_lovasz_softmax_is_the_mean_over_the_classes_that_occur():
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 5, 3, 3).double(), torch.randint(0, 3, (2, 3, 3))
    mask[0, 0] = IGNORE
    known = mask != IGNORE
    p = logits.softmax(1)
    expected = [
        berman(
            [abs(float(t) - float(q)) for t, q in zip(mask[known] == k, p[:, k][known], strict=True)],
            [int(t) for t in mask[known] == k],
        )
        for k in range(3)
    ]
    found = terms_of(logits, mask, terms=[{"loss": "lovasz"}])["lovasz"]
    assert found == pytest.approx(sum(expected) / 3, abs=1e-9)


def test_logits_of_another_size_than_the_mask_are_refused():
    with pytest.raises(ValueError, match=r"answers \(1, 5, 2, 2\) to a mask \(1, 4, 4\)"):
        objective()(Given(torch.zeros(1, 5, 2, 2)), batch(torch.zeros(1, 4, 4).long()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"terms": []}, "at least 1"),
        ({"terms": [{"loss": "dice", "weight": 0}]}, "every term has weight 0"),
        ({"terms": [{"loss": "dise"}]}, "'dise'"),
        ({"terms": [{"loss": "dice", "smoth": 1}]}, "did you mean 'smooth'"),
        ({"terms": [{"loss": "dice", "smooth": 0}]}, "greater than 0"),
        ({"terms": [{"loss": "focal", "compat_clamp": 1e-6, "compat_leak": 1e-6}]}, "give one of them"),
        ({"terms": [{"loss": "focal", "activation": "sigmoid", "compat_leak": 1e-6}]}, "activation softmax"),
        ({"terms": [{"loss": "focal", "activation": "sigmoid", "alpha": 2}]}, "expected 0 to 1"),
        ({"targets": {"dilation_px": 4}}, "odd"),
        ({"targets": {"priority": [1, 2]}}, "each of 1 to 4 once"),
        ({"targets": {"channel_0": "building"}}, "cannot learn"),
        ({"cross_entropy": 1.0}, "unknown key 'cross_entropy'"),
    ],
)
def test_objectives_that_make_no_sense_are_refused_in_one_line(config, message):
    with pytest.raises(RecipeError, match=message) as caught:
        build_config(SupervisedConfig, config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "config", "message"),
    [
        (1, {}, "one logit"),
        (1, {"terms": [{"loss": "dice"}]}, "one logit"),
        (2, {"terms": [{"loss": "dice", "class_weights": [1, 2, 3]}]}, "3 values, the model has 2"),
        (2, {"targets": {}}, "5 channels of damage, the model has 2"),
    ],
)
def test_terms_that_do_not_fit_the_model_are_refused(classes, config, message):
    with pytest.raises(ValueError, match=message):
        build_config(SupervisedConfig, config).check_classes(classes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_every_term_gives_the_same_on_the_gpu():
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 5, 32, 32), torch.randint(0, 5, (2, 32, 32))
    mask[0, :8] = IGNORE
    losses = ("dice", "jaccard", "tversky", "log-cosh-dice", "lovasz", "focal")
    terms = [{"loss": loss, "class_weights": [1, 2, 1, 1, 3]} for loss in losses]
    terms += [{**term, "activation": "sigmoid"} for term in terms]
    terms += [{"loss": "lovasz", "activation": "hinge"}, {"loss": "cross-entropy"}]
    tested = objective(targets={}, terms=terms)
    here = tested(Given(logits), batch(mask))
    with torch.autocast("cuda", dtype=torch.float16):
        there = tested.cuda()(Given(logits.cuda()), batch(mask).to("cuda"))
    for name, value in here.items():
        assert there[name].item() == pytest.approx(value.item(), rel=1e-4), name
