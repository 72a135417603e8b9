"""Networks without the random weights that a file is about to replace."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FILLS = {
    *(torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.bernoulli_, torch.Tensor.random_),
    *(torch.nn.init.normal_, torch.nn.init.uniform_, torch.nn.init.trunc_normal_),
    *(torch.nn.init.kaiming_normal_, torch.nn.init.kaiming_uniform_),
}


class Undrawn(TorchFunctionMode):
    """Within it nothing is filled at random: tensors keep what lay in memory, and no random number is used up.

    For networks whose every parameter is read from a file afterwards.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Give the tensor back where it would have been filled; all else is done."""
        if func in _FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
