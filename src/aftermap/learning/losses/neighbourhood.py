"""Two losses of PLOP's comparisons: neighbourhood components, and distillation with excluded classes."""

from typing import Literal

import torch
from torch import Tensor

from aftermap.classes import IGNORE
from aftermap.learning.losses.pixel import widened


def nca(
    logits: Tensor,
    mask: Tensor,
    old: int = 1,
    *,
    scale: float = 1.0,
    margin: float = 0.0,
    hinge: bool = False,
) -> Tensor:
    """-log of exp(true class) over the sum of exp of all others; below 0 where the true class leads.

    Args:
        logits: (B, K, H, W).
        mask: class indices (B, H, W); all below `old` are background, which then is any old class.
        old: channels of the earlier steps, the background included.
        scale: factor of the logits.
        margin: taken off the true class's logit, before the factor.
        hinge: no pixel counts less than 0.

    Returns:
        Mean over the known pixels, 0 where there are none.

    Source: Goldberger et al. 2005, and Wang et al. 2018 for the margin, as meant by PLOP's released code, which stops
    with an error at masks.
    """
    known = mask != IGNORE
    logits = scale * widened(logits)
    kinds = torch.arange(logits.shape[1], device=mask.device)[None, :, None, None]
    safe = torch.where(known, mask, 0)[:, None]
    own = torch.where(safe < old, kinds < old, kinds == safe)  # (B, K, H, W)
    true = torch.logsumexp(logits.masked_fill(~own, -torch.inf), dim=1) - scale * margin
    loss = torch.logsumexp(logits.masked_fill(own, -torch.inf), dim=1) - true
    loss = (loss.clamp(min=0) if hinge else loss).where(known, 0.0)
    return loss.sum() / known.sum().clamp(min=1)


def excluded_distillation(
    logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor,
    *,
    new: Literal["labelled", "sum"] = "labelled",
    compat_published: bool = False,
) -> Tensor:
    """Cross-entropy with the teacher, whose background is the new class where one is labelled, and itself elsewhere.

    There are as many places as old channels and one for new classes. Where a new class is labelled, the teacher's
    background goes to that place and nothing to the student's background; elsewhere nothing goes to that place.

    Args:
        logits: (B, K, H, W) of the student.
        teacher_logits: (B, old, H, W), into which nothing flows.
        mask: class indices (B, H, W).
        new: what the student has in that place: the labelled class, or all new ones.
        compat_published: nothing is a logit of 0, the labelled class is the background where that is labelled, the logits
            of new classes are added up, and with `sum` the teacher's background is left out where a new one is labelled.

    Returns:
        Mean over all pixels, unknown ones counting 0.

    Source: PLOP's released code.
    """
    old = teacher_logits.shape[1]
    ours, theirs = widened(logits), widened(teacher_logits.detach())
    is_new = (mask >= old) & (mask != IGNORE)
    is_old = mask < old
    labelled = ours.gather(1, torch.where(mask == IGNORE, 0, mask)[:, None])
    nothing = torch.zeros_like(labelled)
    if compat_published:
        place = labelled if new == "labelled" else ours[:, old:].sum(dim=1, keepdim=True)
        student = torch.log_softmax(torch.cat([ours[:, :old], place], dim=1), dim=1)
        given = theirs[:, :1] if new == "labelled" else nothing
        where_new = torch.softmax(torch.cat([nothing, theirs[:, 1:], given], dim=1), dim=1)
        where_old = torch.softmax(torch.cat([theirs, nothing], dim=1), dim=1)
    else:
        together = torch.logsumexp(ours[:, old:], dim=1, keepdim=True)
        place = torch.where(is_new[:, None], labelled, together) if new == "labelled" else together
        student = torch.log_softmax(torch.cat([ours[:, :old], place], dim=1), dim=1)
        p = torch.softmax(theirs, dim=1)
        where_new = torch.cat([nothing, p[:, 1:], p[:, :1]], dim=1)
        where_old = torch.cat([p, nothing], dim=1)
    loss = is_new * -(student * where_new).sum(dim=1) + is_old * -(student * where_old).sum(dim=1)
    return loss.mean()
