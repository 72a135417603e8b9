"""Weight names of the Open Cities network: efficientnet-pytorch's for the encoder, its own for the rest."""

import re
from collections.abc import Iterable

from aftermap.models.configs import FpnEfficientnetConfig
from aftermap.models.weights.published_keys import Rules, renamed

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
