"""Checkpoints as the published systems would have written them, with weights that follow from their names alone."""

import zlib

import numpy as np
import torch

from aftermap.models.weights.published import original_shapes


def golden_winner(name):
    """The fill of the winner's parity values: a hash of key and position, scaled by the kind of tensor."""
    return {key: _hashed(key, shape) for key, shape in original_shapes(name).items()}


def golden_meta(name):
    """The fill of MetaDamageNet's parity values: normal numbers seeded by the key."""
    return {key: _seeded(key, shape) for key, shape in original_shapes(name).items()}


def as_the_winner_saved(state, *, prefix=False, epoch=12, best_score=0.8125):
    """The dictionary that the winner and the distilled students gave to torch.save."""
    named = {("module." if prefix else "") + key: value for key, value in state.items()}
    return {"epoch": epoch, "state_dict": named, "best_score": np.float64(best_score)}


def winner_image(channels):
    """uint8 (1, channels, 64, 64) of the parity values."""
    c, h, w = np.ogrid[:channels, :64, :64]
    return ((7 * h + 3 * w + 11 * c + 5 * ((h * w) % 13)) % 256).astype(np.uint8)[None]


def meta_image():
    """float32 (1, 6, 64, 64) of the parity values."""
    return torch.sin(0.01 * torch.arange(6 * 64 * 64, dtype=torch.float32)).reshape(1, 6, 64, 64)


def winner_values(key, count):
    """The hash of a key at positions 0 to count - 1, as numbers in [-1, 1)."""
    h = (np.arange(count, dtype=np.uint64) * 2654435761 + zlib.crc32(key.encode())).astype(np.uint32)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(2246822519)
    h = h ^ (h >> np.uint32(13))
    return h / 2.0**31 - 1


def _hashed(key, shape):
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    v = winner_values(key, int(np.prod(shape)))
    if key.endswith("running_var"):
        v = 1 + 0.25 * v
    elif key.endswith("running_mean"):
        v = 0.1 * v
    elif key.endswith("bias"):
        v = 0.05 * v
    elif len(shape) == 1:
        v = 0.8 + 0.1 * v
    else:
        v = v * np.sqrt(4 / np.prod(shape[1:]))
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def _seeded(key, shape):
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    count = int(np.prod(shape))
    r = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF).standard_normal(count)
    if len(shape) in (2, 4):
        r = r * np.sqrt(shape[0] / count)
    elif key.endswith("running_mean"):
        r = 0.1 * r
    elif key.endswith("running_var"):
        r = 1 + 0.1 * np.abs(r)
    elif key.endswith("weight"):
        r = 1 + 0.1 * r
    else:
        r = 0.1 * r
    return torch.from_numpy(r.astype(np.float32).reshape(shape))
