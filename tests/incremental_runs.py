"""Tiny incremental recipes for tests."""

from aftermap.config import build_config, merge
from aftermap.workflows.incremental.config import IncrementalRecipe

TINY = {
    "kind": "incremental",
    "name": "tiny",
    "task": "6s",
    "model": {
        "kind": "unet",
        "encoder_name": "resnet10t",
        "encoder_depth": 2,
        "encoder_options": {"channels": [8, 16, 16, 16], "stem_width": 8},
        "decoder_channels": [8, 8],
    },
    "objective": {"method": "mib"},
    "sampling": {"crop_px": 32, "batch_size": 2},
    "augment": None,
    "optimizer": {"lr": 0.005, "schedule": {"kind": "cosine", "warmup_steps": 2}},
    "precision": "no",
    "steps": 4,
    "evaluate_every": 2,
    "report": {"strips": 1},
    "seed": 1,
}


def tiny_recipe(folder, **changes):
    """A recipe of some optimizer steps per step of the task."""
    return build_config(IncrementalRecipe, merge(TINY | {"data": {"manifests": [str(folder)]}}, changes))
