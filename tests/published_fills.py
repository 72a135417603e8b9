"""Reproducible weights for the published networks, a function of each weight's original name alone."""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from aftermap.models.build import build_model
from aftermap.models.networks.dense import DenseModel
from aftermap.models.weights.published import PUBLISHED, original_shapes, to_ours

Shapes = Mapping[str, tuple[int, ...]]


def hashed_values(key: str, count: int) -> np.ndarray:
    """`count` values in [-1, 1) from an integer hash of position and name (float64)."""
    h = np.arange(count, dtype=np.uint32)
    h *= np.uint32(2654435761)
    h += np.uint32(zlib.crc32(key.encode()))
    h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    return h / 2.0**31 - 1.0


def winner_fill(shapes: Shapes) -> dict[str, Tensor]:
    """Weights of the winner's parity check (xview2-kd P10), float64."""
    return {key: _winner_weight(key, shape) for key, shape in shapes.items()}


def _winner_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    v = hashed_values(key, int(np.prod(shape))).reshape(shape)
    if key.endswith("running_var"):
        v = 1 + 0.25 * v
    elif key.endswith("running_mean"):
        v = 0.1 * v
    elif len(shape) == 4:
        v *= np.sqrt(4 / np.prod(shape[1:]))
    elif key.endswith("weight"):
        v = 0.8 + 0.1 * v
    else:
        v = 0.05 * v
    return torch.from_numpy(v)


def golden_fill(shapes: Shapes) -> dict[str, Tensor]:
    """Weights of MetaDamageNet's parity checks (section 14), float32."""
    return {key: _golden_weight(key, shape) for key, shape in shapes.items()}


def _golden_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    count = int(np.prod(shape))
    random = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    r = torch.from_numpy(random.standard_normal(count).astype(np.float32)).reshape(shape)
    if len(shape) in (2, 4):
        return r * (shape[0] / count) ** 0.5
    if key.endswith("running_mean"):
        return 0.1 * r
    if key.endswith("running_var"):
        return 1 + 0.1 * r.abs()
    return 1 + 0.1 * r if key.endswith("weight") else 0.1 * r


def published_model(name: str, original: Mapping[str, Tensor]) -> DenseModel:
    """The network in evaluation mode with weights given by original name; no random start is drawn."""
    with torch.device("meta"):
        model = build_model(PUBLISHED[name].config)
    model.load_state_dict(to_ours(name, original), assign=True)
    return model.eval()


def fill_pair(stem: str, fill) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the localization and the damage network of one family; they share all but the head."""
    damage = fill(original_shapes(f"{stem}-damage"))
    heads = {k: s for k, s in original_shapes(f"{stem}-localization").items() if k.startswith("res.")}
    return damage | fill(heads), damage


def winner_input(dates: int) -> Tensor:
    """Normalised images (1, dates, 3, 64, 64) of the winner's parity checks, float64."""
    c, h, w = np.ogrid[: 3 * dates, :64, :64]
    image = (7 * h + 3 * w + 11 * c + 5 * ((h * w) % 13)) % 256
    return torch.from_numpy(image / 127 - 1).reshape(1, dates, 3, 64, 64)


def golden_input() -> Tensor:
    """Normalised images (1, 2, 3, 64, 64) of MetaDamageNet's parity checks, float32."""
    return torch.sin(0.01 * torch.arange(6 * 64 * 64, dtype=torch.float32)).reshape(1, 2, 3, 64, 64)


def filled(module: nn.Module, renamed: Mapping[str, str], fill) -> nn.Module:
    """The module in evaluation mode, each weight filled by its original name; `renamed` maps theirs to ours."""
    state = module.state_dict()
    values = fill({key: tuple(state[ours].shape) for key, ours in renamed.items()})
    module.load_state_dict({renamed[key]: value for key, value in values.items()})
    return module.eval()
