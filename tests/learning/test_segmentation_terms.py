"""What a step can learn from its labels besides cross-entropy: values, defaults, refusals, two optimizer steps."""

import copy

import pytest
import torch
from worked_incremental import MASK, OLD, student_logits

from aftermap.config import build_config
from aftermap.errors import RecipeError
from aftermap.learning.configs.incremental import IncrementalConfig
from aftermap.learning.losses.class_overlap import dual_tanimoto, focal_tversky, tanimoto
from aftermap.learning.losses.incremental import merged_mask, unbiased_focal, unbiased_log_probabilities
from aftermap.learning.losses.pixel import focal
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.objectives.segmentation_terms import segmentation_value
from incremental_stub import Stub, worked_batch

LOGITS = student_logits().detach()
NAMES = ["focal", "focal-tversky", "tanimoto", "dual-tanimoto"]


def config(method="mib", **segmentation):
    return build_config(IncrementalConfig, {"method": method, "segmentation": segmentation})


def objective(step, **segmentation):
    heads, teacher = ([2], None) if step == 0 else ([2, 1], Stub(2, shift=0.25))
    return Incremental(config(**segmentation), step=step, heads=heads, teacher=teacher)


CASES = [
    (
        {"loss": "focal", "gamma": 1.5, "alpha": 0.7, "compat_mean_over_all": True},
        lambda z, t, old: unbiased_focal(z, t, old, gamma=1.5, alpha=0.7, compat_mean_over_all=True),
    ),
    (
        {"loss": "focal-tversky", "alpha": 0.3, "beta": 0.8, "gamma": 1.2},
        lambda z, t, old: focal_tversky(z, t, old=old, alpha=0.3, beta=0.8, gamma=1.2),
    ),
    ({"loss": "tanimoto", "gamma": 1.3}, lambda z, t, old: tanimoto(z, t, old=old, gamma=1.3)),
    (
        {"loss": "dual-tanimoto", "share": 0.3, "gamma": 1.4},
        lambda z, t, old: dual_tanimoto(z, t, old=old, share=0.3, gamma=1.4),
    ),
    (
        {"loss": "tanimoto", "compat_published": True},
        lambda z, t, old: tanimoto(z, t, old=old, compat_published=True),
    ),
    (
        {"loss": "dual-tanimoto", "compat_published": True},
        lambda z, t, old: dual_tanimoto(z, t, old=old, compat_published=True),
    ),
    (
        {"loss": "focal-tversky", "compat_published": True},
        lambda z, t, old: focal_tversky(z, t, old=old, compat_published=True),
    ),
]


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(
    ("tree", "expected"), CASES, ids=[f"{n}-{tree['loss']}" for n, (tree, _) in enumerate(CASES)]
)
def test_a_term_is_worth_its_loss(tree, expected, unbiased):
    term = config(**tree, unbiased=unbiased).segmentation
    found = segmentation_value(term, LOGITS, MASK, OLD, None)
    assert found.item() == expected(LOGITS, MASK, OLD if unbiased else 1).item()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [0, 1])
def test_two_optimizer_steps_lower_the_loss(name, step):
    made, model = objective(step, loss=name, weight=2.0), Stub(3 if step else 2)
    batch = worked_batch(2 if step else 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    values = []
    for _ in range(3):
        terms = made(model, batch)
        values.append(terms[name].item())
        optimizer.zero_grad()
        terms[name].backward()
        optimizer.step()
    assert values[2] < values[1] < values[0]
    term = made.config.segmentation
    logits = Stub(3 if step else 2)(batch.image)
    assert values[0] == pytest.approx(
        2 * segmentation_value(term, logits, batch.mask, made.old, None).item(), abs=1e-12
    )


@pytest.mark.parametrize("name", NAMES)
def test_at_the_first_step_nothing_is_old(name):
    values = [
        objective(0, loss=name, unbiased=unbiased)(Stub(2), worked_batch(1))[name].item()
        for unbiased in (False, True)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("method", "unbiased"),
    [("mib", True), ("mib-cd", True), ("unbiased-fine-tuning", True), ("fine-tuning", False), ("lwf", False)],
)
def test_the_method_says_what_the_background_stands_for(name, method, unbiased):
    assert config(method, loss=name).segmentation.unbiased is unbiased
    assert config(method, loss=name, unbiased=not unbiased).segmentation.unbiased is not unbiased


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_loss_is_read_back_as_it_was(name):
    made = config("fine-tuning", loss=name, unbiased=True, gamma=1.1)
    assert IncrementalConfig.model_validate(made.model_dump(mode="json")) == made


def test_class_weights_of_the_focal_loss_are_those_of_its_merged_classes():
    made = config(loss="focal", class_weights=[1, 9, 9, 2, 4])
    weights = torch.tensor([1.0, 2, 4], dtype=LOGITS.dtype)
    log_p, merged = unbiased_log_probabilities(LOGITS, OLD), merged_mask(MASK, OLD)
    expected = focal(log_p, merged, class_weights=weights).item()
    given = torch.tensor(made.segmentation.class_weights)
    assert segmentation_value(made.segmentation, LOGITS, MASK, OLD, given).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="5 values, the model has 6 classes"):
        made.check_classes(6)


def test_class_weights_reach_the_focal_loss_of_an_objective():
    light, heavy = (objective(1, loss="focal", class_weights=[1, 1, w, 7]) for w in (1, 50))
    student, batch = Stub(3), worked_batch()
    only_new = copy.copy(batch.mask).masked_fill(batch.mask == 0, 255)
    term = heavy.config.segmentation
    alone = segmentation_value(term, student(batch.image), only_new, 2, None).item()
    values = [made(student, batch)["focal"].item() for made in (light, heavy)]
    assert abs(values[1] - alone) < abs(values[0] - alone)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"loss": "focl"}, "unknown loss 'focl': did you mean 'focal'"),
        ({"loss": "tanimoto", "class_weights": [1, 2]}, "class_weights"),
        ({"loss": "cross-entropy", "unbiased": True}, "unbiased"),
        ({"loss": "focal", "share": 0.2}, "share"),
        ({"loss": "dual-tanimoto", "share": 1.2}, "less than or equal to 1"),
    ],
)
def test_what_a_loss_does_not_have_is_refused(tree, message):
    with pytest.raises(RecipeError, match=message):
        config("fine-tuning", **tree)


def test_pseudo_labels_keep_to_cross_entropy():
    with pytest.raises(RecipeError, match=r"segmentation.loss is focal, pseudo_labels need cross-entropy"):
        config("plop", loss="focal")


@pytest.mark.parametrize("name", NAMES)
def test_turned_images_may_be_learned_from_with_every_loss(name):
    tree = {
        "method": "mib-cd",
        "segmentation": {"loss": name},
        "contrastive": {"supervise_transformed": True, "factor": 0, "factor_old": 0},
    }
    made = Incremental(
        build_config(IncrementalConfig, tree), step=1, heads=[2, 1], teacher=Stub(2, shift=0.25)
    )
    terms = made(Stub(3), worked_batch())
    assert set(terms) == {name, "unbiased-distillation"}
