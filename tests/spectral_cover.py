"""Land cover by reflectance alone, with a legend: dark water, what is green in near infrared, and the rest."""

from pathlib import Path

import torch
from torch import Tensor

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.store import save_model
from aftermap.data.legends import Legend
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel

LEGEND = Legend(
    name="spectral", names=("built", "vegetation", "water"), colours=("#b0b0b0", "#2e8b3a", "#2050d0")
)
BANDS = ("nir", "red", "green", "blue")


class SpectralModel(DenseModel):
    """Vegetation where near infrared is brighter than red, water where it is dark."""

    dates, classes, stride = 1, 3, 32

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = torch.nn.Parameter(torch.tensor(12.0))

    def forward_features(self, image: Tensor) -> Tensor:
        return image[:, 0] * 127.5 + 127.5

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        nir, red = features[:, 0], features[:, 1]
        greenness = (nir - red) / (nir + red + 1)
        scores = torch.stack([torch.zeros_like(nir), greenness - 0.15, 0.06 - nir / 255], dim=1)
        return scores * self.sharpness


def save_spectral_model(folder: Path) -> Path:
    """A model folder that wants near infrared first."""
    card = Card(
        name="spectral",
        model=CustomConfig(target="spectral_cover:SpectralModel", classes=3),
        dates=1,
        scheme=LEGEND.name,
        legend=LEGEND,
        bands=BANDS,
        normalisation=Normalisation(mean=(127.5,) * 4, std=(127.5,) * 4),
        resolution_m=(0.3, 1.0),
        training=TrainingRecord(data="none", data_licence="none"),
        licence="CC0-1.0",
    )
    save_model(folder, SpectralModel(), card)
    return folder
