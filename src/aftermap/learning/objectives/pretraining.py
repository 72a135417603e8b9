"""What an encoder learns from images without labels: to guess what is hidden, or to see the same in other light."""

from typing import Any, assert_never

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

from aftermap.data.batch import Batch
from aftermap.errors import RecipeError
from aftermap.learning.configs.pretraining import MaskedImageConfig, PretrainingConfig, VicregConfig
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.strong_views import strong_view
from aftermap.models.networks.dense import DenseModel


def build_pretraining(config: PretrainingConfig, *, channels: int, stride: int, bands: int) -> Objective:
    """The objective of a configuration for an encoder whose deepest features have `channels` at `stride`.

    Raises:
        RecipeError: squares that do not go with the stride.
        MissingExtraError: the loss is of a library that is not installed.
    """
    match config:
        case MaskedImageConfig():
            return MaskedImage(config, channels=channels, stride=stride, bands=bands)
        case VicregConfig():
            return Vicreg(config, channels=channels)
        case _:
            assert_never(config)


class MaskedImage(Objective):
    """Mean absolute error, in standard deviations of the normalisation, of the pixels that were hidden.

    The model is an encoder (`EncoderModel`), whose head, one linear layer, is here and not kept.
    """

    def __init__(self, config: MaskedImageConfig, *, channels: int, stride: int, bands: int) -> None:
        super().__init__()
        if config.patch_px % stride:
            raise RecipeError(
                f"objective.patch_px is {config.patch_px}, the encoder's deepest stride is {stride}: take a multiple"
            )
        self.config, self.stride = config, stride
        self.head = nn.Conv2d(channels, bands * stride**2, 1)

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """The term `hidden`."""
        image = batch.image  # (B, 1, C, H, W)
        hidden = self.hidden(image)  # (B, 1, H, W)
        guess = pixel_shuffle(self.head(model(image * ~hidden[:, None])).float(), self.stride)
        error = (guess - image[:, 0]).abs().mean(dim=1, keepdim=True)
        return {"hidden": error[hidden].mean()}

    def hidden(self, image: Tensor) -> Tensor:
        """Which pixels are hidden: bool (B, 1, H, W), the same number of squares in each image, at least one."""
        count, height, width = len(image), image.shape[-2], image.shape[-1]
        rows, cols = -(-height // self.config.patch_px), -(-width // self.config.patch_px)
        least = max(1, round(self.config.share * rows * cols))
        order = torch.rand((count, rows * cols), device=image.device).argsort(dim=1).argsort(dim=1)
        squares = (order < least).reshape(count, 1, rows, cols).float()
        grown = interpolate(squares, scale_factor=float(self.config.patch_px), mode="nearest")
        return grown[..., :height, :width] > 0


class Vicreg(Objective):
    """VICReg between the cells of two versions of the same crops."""

    def __init__(self, config: VicregConfig, *, channels: int) -> None:
        from aftermap.extras import needs

        needs("objective vicreg", "ssl")
        from pytorch_metric_learning.losses import VICRegLoss

        super().__init__()
        self.config = config
        self.head = nn.Sequential(
            nn.Linear(channels, config.width),
            nn.LayerNorm(config.width),
            nn.ReLU(),
            nn.Linear(config.width, config.width),
        )
        self.loss: Any = VICRegLoss(
            invariance_lambda=config.invariance, variance_mu=config.variance, covariance_v=config.covariance
        )

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """The term `vicreg`."""
        views = torch.cat([strong_view(batch.image, self.config.strong)[0] for _ in range(2)])
        cells = model(views).float().flatten(2).transpose(1, 2)  # (2B, h * w, D)
        one, other = self.head(cells).chunk(2)
        value: Tensor = self.loss(one.flatten(0, 1), ref_emb=other.flatten(0, 1))
        return {"vicreg": value}
