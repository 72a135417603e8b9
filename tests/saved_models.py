"""Small model folders and ensembles, and batches as a student sees them."""

import numpy as np
import torch
from torch import nn

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.store import save_model
from aftermap.learning.configs.distillation import TeacherConfig
from aftermap.learning.teachers import StudentImages, Teacher
from aftermap.models.build import build_model
from aftermap.models.configs import CustomConfig, SiameseUnetConfig, UnetConfig
from aftermap.models.networks.dense import DenseModel

SMALL = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (16, 16, 16)}
PLAIN = StudentImages(("red", "green", "blue"), (127.5,) * 3, (127.5,) * 3, 2)
OTHER = Normalisation(mean=(100.0, 110.0, 120.0), std=(40.0, 50.0, 60.0))


class Bands(DenseModel):
    """Logits are the bands that it sees on its first date, `classes` of them."""

    dates, stride = 1, 4

    def __init__(self, classes, dates=1):
        super().__init__()
        self.classes, self.dates = classes, dates
        self.gain = nn.Parameter(torch.ones(()))

    def forward_features(self, image):
        return image[:, 0]

    def forward_head(self, features, size):
        return self.gain * features[:, : self.classes]


def save(folder, config, model=None, *, seed=0, **card):
    torch.manual_seed(seed)
    model = model or build_model(config)
    damage = config.classes == 5
    values = {"name": folder.name, "model": config, "dates": model.dates, "licence": "MIT"}
    values |= {"scheme": "joint-damage-scale" if damage else "building"}
    values |= {"training": TrainingRecord(data="none", data_licence="none")}
    save_model(folder, model, Card(**values | card))
    return folder


def save_damage(folder, **given):
    return save(folder, SiameseUnetConfig(**SMALL), **given)


def save_building(folder, **given):
    return save(folder, UnetConfig(**SMALL | {"classes": given.pop("classes", 2)}), **given)


def save_bands(folder, classes, **card):
    config = CustomConfig(target="saved_models:Bands", classes=classes, arguments={"classes": classes})
    return save(folder, config, Bands(classes), **card)


def make_ensemble(folder, parts, **options):
    card, members = compose(
        folder.name, [p if isinstance(p, Ingredient) else Ingredient(p) for p in parts], **options
    )
    save_ensemble(folder, card, members)
    return folder


def raw(dates=2, size=32):
    return np.random.default_rng(3).integers(0, 256, (2, dates, 3, size, size), dtype=np.uint8)


def as_student(pixels, images=PLAIN):
    """Red, green, blue pixels as a student's batch."""
    order = [("red", "green", "blue").index(band) for band in images.bands]
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (images.mean, images.std))
    return (torch.from_numpy(pixels[:, : images.dates, order]).float() - mean) / std


def opened(folder, images=PLAIN, **given):
    return Teacher.open("main", TeacherConfig(model=folder, **given), images)
