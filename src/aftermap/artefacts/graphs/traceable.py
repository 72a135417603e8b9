"""Operations whose ONNX form would fix the size of the image, said in others that leave it free."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def adaptive_pool(x: Tensor, cells: int | tuple[int, int]) -> Tensor:
    """Means (B, C, rows, cols) over a grid of cells of (B, C, H, W), as torch's `adaptive_avg_pool2d`.

    Written as a product with each cell's shares of the rows and of the columns.
    """
    rows, cols = (cells, cells) if isinstance(cells, int) else cells
    down, across = _shares(x.shape[-2], rows), _shares(x.shape[-1], cols)
    return down.to(x) @ x @ across.to(x).T


def _shares(length: int, cells: int) -> Tensor:
    """(cells, length): 1 / (pixels of the cell) inside each cell; cells overlap where the length does not divide."""
    number = torch.arange(cells)[:, None]
    start, stop = number * length // cells, ((number + 1) * length + cells - 1) // cells
    position = torch.arange(length)[None]
    return ((position >= start) & (position < stop)) / (stop - start)


@contextmanager
def free_sizes() -> Iterator[None]:
    """Put such operations in place of torch's own while a model is written, and torch's back afterwards."""
    original = functional.adaptive_avg_pool2d

    def chosen(x: Tensor, output_size: Any) -> Tensor:
        size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        if None in size or set(size) == {1}:  # the mean of everything has a form of its own
            return original(x, output_size)
        return adaptive_pool(x, size)

    functional.adaptive_avg_pool2d = chosen  # type: ignore[assignment]  # modules, and resizing by area, look it up there
    try:
        yield
    finally:
        functional.adaptive_avg_pool2d = original
