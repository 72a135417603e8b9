"""Two images, one trunk: siamese U-Nets for damage."""

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
        both = image.transpose(0, 1).flatten(0, 1)  # (2B, C, H, W): all pre, then all post
        stages = self.encoder(both)
        if len(self.mix):
            mixes = [self.mix[-1], *self.mix[:-1]] if self.encoder.pixel_skip else self.mix
            # (2B, c, h, w) -> (B, 2c, h, w), or (B, 3c, h, w) with the difference
            stages = [mix(self._beside(stage)) for mix, stage in zip(mixes, stages, strict=True)]
            fused: Tensor = self.decoder(stages)
            return fused
        return torch.cat(self.decoder(stages).chunk(2), dim=1)

    def _beside(self, stage: Tensor) -> Tensor:
        pre, post = stage.chunk(2)
        return torch.cat([pre, post, (post - pre).abs()] if self.differs else [pre, post], dim=1)

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, H, W)."""
        return upsample(self.head(features), size)


def pre_first_mix(channels: int, parts: int = 2) -> nn.Conv2d:
    """1x1 convolution of features of pre, post and what else that starts as the identity on pre, with a little noise."""
    mix = nn.Conv2d(parts * channels, channels, 1)
    with torch.no_grad():
        mix.weight[:, :channels, 0, 0] = torch.eye(channels)
        mix.weight[:, channels:].normal_(std=0.1 / channels**0.5)
        mix.bias.zero_()  # type: ignore[union-attr]
    return mix
