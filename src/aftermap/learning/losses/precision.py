"""Losses are computed in 32 bits at least: sums over an image overflow 16, and 1 - 1e-6 rounds to 1 there."""

import torch
from torch import Tensor


def widened(values: Tensor) -> Tensor:
    """`values` in 32 bits, or as they are where they have more."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
