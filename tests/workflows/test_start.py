"""What a recipe is refused for before a run begins."""

import pytest

from aftermap.config import build_config
from aftermap.errors import RecipeError
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run import train
from squares import make_dataset

UNET = {"kind": "unet", "encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": [16, 16, 16]}


def recipe(data, **changes):
    said = {"name": "tiny", "task": "building", "data": {"manifests": [str(data)]}, "model": UNET}
    return build_config(TrainRecipe, said | {"sampling": {"crop_px": 32, "batch_size": 2}} | changes)


def test_heads_are_not_taught_to_a_model_without_them_and_nothing_is_left(tmp_path):
    data = make_dataset(tmp_path / "squares", scenes=4)
    with pytest.raises(RecipeError, match="objective heads is for models of kind fpn-efficientnet"):
        train(recipe(data, objective={"kind": "heads"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resolutions", [[0.6, 0.07], [0.0, 0.3]])
def test_resolutions_are_given_finest_first(tmp_path, resolutions):
    with pytest.raises(RecipeError, match="no range of metres per pixel, finest first"):
        recipe(tmp_path, resolution_m=resolutions)
