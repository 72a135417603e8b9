"""What the U-Nets of the xView2 winner and of MetaDamageNet can be."""

from dataclasses import dataclass
from typing import Literal

from aftermap.config import Config
from aftermap.models.configs.encoder import EncoderName, EncoderWeights

ScseMode = Literal["none", "concat", "add"]


@dataclass(frozen=True, slots=True)
class DecoderPlan:
    """What a decoder of this family is made of; widths are listed coarsest first."""

    widths: tuple[int, int, int, int, int]
    scse: ScseMode = "none"
    norm: bool = False


LARGE_DECODER = DecoderPlan((320, 160, 96, 64, 48))
SMALL_DECODER = DecoderPlan((256, 128, 64, 48, 32))
PUBLISHED_DECODERS = {
    "resnet34": LARGE_DECODER,
    "seresnext50": SMALL_DECODER,
    "dpn92": DecoderPlan(SMALL_DECODER.widths, scse="concat"),
    "senet154": LARGE_DECODER,
    "efficientnet_b0": DecoderPlan(LARGE_DECODER.widths, norm=True),
    "efficientnet_b0_widese": DecoderPlan(LARGE_DECODER.widths, norm=True),
    "efficientnet_b4": DecoderPlan(LARGE_DECODER.widths, norm=True),
}


class Xview2UnetConfig(Config):
    """U-Net of the xView2 winner or MetaDamageNet; the siamese one joins the dates after the decoder.

    Attributes:
        encoder_name: resnet34, seresnext50, dpn92, senet154, efficientnet_b0, efficientnet_b0_widese,
            efficientnet_b4 (as published), or any timm encoder with five stages at strides 2 to 32.
        dates: 1 for localization, 2 for damage.
        classes: logits per pixel; published are 1 for localization and 5 for damage.
        decoder_channels: five widths, coarsest first; None takes those published with the encoder.
        scse: gates after the four decoder steps that merge a skip; None as published with the encoder.
        decoder_norm: batch normalisation in the decoder; None as published with the encoder.
        encoder_weights: "imagenet", a weight file, or None for random weights.
        in_channels: bands of one date.
    """

    kind: Literal["xview2-unet"] = "xview2-unet"
    encoder_name: EncoderName = "resnet34"
    dates: Literal[1, 2] = 2
    classes: int = 5
    decoder_channels: tuple[int, int, int, int, int] | None = None
    scse: ScseMode | None = None
    decoder_norm: bool | None = None
    encoder_weights: EncoderWeights = None
    in_channels: int = 3

    @property
    def decoder(self) -> DecoderPlan:
        """The decoder with every open choice filled in."""
        published = PUBLISHED_DECODERS.get(self.encoder_name, SMALL_DECODER)
        return DecoderPlan(
            self.decoder_channels or published.widths,
            published.scse if self.scse is None else self.scse,
            published.norm if self.decoder_norm is None else self.decoder_norm,
        )
