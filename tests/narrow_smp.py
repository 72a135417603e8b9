"""Models of segmentation_models_pytorch with narrow decoders: every kind of layer, few numbers."""

from aftermap.models.configs import SmpConfig

NARROW = {name: {"decoder_channels": (32, 24, 16, 16, 8)} for name in ("unet", "unetplusplus", "manet")}
NARROW["dpt"] = {"decoder_intermediate_channels": (16, 16, 24, 24), "decoder_fusion_channels": 16}
NARROW["upernet"] = NARROW["deeplabv3"] = NARROW["deeplabv3plus"] = {"decoder_channels": 16}
NARROW["fpn"] = {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32}
NARROW["pspnet"] = {"psp_out_channels": 16}
NARROW["segformer"] = {"decoder_segmentation_channels": 16}


def config_of(architecture, **changes):
    encoder = "vit_tiny_patch16_224" if architecture == "dpt" else "test_resnet"
    values = {"encoder_name": encoder, "classes": 5, "arguments": NARROW.get(architecture, {}), **changes}
    return SmpConfig(architecture=architecture, **values)
