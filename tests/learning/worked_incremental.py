"""The worked example of the incremental losses: logits of student and teacher and a mask, by formulas."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

F64 = torch.float64
MASK = torch.tensor([[[0, 3, 4], [1, 255, 2]], [[4, 0, 3], [255, 2, 0]]])
OLD = 3


def wave(
    curve: Callable[[Tensor], Tensor],
    amplitude: float,
    phase: float,
    steps: tuple[float, ...],
    shape: tuple[int, ...],
) -> Tensor:
    """amplitude * curve(phase + steps . index), float64 of `shape`."""
    places = torch.meshgrid(*[torch.arange(n, dtype=F64) for n in shape], indexing="ij")
    return amplitude * curve(phase + sum(s * x for s, x in zip(steps, places, strict=True)))


def student_logits(height: int = 2, width: int = 3) -> Tensor:
    return wave(torch.sin, 2, 1, (0.7, 1.3, 0.9, 0.4), (2, 5, height, width)).requires_grad_()


def teacher_logits(height: int = 2, width: int = 3) -> Tensor:
    return wave(torch.cos, 1.5, 0.5, (0.3, 1.1, 0.6, 0.8), (2, 3, height, width))


def one_hot(mask: Tensor, classes: int = 5) -> Tensor:
    """Channels (B, K, H, W) of a mask, all 0 where it is 255."""
    return F.one_hot(mask.clamp(max=classes), classes + 1)[..., :classes].permute(0, 3, 1, 2).to(F64)
