"""What can be asked of a network that sees one date of two: classes that one image does not tell apart count as one."""

import torch
from torch import Tensor

from aftermap.data.loading.date_dropout import POST_ONLY, PRE_ONLY

GROUPS = {POST_ONLY: slice(1, 4), PRE_ONLY: slice(1, 5)}
"""Channels that count as one: the degrees short of destroyed after the disaster, all of them before it."""

_NOTHING = 50.0  # logits so far below the group's leave a probability of 2e-22


def merged(logits: Tensor, index: Tensor, dates: Tensor) -> Tensor:
    """Logits from which any loss learns the sum of a group's probabilities and nothing about its members.

    Where the true class is in the group, it has the probability of the whole group and the others have none. Elsewhere
    the members keep their probabilities, and no gradient goes into how these are shared out.

    Args:
        logits: (B, 5, H, W), of a softmax.
        index: true class (B, H, W).
        dates: what each sample shows (B,), see `data.loading.date_dropout`.

    Returns:
        (B, 5, H, W); the same where a sample shows both dates.
    """
    result = logits.clone()
    for shown, group in GROUPS.items():
        samples = (dates == shown).nonzero()[:, 0]
        if not len(samples):
            continue
        members = logits[samples, group]  # (N, m, H, W)
        whole = torch.logsumexp(members, dim=1, keepdim=True)
        shared = whole + (members - whole).detach()
        classes = torch.arange(group.start, group.stop, device=logits.device).reshape(1, -1, 1, 1)
        true = index[samples, None] == classes
        gathered = torch.where(true, whole, whole.detach() - _NOTHING)
        result[samples, group] = torch.where(true.any(dim=1, keepdim=True), gathered, shared)
    return result
