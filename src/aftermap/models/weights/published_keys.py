"""Weight names of the published U-Nets: the winner's, its distilled students' and MetaDamageNet's."""

import re
from collections.abc import Iterable

from aftermap.models.configs import FpnEfficientnetConfig, Xview2UnetConfig
from aftermap.models.configs.networks import REDUCTIONS, SIZES, MitSize

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


def segformer_keys(size: MitSize = SIZES["mit_b0"]) -> dict[str, str]:
    """Names in the published checkpoints (`segformer.encoder.*`, `decode_head.*`), and what they are called here.

    In the original order, and the same for one date and for two. Source: Hugging Face transformers 4.20.1.
    """
    theirs, levels = "segformer.encoder", range(len(size.depths))
    modules: dict[str, str] = {}
    for i in levels:
        modules[f"{theirs}.patch_embeddings.{i}.proj"] = f"encoder.stages.{i}.patches"
        modules[f"{theirs}.patch_embeddings.{i}.layer_norm"] = f"encoder.stages.{i}.patch_norm"
    for i in levels:
        for j in range(size.depths[i]):
            for key, ours in _BLOCK.items():
                if REDUCTIONS[i] > 1 or not ours.startswith("attention.reduce"):
                    modules[f"{theirs}.block.{i}.{j}.{key}"] = f"encoder.stages.{i}.blocks.{j}.{ours}"
    modules |= {f"{theirs}.layer_norm.{i}": f"encoder.stages.{i}.norm" for i in levels}
    modules |= {f"decode_head.linear_c.{i}.proj": f"decoder.projections.{i}" for i in levels}
    keys = {f"{a}.{leaf}": f"{b}.{leaf}" for a, b in modules.items() for leaf in ("weight", "bias")}
    keys["decode_head.linear_fuse.weight"] = "decoder.fuse.weight"
    for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        keys[f"decode_head.batch_norm.{leaf}"] = f"decoder.norm.{leaf}"
    return keys | {f"decode_head.classifier.{leaf}": f"head.{leaf}" for leaf in ("weight", "bias")}


_BLOCK = {
    "layer_norm_1": "norm1",
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.self.sr": "attention.reduce",
    "attention.self.layer_norm": "attention.reduce_norm",
    "attention.output.dense": "attention.output",
    "layer_norm_2": "norm2",
    "mlp.dense1": "expand",
    "mlp.dwconv.dwconv": "depthwise",
    "mlp.dense2": "contract",
}


_TRANSFORMERS_5 = (
    (r"encoder\.patch_embeddings\.(\d+)\.", r"stages.\1.patch_embeddings."),
    (r"encoder\.block\.(\d+)\.", r"stages.\1.blocks."),
    (r"encoder\.layer_norm\.(\d+)\.", r"stages.\1.layer_norm."),
    (r"attention\.self\.(query|key|value)\.", lambda m: f"attention.{m[1][0]}_proj."),
    (r"attention\.self\.sr\.", "attention.sequence_reduction.sequence_reduction."),
    (r"attention\.self\.layer_norm\.", "attention.sequence_reduction.layer_norm."),
    (r"attention\.output\.dense\.", "attention.o_proj."),
    (r"mlp\.dense([12])\.", r"mlp.fc\1."),
    (r"\.layer_norm_1\.", ".layernorm_before."),
    (r"\.layer_norm_2\.", ".layernorm_after."),
    (r"decode_head\.linear_c\.", "decode_head.linear_projections."),
)


def transformers_5_name(key: str) -> str:
    """What a weight of `segformer_keys` is called in the state of a model that transformers 5 has built.

    Its own files keep the names of version 4; those of `torch.save(model.state_dict())` have these. Source: Hugging Face
    transformers 5.24.0.
    """
    for before, after in _TRANSFORMERS_5:
        key = re.sub(before, after, key)
    return key


FIRST_BLOCK: Rules = (
    (r"conv_dw\.", "_depthwise_conv."),
    (r"bn1\.", "_bn1."),
    (r"se\.conv_reduce\.", "_se_reduce."),
    (r"se\.conv_expand\.", "_se_expand."),
    (r"conv_pw\.", "_project_conv."),
    (r"bn2\.", "_bn2."),
)
"""Blocks of the first stage, which do not expand."""

BLOCK: Rules = (
    (r"conv_pw\.", "_expand_conv."),
    (r"bn1\.", "_bn0."),
    (r"conv_dw\.", "_depthwise_conv."),
    (r"bn2\.", "_bn1."),
    (r"se\.conv_reduce\.", "_se_reduce."),
    (r"se\.conv_expand\.", "_se_expand."),
    (r"conv_pwl\.", "_project_conv."),
    (r"bn3\.", "_bn2."),
)

CONTEXT: Rules = (
    (r"attention\.", "conv_mask."),
    (r"reduce\.", "channel_add_conv.0."),
    (r"norm\.", "channel_add_conv.1."),
    (r"expand\.", "channel_add_conv.3."),
)

REST: Rules = (
    (r"encoder\.body\.conv_stem\.", "_conv_stem."),
    (r"encoder\.body\.bn1\.", "_bn0."),
    (r"encoder\.body\.conv_head\.", "_conv_head."),
    (r"encoder\.body\.bn2\.", "_bn1."),
    (r"pyramid\.laterals\.(\d)\.", r"lateral\1."),
    (r"pyramid\.tops\.0\.(\d)\.0\.", r"top1.\1.conv."),
    (r"pyramid\.tops\.0\.(\d)\.1\.", r"top1.\1.gn."),
    (r"pyramid\.tops\.1\.0\.", "top2.0.conv."),
    (r"pyramid\.tops\.1\.1\.", "top2.0.gn."),
    (r"pyramid\.tops\.2\.", "top3.0."),
    *((rf"neck\.context\.{ours}", f"ctx.{theirs}") for ours, theirs in CONTEXT),
    *((rf"neck\.second_context\.{ours}", f"top4.0.{theirs}") for ours, theirs in CONTEXT),
    (r"neck\.aspp\.point\.", "aspp.atrous0."),
    *((rf"neck\.aspp\.atrous\.{i}\.", f"aspp.atrous{i + 1}.module.") for i in range(3)),
    (r"neck\.aspp\.whole\.0\.", "aspp.atrous4.module.1."),  # the pool stands at index 0
    (r"neck\.aspp\.whole\.1\.", "aspp.atrous4.module.2."),
    (r"neck\.aspp\.combine\.", "aspp.combine."),
    (r"neck\.attention\.", "conv_att."),
    (r"head\.", "bce_logit."),
    (r"dice_head\.", "dice."),
    (r"presence_head\.", "_fc."),
    (r"scale_head\.", "_fc2."),
)


def opencities_keys(config: FpnEfficientnetConfig, names: Iterable[str]) -> dict[str, str]:
    """The original's weight names, each with ours, in the order of ours.

    Args:
        config: which network.
        names: our weight names, in order.
    """
    names = list(names)
    place = int(
        config.compat_second_context
    )  # of the 3x3 convolution in `top4`, behind a second context block
    rules = (
        *_block_rules(names),
        (r"neck\.conv\.", f"top4.{place}."),
        (r"neck\.norm\.", f"top4.{place + 1}."),
        *REST,
    )
    return {renamed(name, rules): name for name in names}


def _block_rules(names: Iterable[str]) -> Rules:
    """Blocks counted through, where timm counts them by stage."""
    found = (re.match(r"encoder\.body\.blocks\.(\d+)\.(\d+)\.", name) for name in names)
    blocks = sorted({(int(match[1]), int(match[2])) for match in found if match})
    return tuple(
        (rf"encoder\.body\.blocks\.{stage}\.{block}\.{ours}", f"_blocks.{number}.{theirs}")
        for number, (stage, block) in enumerate(blocks)
        for ours, theirs in (BLOCK if stage else FIRST_BLOCK)
    )
