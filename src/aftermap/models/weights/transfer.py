"""Weight transfer: a siamese model grown from a single-date one, a folded student from its teacher."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aftermap.errors import ModelError
from aftermap.models.networks.dense import DenseModel


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What became of every weight of the target.

    Attributes:
        copied: names taken from the source.
        kept: names that the source does not have (the target's own start).
        reshaped: names that differ in shape (the head, mostly) and were kept too.
        unused: names of the source that found no place.
    """

    copied: tuple[str, ...]
    kept: tuple[str, ...]
    reshaped: tuple[str, ...]
    unused: tuple[str, ...]


def transfer_trunk(source: DenseModel, target: DenseModel) -> TransferReport:
    """Copy every weight whose name and shape agree from `source` to `target`; heads that differ stay.

    Where the target folds blocks of pixels into channels and the source does not, the source's first convolution is
    spread over them: the target starts as the source that looks at an image as much smaller.

    Raises:
        ModelError: the encoders are not the same, or the decoders where the model's trunk has one.
    """
    have, want = source.state_dict(), target.state_dict()
    fold = getattr(getattr(target, "encoder", None), "fold", 1)
    if fold > getattr(getattr(source, "encoder", None), "fold", 1) == 1:
        have = {
            n: _folded(w, fold) if n in want and _is_folded(w, want[n], fold) else w for n, w in have.items()
        }
    fits = {n for n, w in want.items() if n in have and have[n].shape == w.shape}
    copied = tuple(n for n in want if n in fits)
    reshaped = tuple(n for n, w in want.items() if n in have and have[n].shape != w.shape)
    for part in target.trunk:
        strange = [n for n in want.keys() | have.keys() if n.startswith(part) and n not in fits]
        if strange:
            raise ModelError(
                f"the localization model has another {part.rstrip('.')}: {len(strange)} weights do not fit "
                f"({min(strange)}): start from one whose model has the same {part.rstrip('.')} settings"
            )
    with torch.no_grad():
        for name in copied:
            want[name].copy_(have[name])
    return TransferReport(
        copied,
        tuple(n for n in want if n not in have),
        reshaped,
        tuple(n for n in have if n not in want),
    )


def _is_folded(weight: Tensor, wanted: Tensor, fold: int) -> bool:
    """Whether a convolution's weight would fit once its input channels are those of folded images."""
    shape = tuple(weight.shape)
    return len(shape) == 4 and tuple(wanted.shape) == (shape[0], shape[1] * fold**2, *shape[2:])


def _folded(weight: Tensor, fold: int) -> Tensor:
    """Weight (O, C, h, w) for images whose blocks are folded into channels: it sees the mean of each block."""
    return weight.repeat(1, fold**2, 1, 1) / fold**2
