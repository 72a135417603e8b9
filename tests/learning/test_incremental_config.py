"""Methods of learning new classes: what their names stand for, and that what is given beside them wins."""

import pytest

from aftermap.config import build_config
from aftermap.errors import RecipeError
from aftermap.learning.configs.incremental import PRESETS, IncrementalConfig


def config(**tree):
    return build_config(IncrementalConfig, tree)


def said(method):
    """What a method does: initialisation, then loss and weight of its parts."""
    made = config(method=method)
    features, regulariser = made.features, made.regulariser
    return (
        made.initialisation,
        made.segmentation.loss,
        made.distillation and (made.distillation.loss, made.distillation.weight),
        (features and (features.loss, features.weight))
        or (regulariser and (regulariser.kind, regulariser.weight)),
        made.contrastive and (made.contrastive.factor, made.contrastive.factor_old),
    )


UNBIASED, BALANCED = "unbiased-cross-entropy", "background-rebias"


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("fine-tuning", ("random", "cross-entropy", None, None, None)),
        ("unbiased-fine-tuning", ("random", UNBIASED, None, None, None)),
        ("lwf", ("random", "cross-entropy", ("knowledge-distillation", 100), None, None)),
        ("lwf-mc", ("random", "binary-cross-entropy", ("binary-distillation", 10), None, None)),
        ("ilt", ("random", "cross-entropy", ("knowledge-distillation", 100), ("feature-mse", 100), None)),
        ("ewc", ("random", "cross-entropy", None, ("ewc", 500), None)),
        ("pi", ("random", "cross-entropy", None, ("pi", 500), None)),
        ("rw", ("random", "cross-entropy", None, ("rw", 100), None)),
        ("mib", (BALANCED, UNBIASED, ("unbiased-distillation", 10), None, None)),
        ("mib-cd", (BALANCED, UNBIASED, ("unbiased-distillation", 10), None, (0.1, 0.1))),
        ("plop", (BALANCED, "cross-entropy", None, ("local-pod", 1), None)),
    ],
)
def test_a_method_is_what_its_paper_says(method, expected):
    assert said(method) == expected


def test_plop_alone_gives_labels_to_the_background():
    assert [m for m in PRESETS if config(method=m).pseudo_labels is not None] == ["plop"]


def test_a_weight_given_beside_the_method_wins():
    made = config(method="mib", distillation={"weight": 3.0})
    assert (made.distillation.loss, made.distillation.weight) == ("unbiased-distillation", 3.0)


def test_another_loss_does_not_inherit_the_methods_weight():
    made = config(method="mib", distillation={"loss": "knowledge-distillation"})
    assert (made.distillation.loss, made.distillation.weight) == ("knowledge-distillation", 100.0)


def test_null_takes_a_part_of_the_method_out():
    made = config(method="mib", distillation=None)
    assert made.distillation is None and made.segmentation.loss == UNBIASED


def test_parts_of_methods_combine():
    made = config(method="plop", contrastive={"factor_old": 0}, regulariser={"kind": "rw"})
    assert (made.contrastive.factor, made.contrastive.factor_old) == (0.1, 0)
    assert (made.regulariser.kind, made.regulariser.weight, made.features.loss) == ("rw", 100, "local-pod")


@pytest.mark.parametrize("method", PRESETS)
def test_a_stored_method_is_read_back_as_it_was(method):
    made = config(method=method, initialisation="previous-head", distillation=None)
    assert IncrementalConfig.model_validate(made.model_dump(mode="json")) == made


def test_parts_given_as_objects_count_like_written_ones():
    part = config(method="mib").distillation
    assert IncrementalConfig(method="fine-tuning", distillation=part).distillation == part


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"method": "mibb"}, "method"),
        ({"method": ["mib"]}, "method"),
        ({"distillation": {"factor": 1}}, "unknown key"),
        ({"method": "mib", "pseudo_labels": {}}, "pseudo_labels need cross-entropy"),
        ({"contrastive": {"flips": False, "rotation": "none"}}, "nothing is turned"),
        ({"contrastive": {"factor": 0, "factor_old": 0}}, "leave it out"),
        ({"contrastive": {"compat_corners": True}}, "rotation free"),
        ({"method": "fine-tuning", "distillation": {"weight": 1}}, "distillation.loss"),
        ({"method": "lwf-mc", "segmentation": {"class_weights": [1, 2]}}, "class_weights"),
    ],
)
def test_what_does_not_fit_is_refused(tree, message):
    with pytest.raises(RecipeError, match=message):
        config(**tree)


def test_class_weights_must_reach_the_last_class():
    made = config(segmentation={"class_weights": [1, 2, 3]})
    made.check_classes(2)
    with pytest.raises(ValueError, match="3 values, the model has 4 classes"):
        made.check_classes(4)
