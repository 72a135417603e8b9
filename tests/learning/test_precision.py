"""One set of words for the arithmetic of every kind of training."""

import pytest
from pydantic import TypeAdapter, ValidationError

from aftermap.config import build_config
from aftermap.learning.precision import MetaPrecision, Precision
from aftermap.workflows.adaptation.config import AdaptConfig, AdaptEventRecipe
from incremental_runs import tiny_recipe


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (False, "no"),  # YAML's unquoted no
        *((word, word) for word in ("auto", "no", "bf16", "fp16")),
        *((word, "no") for word in ("fp32", "f32", "float32")),
        *((word, "fp16") for word in ("f16", "float16")),
        ("bfloat16", "bf16"),
    ],
)
def test_words_of_other_tools_mean_the_same(said, meant):
    assert TypeAdapter(Precision).validate_python(said) == meant


@pytest.mark.parametrize("said", ["int8", "half", True, 16])
def test_what_no_training_does_is_refused(said):
    with pytest.raises(ValidationError, match="'auto', 'no', 'bf16' or 'fp16'"):
        TypeAdapter(Precision).validate_python(said)


def test_meta_training_knows_two_of_them():
    assert TypeAdapter(MetaPrecision).validate_python("fp32") == "no"
    with pytest.raises(ValidationError):
        TypeAdapter(MetaPrecision).validate_python("fp16")


def test_recipes_of_every_kind_take_an_unquoted_no():
    told = ["precision=no"]
    with_labels = build_config(AdaptConfig, {"model": "box", "data": "d", "event": "e"}, told)
    without = build_config(AdaptEventRecipe, {"data": ["d"]}, told)
    assert with_labels.precision == without.precision == "no"
    assert tiny_recipe("d", precision=False).precision == "no"
    assert without.model_dump(mode="json")["precision"] == "no"
