"""Two images, one decoder: siamese U-Nets for damage, with one encoder for both dates or one for each."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aftermap.models.configs.networks import Fuse
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.encoders import Encoder
from aftermap.models.networks.unet import UnetDecoder, upsample


class SiameseUnet(DenseModel):
    """One encoder for both dates, fused before or after the decoder.

    As of every `DenseModel`, the logits are `forward_head(forward_features(image), (H, W))`.

    With `fuse="decoder"` the whole trunk runs on each date and the head sees both results side by side, as in the
    xView2 winner. With `fuse="encoder"` the two feature maps of every stage are mixed by a 1x1 convolution that
    starts as "take the pre image", so that a localization decoder keeps its meaning; the decoder runs once. With
    `fuse="difference"` the mix is shown the absolute difference of the two maps as well.

    Args:
        encoder: gives one map of features for every stage, from the finest to the coarsest.
        widths: channels of the decoder's stages, from the coarsest.
        classes: K.
        head_stride: pixels of the image for one of the decoder's last map; logits are brought up to the image's size.
        fuse: where the dates meet, see above.
    """

    dates = 2

    def __init__(
        self,
        encoder: Encoder,
        widths: Sequence[int],
        *,
        classes: int,
        head_stride: int = 1,
        fuse: Fuse = "encoder",
    ) -> None:
        super().__init__()
        self.classes = classes
        self.stride = encoder.strides[-1]
        self.encoder = encoder
        self.decoder = UnetDecoder(encoder.channels, encoder.strides, widths, stride=head_stride)
        self.differs = fuse == "difference"
        parts = 3 if self.differs else 2
        self.mix = nn.ModuleList(
            [] if fuse == "decoder" else [pre_first_mix(c, parts) for c in encoder.channels]
        )
        if encoder.pixel_skip and len(self.mix):
            # last in the list though first in the forward pass: the names of the others stay those without it
            self.mix.append(self.mix.pop(0))
        width = self.decoder.out_channels * (2 if fuse == "decoder" else 1)
        self.head = nn.Conv2d(width, classes, 1)

    def forward_features(self, image: Tensor) -> Tensor:
        """Features (B, D, h, w) of pre and post images (B, 2, C, H, W); h and w are H and W over `head_stride`."""
        stages = self._stages(image)
        if len(self.mix):
            mixes = [self.mix[-1], *self.mix[:-1]] if self.encoder.pixel_skip else self.mix
            # (2B, c, h, w) -> (B, 2c, h, w), or (B, 3c, h, w) with the difference
            stages = [mix(self._beside(stage)) for mix, stage in zip(mixes, stages, strict=True)]
            fused: Tensor = self.decoder(stages)
            return fused
        return torch.cat(self.decoder(stages).chunk(2), dim=1)

    def _stages(self, image: Tensor) -> list[Tensor]:
        """Maps (2B, c, h, w) of every stage: all pre, then all post."""
        stages: list[Tensor] = self.encoder(image.transpose(0, 1).flatten(0, 1))
        return stages

    def _beside(self, stage: Tensor) -> Tensor:
        pre, post = stage.chunk(2)
        return torch.cat([pre, post, (post - pre).abs()] if self.differs else [pre, post], dim=1)

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W)."""
        return upsample(self.head(features), size)


class PseudoSiameseUnet(SiameseUnet):
    """An encoder for each date, fused as in `SiameseUnet`: for dates that different sensors have seen.

    Args:
        encoder: of the first date.
        post_encoder: of the second, with the same channels and strides.
        widths: channels of the decoder's stages, from the coarsest.
        post_channels: bands of the second image, from the first on, that its encoder sees: 1 for radar, which images
            hold three times over.
        classes: K.
        head_stride: see `SiameseUnet`.
        fuse: likewise.

    Raises:
        ValueError: encoders that do not fit each other.

    Source: pseudo-siamese networks for optical images and radar (Hughes et al. 2018).
    """

    encoder_parts = ("encoder", "post_encoder")

    def __init__(
        self,
        encoder: Encoder,
        post_encoder: Encoder,
        widths: Sequence[int],
        *,
        post_channels: int,
        classes: int,
        head_stride: int = 1,
        fuse: Fuse = "encoder",
    ) -> None:
        super().__init__(encoder, widths, classes=classes, head_stride=head_stride, fuse=fuse)
        if post_encoder.channels != encoder.channels or post_encoder.strides != encoder.strides:
            raise ValueError("the encoders of both dates need the same channels and strides")
        self.post_encoder = post_encoder
        self.post_channels = post_channels

    def _stages(self, image: Tensor) -> list[Tensor]:
        pre = self.encoder(image[:, 0])
        post = self.post_encoder(image[:, 1, : self.post_channels])
        return [torch.cat(both) for both in zip(pre, post, strict=True)]


def pre_first_mix(channels: int, parts: int = 2) -> nn.Conv2d:
    """1x1 convolution of features of pre, post and what else that starts as the identity on pre, with a little noise."""
    mix = nn.Conv2d(parts * channels, channels, 1)
    with torch.no_grad():
        mix.weight[:, :channels, 0, 0] = torch.eye(channels)
        mix.weight[:, channels:].normal_(std=0.1 / channels**0.5)
        mix.bias.zero_()  # type: ignore[union-attr]
    return mix
