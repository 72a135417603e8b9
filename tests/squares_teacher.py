"""A teacher that knows the truth about the squares, students of it, and squares without labels."""

import json

import torch
from torch import nn

from aftermap.config import build_config
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.training.config import TrainRecipe
from saved_models import save
from squares import COLOURS


class Knows(DenseModel):
    """The truth about the squares, read from their colours; `classes` 1 of damage makes all of them that one class."""

    dates, stride = 2, 4

    def __init__(self, classes=5, only=0):
        super().__init__()
        self.classes, self.dates = classes, 2 if classes == 5 else 1
        seen = [COLOURS[n] for n in range(1, 5)] if classes == 5 else [(230, 230, 230)]
        if only:
            seen = [c if n == only else (0, 0, 999) for n, c in enumerate(seen, 1)]
        self.only = only
        self.register_buffer("colours", torch.tensor([(105, 105, 105), *seen], dtype=torch.float32))
        self.gain = nn.Parameter(torch.ones(()))

    def forward_features(self, image):
        pixels = image[:, 0 if self.only else -1].permute(0, 2, 3, 1) * 127.5 + 127.5
        if self.only:  # every building of the first date is of that class
            pixels = torch.where(pixels[..., :1] > 200, self.colours[self.only], pixels)
        return -torch.cdist(pixels, self.colours.expand(len(pixels), 1, -1, -1)).permute(0, 3, 1, 2) / 10

    def forward_head(self, features, size):
        return self.gain * features


def save_knowing(folder, **arguments):
    arguments = {"classes": 5} | arguments
    config = CustomConfig(target="squares_teacher:Knows", classes=arguments["classes"], arguments=arguments)
    return save(folder, config, Knows(**arguments))


def alter(folder, change):
    """Change every training scene of a data set."""
    file = folder / "manifest.json"
    tree = json.loads(file.read_text())
    for scene in tree["scenes"]:
        if scene["split"] == "train":
            change(scene)
    file.write_text(json.dumps(tree))
    return folder


def stripped(scene):
    scene |= {"building_mask": None, "damage_mask": None, "class_pixels": []}


def student(folder, teacher, **changes):
    """A student of soft targets alone."""
    tree = {
        "name": "student",
        "task": "damage",
        "data": {"manifests": [str(folder)], "unlabelled": True},
        "model": {
            "kind": "siamese-unet",
            "encoder_name": "resnet10t",
            "encoder_options": {"channels": [16, 32, 32, 32], "stem_width": 16},
            "encoder_depth": 3,
            "decoder_channels": [16, 16, 16],
        },
        "objective": {
            "kind": "distillation",
            "terms": [],
            "teachers": {"main": {"model": str(teacher)}},
            "distil": [{"loss": "soft-targets", "temperature": 2}],
        },
        "sampling": {"crop_px": 64, "batch_size": 4},
        "augment": None,
        "optimizer": {"lr": 0.01, "schedule": {"kind": "cosine", "warmup_steps": 5}},
        "selection": {"keep": "last", "tune": False},
        "precision": "no",
        "steps": 60,
        "evaluate_every": 60,
    }
    return build_config(TrainRecipe, tree | changes)
