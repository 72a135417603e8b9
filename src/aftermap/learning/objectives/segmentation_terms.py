"""What a step that adds classes learns from its labels: what each term is worth on a batch."""

from typing import assert_never

from torch import Tensor

from aftermap.learning.configs.segmentation import (
    ComboSegmentation,
    DualTanimotoSegmentation,
    FocalSegmentation,
    NcaSegmentation,
    SegmentationConfig,
    SegmentationTerm,
    TanimotoSegmentation,
    TverskySegmentation,
)
from aftermap.learning.losses.class_overlap import dual_tanimoto, focal_tversky, tanimoto
from aftermap.learning.losses.incremental import icarl_cross_entropy, unbiased_cross_entropy, unbiased_focal
from aftermap.learning.losses.neighbourhood import nca


def segmentation_value(
    term: SegmentationTerm, logits: Tensor, mask: Tensor, old: int, class_weights: Tensor | None
) -> Tensor:
    """Value of the term, without its weight.

    Args:
        term: which.
        logits: (B, K, H, W).
        mask: class indices (B, H, W).
        old: channels of the model before the step, the background included; 1 at the first step.
        class_weights: the term's, (K,), on the device of the logits.
    """
    if isinstance(term, SegmentationConfig):
        if term.loss == "binary-cross-entropy":
            return icarl_cross_entropy(logits, mask, compat_mean_over_all=term.compat_mean_over_all)
        return unbiased_cross_entropy(
            logits,
            mask,
            old if term.loss == "unbiased-cross-entropy" else 1,
            weights=class_weights,
            known_old=True,
            compat_mean_over_all=term.compat_mean_over_all,
        )
    merged = old if term.unbiased else 1
    match term:
        case FocalSegmentation():
            return unbiased_focal(
                logits,
                mask,
                merged,
                gamma=term.gamma,
                alpha=term.alpha,
                weights=class_weights,
                compat_mean_over_all=term.compat_mean_over_all,
            )
        case TverskySegmentation():
            return focal_tversky(
                logits,
                mask,
                old=merged,
                alpha=term.alpha,
                beta=term.beta,
                gamma=term.gamma,
                compat_published=term.compat_published,
            )
        case ComboSegmentation():
            pixels = unbiased_cross_entropy(logits, mask, merged, weights=class_weights, known_old=True)
            overlap = focal_tversky(
                logits,
                mask,
                old=merged,
                alpha=term.alpha,
                beta=term.beta,
                gamma=term.gamma,
                compat_published=term.compat_published,
            )
            return term.share * pixels + (1 - term.share) * overlap
        case NcaSegmentation():
            return nca(logits, mask, merged, scale=term.scale, margin=term.margin, hinge=term.hinge)
        case TanimotoSegmentation():
            return tanimoto(
                logits, mask, old=merged, gamma=term.gamma, compat_published=term.compat_published
            )
        case DualTanimotoSegmentation():
            return dual_tanimoto(
                logits,
                mask,
                old=merged,
                share=term.share,
                gamma=term.gamma,
                compat_published=term.compat_published,
            )
        case _:
            assert_never(term)
