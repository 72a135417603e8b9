"""Weight names of the published U-Nets: the winner's, its distilled students' and MetaDamageNet's."""

import re
from collections.abc import Iterable

from aftermap.models.configs import Xview2UnetConfig

Rules = tuple[tuple[str, str], ...]
"""Starts of our names (regular expressions) and what stands there in the original."""

RESNET: Rules = (
    (r"conv1\.", r"conv1.0."),
    (r"bn1\.", r"conv1.1."),
    (r"layer1\.", r"conv2.1."),
    (r"layer2\.", r"conv3."),
    (r"layer3\.", r"conv4."),
    (r"layer4\.", r"conv5."),
)
SENET: Rules = (
    (r"layer0\.conv1\.", r"conv1.0."),
    (r"layer0\.bn1\.", r"conv1.1."),
    (r"layer0\.conv2\.", r"conv1.3."),
    (r"layer0\.bn2\.", r"conv1.4."),
    (r"layer0\.conv3\.", r"conv1.6."),
    (r"layer0\.bn3\.", r"conv1.7."),
    *RESNET[2:],
)
DPN: Rules = (
    (r"features\.conv1_1\.conv\.", r"conv1.0."),
    (r"features\.conv1_1\.bn\.", r"conv1.1."),
    (r"features\.conv2_(\d+)\.", r"conv2.\1."),  # the pool stands at index 0
    *((rf"features\.conv{k}_{b + 1}\.", rf"conv{k}.{b}.") for k in (3, 4, 5) for b in range(20)),
    (r"features\.conv5_bn_ac\.", r"conv5.3."),
)
EFFICIENTNET_PLACES = ("conv1.1", "conv2", "conv3", "conv4.0", "conv4.1", "conv5.0", "conv5.1")
EFFICIENTNET_FIRST: Rules = (
    (r"conv_dw\.", r"depsep.conv."),
    (r"bn1\.", r"depsep.bn."),
    (r"se\.conv_reduce\.", r"se.squeeze."),
    (r"se\.conv_expand\.", r"se.expand."),
    (r"conv_pw\.", r"proj.conv."),
    (r"bn2\.", r"proj.bn."),
)
EFFICIENTNET_OTHER: Rules = (
    (r"conv_pw\.", r"expand.conv."),
    (r"bn1\.", r"expand.bn."),
    (r"conv_dw\.", r"depsep.conv."),
    (r"bn2\.", r"depsep.bn."),
    (r"se\.conv_reduce\.", r"se.squeeze."),
    (r"se\.conv_expand\.", r"se.expand."),
    (r"conv_pwl\.", r"proj.conv."),
    (r"bn3\.", r"proj.bn."),
)
EFFICIENTNET: Rules = (
    (r"conv_stem\.", r"conv1.0.conv."),
    (r"bn1\.", r"conv1.0.bn."),
    *(
        (rf"blocks\.{stage}\.(\d+)\.{ours}", rf"{place}.block\1.{theirs}")
        for stage, place in enumerate(EFFICIENTNET_PLACES)
        for ours, theirs in (EFFICIENTNET_OTHER if stage else EFFICIENTNET_FIRST)
    ),
)
ENCODERS = {
    "resnet34": RESNET,
    "seresnext50": SENET,
    "senet154": SENET,
    "dpn92": DPN,
    "efficientnet_b0": EFFICIENTNET,
    "efficientnet_b0_widese": EFFICIENTNET,
    "efficientnet_b4": EFFICIENTNET,
}
MODULES = (
    "conv6", "conv6_2", "conv7", "conv7_2", "conv8", "conv8_2", "conv9", "conv9_2", "conv10", "res",
    "conv1", "conv2", "conv3", "conv4", "conv5",
)  # fmt: skip
"""The winner's modules in the order in which they are registered: decoder and head before the encoder."""


def xview2_keys(config: Xview2UnetConfig, names: Iterable[str]) -> dict[str, str]:
    """The winner's weight names in their order, each with ours.

    Args:
        config: a network on one of the published encoders.
        names: our weight names, in order.
    """
    rules = (
        *((rf"encoder\.body\.{ours}", theirs) for ours, theirs in ENCODERS[config.encoder_name]),
        *_decoder_rules(config),
        (r"head\.", "res."),
    )
    pairs = [(renamed(name, rules), name) for name in names]
    pairs.sort(key=lambda pair: MODULES.index(pair[0].partition(".")[0]))  # stable within a module
    return dict(pairs)


def metadamagenet_unet_keys(config: Xview2UnetConfig, names: Iterable[str]) -> dict[str, str]:
    """MetaDamageNet's weight names in their order, each with ours; the winner's, with the trunk under `unet`."""
    pairs = xview2_keys(config, names)
    trunk = {f"unet.{key}": name for key, name in pairs.items() if not key.startswith("res.")}
    return trunk | {key: name for key, name in pairs.items() if key.startswith("res.")}


def stored_flat(key: str) -> bool:
    """Whether the original stores this 1x1 convolution as a matrix: NVIDIA's squeeze-and-excitation."""
    return key.endswith((".se.squeeze.weight", ".se.expand.weight"))


def _decoder_rules(config: Xview2UnetConfig) -> Rules:
    gated = config.decoder.scse != "none"
    rules: list[tuple[str, str]] = []
    for step in range(4):
        ours, name = rf"decoder\.steps\.{step}\.", f"conv{6 + step}"
        if config.decoder.norm:
            first, second = f"{name}.conv1", f"{name}.conv2"
        else:
            first, second = name, f"{name}_2"
        rules += [
            (rf"{ours}conv1\.", f"{first}.layer."),
            (rf"{ours}conv2\.", f"{second}.0.layer." if gated else f"{second}.layer."),
            (rf"{ours}scse\.squeeze\.", f"{second}.1.fc1."),
            (rf"{ours}scse\.excite\.", f"{second}.1.fc2."),
            (rf"{ours}scse\.spatial\.", f"{second}.1.spatial_se.0."),
        ]
    return (*rules, (r"decoder\.last\.", "conv10.conv.layer." if config.decoder.norm else "conv10.layer."))


def renamed(name: str, rules: Rules) -> str:
    """The original's name of a weight of ours, by the first rule that it starts with.

    Raises:
        ValueError: no rule is for it.
    """
    for ours, theirs in rules:
        found = re.match(ours, name)
        if found:
            return found.expand(theirs) + name[found.end() :]
    raise ValueError(f"no published name for {name}")
