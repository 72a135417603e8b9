"""Augmentation of whole batches on their device: photometry per date, then the same geometry for dates and mask."""

import kornia.augmentation as ka
import torch
from torch import Tensor, nn

from aftermap.config import Config


class AugmentConfig(Config):
    """Probabilities and ranges. A probability of 0 switches an operation off.

    Attributes:
        rotate_degrees, scale: one affine warp with reflected borders, applied with probability `affine`.
        brightness, contrast, saturation, gamma: factors are drawn from 1 - x to 1 + x.
        rgb_shift: each band is moved by up to this fraction of the range.
        noise_std, blur_sigma: largest standard deviation, in fractions of the range and in pixels.
        photometric: probability of each photometric operation, drawn for each date on its own.
    """

    flip: float = 0.5
    rotate90: float = 0.75
    affine: float = 0.5
    rotate_degrees: float = 15.0
    scale: tuple[float, float] = (0.8, 1.25)
    photometric: float = 0.4
    brightness: float = 0.15
    contrast: float = 0.3
    saturation: float = 0.4
    gamma: float = 0.3
    rgb_shift: float = 0.06
    noise: float = 0.2
    noise_std: float = 0.03
    blur: float = 0.2
    blur_sigma: float = 1.2
    grayscale: float = 0.0


class Augment(nn.Module):
    """Augments image (B, T, 3, H, W) in 0..1 and mask (B, H, W) int64, drawing from torch's global generator."""

    def __init__(self, config: AugmentConfig) -> None:
        super().__init__()
        c = config
        photometry: list[nn.Module] = []
        if c.photometric:
            p = c.photometric
            photometry += [
                ka.RandomBrightness((1 - c.brightness, 1 + c.brightness), p=p),
                ka.RandomContrast((1 - c.contrast, 1 + c.contrast), p=p),
                ka.RandomSaturation((1 - c.saturation, 1 + c.saturation), p=p),
                ka.RandomGamma((1 - c.gamma, 1 + c.gamma), p=p),
                ka.RandomRGBShift(c.rgb_shift, c.rgb_shift, c.rgb_shift, p=p),
            ]
        if c.grayscale:
            photometry.append(ka.RandomGrayscale(p=c.grayscale))
        if c.blur:
            photometry.append(ka.RandomGaussianBlur((5, 5), (0.1, c.blur_sigma), p=c.blur))
        if c.noise:
            photometry.append(ka.RandomGaussianNoise(std=c.noise_std, p=c.noise))
        self.photometry = ka.ImageSequential(*photometry) if photometry else None
        geometry: list[nn.Module] = []
        if c.flip:
            geometry += [ka.RandomHorizontalFlip(p=c.flip), ka.RandomVerticalFlip(p=c.flip)]
        if c.rotate90:
            geometry.append(ka.RandomRotation90((1, 3), p=c.rotate90, resample="nearest"))
        if c.affine:
            geometry.append(
                ka.RandomAffine(c.rotate_degrees, scale=c.scale, p=c.affine, padding_mode="reflection")
            )
        self.geometry = (
            ka.AugmentationSequential(*geometry, data_keys=["input", "mask"]) if geometry else None
        )

    @torch.no_grad()
    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented image and mask of the same shapes, types and ranges."""
        b, t, c, h, w = image.shape
        if self.photometry is not None:
            image = self.photometry(image.reshape(b * t, c, h, w)).clamp(0, 1).reshape(b, t, c, h, w)
        if self.geometry is not None:
            # dates as channels, so that they move together; classes as floats, resampled by nearest neighbour
            warped, labels = self.geometry(image.reshape(b, t * c, h, w), mask[:, None].to(image.dtype))
            image, mask = warped.reshape(b, t, c, h, w), labels[:, 0].round().long()
        return image, mask
