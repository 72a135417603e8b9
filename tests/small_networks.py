"""A network of a few weights that learns, for runs whose files matter and not their scores."""

import torch

from aftermap.models.networks.dense import DenseModel


class Small(DenseModel):
    """One date, two classes, an encoder, a decoder and a head."""

    dates, classes, stride = 1, 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
        )
        self.decoder = torch.nn.Conv2d(4, 4, 1)
        self.head = torch.nn.Conv2d(4, 2, 1)

    def forward_features(self, image: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(image[:, 0]))

    def forward_head(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return self.head(features)
