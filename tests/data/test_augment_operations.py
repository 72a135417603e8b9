import re
import textwrap

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from aftermap.config import Config, build_config
from aftermap.data.augment import operations as o
from aftermap.data.augment.chain import effective_probabilities
from aftermap.data.loading.sampling import ClassSampling, EpochSampling, SamplingConfig
from aftermap.errors import RecipeError


class Recipe(Config):
    augment: o.Operations = o.DEFAULT
    sampling: SamplingConfig = ClassSampling()


EXAMPLES = [
    build_config(Recipe, yaml.safe_load(textwrap.dedent(block)))
    for block in re.findall(r"\n\n((?:    .*\n|\n)+)", o.__doc__)
]


def chances(recipe, dates):
    found = effective_probabilities(o.photometric(recipe.augment), dates=dates)
    return {(c.operation.op, c.date): c.probability for c in found}


def test_the_winners_example_has_the_published_numbers():
    winner, _ = EXAMPLES
    assert [op.p for op in o.geometric(winner.augment)] == [0.5, 0.95, 0.2, 0.8]
    found = chances(winner, 2)
    assert found["channel-shift", 0] == pytest.approx(0.04)
    assert found["hsv-shift", 1] == pytest.approx(0.96 * 0.04)
    assert found["noise", 0] == found["noise", 1] == pytest.approx(0.1 * 0.04 * 0.96)
    assert found["contrast", 1] == pytest.approx(0.9 * 0.1 * 0.04 * 0.96**2)
    assert found["elastic", 0] == found["elastic", 1] == pytest.approx(0.04)
    assert isinstance(winner.sampling, EpochSampling) and winner.sampling.repeat == "train"


def test_metadamagenets_example_has_the_published_numbers():
    _, meta = EXAMPLES
    found = chances(meta, 1)
    assert found["hsv-shift", 0] == pytest.approx(0.97 * 0.03)
    assert found["clahe", 0] == pytest.approx(0.07 * 0.03)
    assert found["saturation", 0] == pytest.approx(0.93 * 0.07 * 0.03)
    assert meta.sampling.crop.relative_to == "scene" and meta.sampling.date_swap == 0.015


@pytest.mark.parametrize("recipe", [*EXAMPLES, Recipe()], ids=["winner", "metadamagenet", "default"])
def test_a_recipe_survives_being_written_and_read(recipe):
    text = yaml.safe_dump(recipe.model_dump(mode="json"))
    assert build_config(Recipe, yaml.safe_load(text)) == recipe


def test_sampling_without_a_kind_is_by_classes():
    assert isinstance(build_config(Recipe, {"sampling": {"crop_px": 32}}).sampling, ClassSampling)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"augment": [{"op": "noise"}, {"op": "flip"}]}, "flip comes after noise: list geometry first"),
        (
            {"augment": [{"op": "noise"}, {"op": "clahe", "compat_uint8": True}]},
            "clahe comes after noise",
        ),
        (
            {"augment": [{"op": "one-of", "of": [{"op": "noise"}, {"op": "clahe", "compat_uint8": True}]}]},
            "mixes operations with and without compat_uint8",
        ),
        ({"augment": [{"op": "flip", "pp": 1}]}, "unknown key 'augment.0.flip.pp': did you mean 'p'"),
        ({"augment": [{"op": "shift", "x": [1, 0]}]}, "from low to high"),
        ({"augment": [{"op": "flip", "p": 1.5}]}, "less than or equal to 1"),
        ({"augment": [{"op": "one-of", "of": []}]}, "at least 1 item"),
        ({"sampling": {"kind": "epochs", "class_share": 1}}, "unknown key"),
        ({"sampling": {"kind": "epochs", "compat_steps": True}}, "compat_steps needs compat_mask: per-class"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(tree, message):
    with pytest.raises(RecipeError, match=message) as caught:
        build_config(Recipe, tree)
    assert "\n" not in str(caught.value)


def test_geometry_cannot_be_a_member_of_a_group():
    with pytest.raises(ValidationError):
        TypeAdapter(o.Operations).validate_python([{"op": "one-of", "of": [{"op": "flip"}]}])
