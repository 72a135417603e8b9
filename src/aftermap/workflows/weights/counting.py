"""How large the listed architectures are: parameters, and multiply-accumulates of an image or a pair."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from aftermap.models.build import build_model, without_weights
from aftermap.models.configs import AnyModelConfig
from aftermap.models.networks.dense import count_parameters
from aftermap.workflows.weights.catalogue import COUNTS, SIZE_PX, listed_models


@dataclass(frozen=True, slots=True)
class Measured:
    """A network's size.

    Attributes:
        features: parameters without the head.
        total: all parameters.
        gmacs: multiply-accumulates in 1e9 of one image or pair of `SIZE_PX`.
    """

    features: int
    total: int
    gmacs: float


def count_listed() -> dict[str, dict[str, dict[str, Any] | None]]:
    """The sizes of every listed architecture, by name and use; None where a use does not exist."""
    counts: dict[str, dict[str, dict[str, Any] | None]] = {}
    for listed in listed_models():
        uses = {"localization": listed.localization, "damage": listed.damage}
        sizes = {use: asdict(measure(config)) if config else None for use, config in uses.items()}
        counts[listed.name] = {
            use: size and size | {"gmacs": round(size["gmacs"], 2)} for use, size in sizes.items()
        }
    return counts


def measure(config: AnyModelConfig, *, size_px: int = SIZE_PX) -> Measured:
    """Count parameters and multiply-accumulates without weights, memory or arithmetic, on torch's meta device."""
    with torch.device("meta"), _NoRandomness():
        model: Any = build_model(without_weights(config)).eval()
    total = count_parameters(model)
    head = count_parameters(model.head) if hasattr(model, "head") else 0
    _drop_normalisation(model)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        bands = getattr(config, "in_channels", 3)
        model(torch.empty(1, model.dates, bands, size_px, size_px, device="meta"))
    # torch counts a multiplication and an addition as two
    return Measured(total - head, total, counter.get_total_flops() / 2e9)


class _NoRandomness(TorchFunctionMode):
    """Weights that are not there need no start: filling them on the meta device takes most of the building."""

    skipped = frozenset(
        {Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_, Tensor.erfinv_, Tensor.clamp_}
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in self.skipped else func(*args, **(kwargs or {}))


def _drop_normalisation(model: nn.Module) -> None:
    """Take batch normalisation out: nothing of it is counted, and on the meta device it takes half of the time."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())


if __name__ == "__main__":
    COUNTS.write_text(json.dumps(count_listed(), indent=1) + "\n")
