"""What NumPy and PyTorch call differently of the arithmetic of probabilities, by one name for arrays of both.

Graphs give NumPy's arrays and are read without PyTorch; a model that PyTorch runs keeps its tensors, on their device.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

A = TypeVar("A", np.ndarray, "Tensor")

_LEAST = float(np.finfo(np.float32).tiny)  # what is divided by less may be infinite


def float32(x: A) -> A:
    """In float32, itself where it is that."""
    if isinstance(x, np.ndarray):
        return x.astype(np.float32, copy=False)
    return x.float()


def float64(x: A) -> A:
    """In float64."""
    return x.astype(np.float64) if isinstance(x, np.ndarray) else x.double()


def copied(x: A) -> A:
    """In float32 and in memory of its own."""
    if isinstance(x, np.ndarray):
        return x.astype(np.float32)
    import torch

    return x.to(torch.float32, copy=True)


def filled(x: A, where: A, values: A) -> A:
    """`x` with other values, cut to its type, where a mask of bool holds; all are broadcast."""
    if isinstance(x, np.ndarray):
        return np.where(where, np.asarray(values).astype(x.dtype), x)
    import torch

    return torch.where(where, values.to(x.dtype), x)


def blank(x: A, where: A) -> None:
    """Put zeros into `x` where a mask of bool, which may be broadcast to it, holds."""
    if isinstance(x, np.ndarray):
        np.copyto(x, 0, where=where)
    else:
        x.masked_fill_(where, 0)


def softmax(logits: A) -> A:
    """Softmax of float32 logits (B, K, H, W) over K, in memory of its own."""
    if isinstance(logits, np.ndarray):
        shares: np.ndarray = logits - logits.max(axis=1, keepdims=True)
        np.exp(shares, out=shares)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares
    return logits.softmax(dim=1)


def sigmoid(logits: A) -> A:
    """1 / (1 + exp(-x)) of float32 logits."""
    if isinstance(logits, np.ndarray):
        with np.errstate(over="ignore"):  # of the exponential, where the result is 0
            likely: np.ndarray = 1 / (1 + np.exp(-logits))
        return likely
    return logits.sigmoid()


def joined(parts: Sequence[A]) -> A:
    """Arrays (B, C, H, W) with their channels behind each other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts, axis=1)
    import torch

    return torch.cat(list(parts), dim=1)


def total_of(parts: A) -> A:
    """Sum (B, 1, H, W) of arrays (B, C, H, W) over their channels."""
    if isinstance(parts, np.ndarray):
        total: np.ndarray = parts.sum(axis=1, keepdims=True)
        return total
    return parts.sum(dim=1, keepdim=True)


def within_unit(x: A) -> A:
    """Values cut to 0 and 1."""
    return x.clip(0, 1) if isinstance(x, np.ndarray) else x.clamp(0, 1)


def shared_out(whole: A, parts: A) -> A:
    """`whole` (B, 1, H, W) shared out in the ratios of `parts` (B, C, H, W); evenly where they are all (all but) 0."""
    total = total_of(parts)
    even = whole / parts.shape[1]
    if isinstance(parts, np.ndarray):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            shares: np.ndarray = np.where(total > _LEAST, parts * (whole / total), even)
        return shares
    import torch

    return torch.where(total > _LEAST, parts * (whole / total), even)


def bytes_of(x: A) -> A:
    """Values from 0 to below 256 as uint8, cut and not rounded."""
    if isinstance(x, np.ndarray):
        return x.astype(np.uint8)
    import torch

    return x.to(torch.uint8)


def as_numpy(x: A) -> np.ndarray:
    """As an array in memory, without a copy where it is one."""
    return x if isinstance(x, np.ndarray) else x.cpu().numpy()


def as_kind_of(array: np.ndarray, other: A) -> A:
    """An array of NumPy as what `other` is, on its device."""
    if isinstance(other, np.ndarray):
        return array
    import torch

    return torch.from_numpy(array).to(other.device)


def alike(*arrays: Any) -> tuple[Any, ...]:
    """Arrays that can be added: themselves where they are of one kind, else NumPy's."""
    return arrays if len({type(x) for x in arrays}) == 1 else tuple(as_numpy(x) for x in arrays)
