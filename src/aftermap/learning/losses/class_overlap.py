"""Losses of overlap of all classes together, from the softmax: focal Tversky and Tanimoto.

With `old` > 1 they are unbiased: masks of a later step call the classes of the earlier ones background, and so
background and old classes are one class here, see `incremental.unbiased_log_probabilities`. Masks hold IGNORE where
nothing is known.
"""

import torch
from torch import Tensor

from aftermap.data.loading.targets import channels_of
from aftermap.data.loading.targets import known as known_pixels
from aftermap.learning.losses import region
from aftermap.learning.losses.incremental import merged_mask, unbiased_log_probabilities

_HALF_EPSILON = 2.0**-10
_AXES = (0, 2, 3)


def focal_tversky(
    logits: Tensor,
    mask: Tensor,
    *,
    old: int = 1,
    alpha: float = 0.6,
    beta: float = 0.4,
    gamma: float = 2.0,
    compat_published: bool = False,
) -> Tensor:
    """1 minus the mean Tversky index of the classes, to the power `gamma`.

    Args:
        logits: (B, K, H, W).
        mask: class indices (B, H, W).
        old: channels of the earlier steps, the background included.
        alpha: weight of false alarms.
        beta: weight of misses.
        gamma: above 1, what overlaps well counts for less.
        compat_published: unknown pixels are false alarms of every class, as in MiB-CD; and with `old` > 1 the old
            classes are classes of their own, predicted with certainty everywhere and never wanted.

    Returns:
        Scalar.

    Source: Abraham and Khan 2019, equation 4, with the power outside of the mean over the classes as in MiB-CD.
    """
    log_p, truth, known = _unbiased(logits, mask, old)
    p = log_p.exp()
    if compat_published:
        p, truth = _with_old_classes(p, old, filled=1.0), _with_old_classes(truth, old, filled=0.0)
        losses = region.tversky(p, truth, alpha=alpha, beta=beta, smooth=0.0)
    else:
        losses = region.tversky(p, truth, known, alpha=alpha, beta=beta)
    return losses.mean() ** gamma


def tanimoto(
    logits: Tensor, mask: Tensor, *, old: int = 1, gamma: float = 2.0, compat_published: bool = False
) -> Tensor:
    """1 minus the Tanimoto index (p t) / (p² + t² - p t), to the power `gamma`.

    Rare classes weigh more, see `smoothed_class_weights`.

    Args:
        logits: (B, K, H, W).
        mask: class indices (B, H, W).
        old: channels of the earlier steps, the background included.
        gamma: above 1, what overlaps well counts for less.
        compat_published: the index is taken of each class by itself and averaged, by which the weights cancel;
            unknown pixels are false alarms; and with `old` > 1 the logarithms of the probabilities take their place,
            0 for old classes. As in MiB-CD.

    Returns:
        Scalar; 0 where no pixel is known.

    Source: Diakogiannis et al. 2020, equations 4 to 6.
    """
    p, truth, known = _compared(logits, mask, old, compat_published)
    return _tanimoto(p, truth, known, gamma, 1e-6, compat_published)


def dual_tanimoto(
    logits: Tensor,
    mask: Tensor,
    *,
    old: int = 1,
    share: float = 0.5,
    gamma: float = 1.0,
    compat_published: bool = False,
) -> Tensor:
    """`tanimoto` of the classes and of their complements, `share` of the one and the rest of the other.

    Source: Diakogiannis et al. 2020, equation 8.
    """
    p, truth, known = _compared(logits, mask, old, compat_published)
    of_classes = _tanimoto(p, truth, known, gamma, _HALF_EPSILON, compat_published)
    of_complements = _tanimoto(1 - p, 1 - truth, known, gamma, _HALF_EPSILON, compat_published)
    return share * of_classes + (1 - share) * of_complements


def smoothed_class_weights(
    volumes: Tensor, *, share: float = 0.15, largest: float = 10.0, compat_unsmoothed: bool = False
) -> Tensor:
    """Weights of classes by how much there is of the commonest for each: 1 for that, never above `largest`.

    Args:
        volumes: pixels of every class (K,), or anything in proportion to them.
        share: of the largest volume that is added to all, so that rare classes do not rule.
        largest: no weight is above.
        compat_unsmoothed: divide by the volumes as they were before that addition, as MiB-CD's Tanimoto losses do.

    Returns:
        (K,), floating; all 1 where there is nothing of any class.
    """
    volumes = volumes if volumes.is_floating_point() else volumes.float()
    smoothed = volumes + share * volumes.max()
    weights = smoothed.max() / (volumes if compat_unsmoothed else smoothed)
    return weights.nan_to_num(nan=1.0, posinf=largest).clamp(1.0, largest)


def _tanimoto(
    p: Tensor, truth: Tensor, known: Tensor, gamma: float, smooth: float, compat_published: bool
) -> Tensor:
    if not compat_published:
        p, truth = p * known, truth * known
    weights = smoothed_class_weights(truth.sum((2, 3)).mean(0), compat_unsmoothed=compat_published)
    weights = weights / weights.max()
    both, squares = (p * truth).sum(_AXES), (p.square() + truth.square()).sum(_AXES)
    inside, around = weights * both, weights * (squares - both)
    if not compat_published:
        inside, around = inside.sum(), around.sum()
    index = (inside + smooth) / (around + smooth)
    # rounding may put an index of 1 a little above it
    return (1 - index).mean().clamp(min=0) ** gamma


def _compared(
    logits: Tensor, mask: Tensor, old: int, compat_published: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What is compared with what, (B, K', H, W), and where, (B, 1, H, W)."""
    log_p, truth, known = _unbiased(logits, mask, old)
    if compat_published and old > 1:
        log_p, truth = _with_old_classes(log_p, old, filled=0.0), _with_old_classes(truth, old, filled=0.0)
        return log_p, truth, known[:, None]
    return log_p.exp(), truth, known[:, None]


def _unbiased(logits: Tensor, mask: Tensor, old: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of the probabilities and the truth, (B, 1 + K - old, H, W), and where it is known (B, H, W)."""
    log_p = unbiased_log_probabilities(logits, old)
    merged = merged_mask(mask, old)
    return log_p, channels_of(merged, log_p.shape[1]).to(log_p.dtype), known_pixels(merged)


def _with_old_classes(values: Tensor, old: int, *, filled: float) -> Tensor:
    """Channels of old classes put back behind the background, all of one value."""
    between = values.new_full((len(values), old - 1, *values.shape[2:]), filled)
    return torch.cat([values[:, :1], between, values[:, 1:]], dim=1)
