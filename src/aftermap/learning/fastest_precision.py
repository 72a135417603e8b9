"""Which arithmetic a model trains fastest in on this machine: measured by two steps of each, remembered.

bf16 is faster where the processor multiplies it and the network multiplies much: a U-Net on ResNet-18 takes 0.45 times as
long on one thread, one with the depthwise convolutions of an EfficientNet Lite 0.8 times, and more on others.
"""

import copy
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch

from aftermap.files.choices import digest, processor, recall, remember
from aftermap.heap import keeping
from aftermap.models.networks.dense import DenseModel

_LEAST_PIXELS = 1 << 18
"""Of a step's images; smaller steps go by the rule, as they are over before they are measured."""

_STEPS = 2


def usual_precision() -> Literal["no", "bf16"]:
    """bf16 where the hardware multiplies it natively; elsewhere it would only be slower."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return "bf16" if check is not None and check() else "no"


def fastest_precision(
    model: DenseModel, *, bands: int, crop_px: int, batch_size: int, described: Any
) -> Literal["no", "bf16"]:
    """What `precision: auto` stands for: a measure on a processor that has bf16, else `usual_precision`.

    Args:
        model: what is going to learn; it is left as it is.
        bands: of its images.
        crop_px: their side.
        batch_size: how many places there are in a batch.
        described: what the model is, as JSON: one that was measured is not measured again.
    """
    usual = usual_precision()
    if usual == "no" or torch.cuda.is_available() or batch_size * crop_px**2 < _LEAST_PIXELS:
        return usual
    machine = [processor(), os.cpu_count(), torch.get_num_threads(), torch.__version__]
    key = digest("precision, memory kept", machine, described, bands, crop_px, batch_size)
    kept: Any = (recall(key) or {}).get("precision")
    if kept in ("no", "bf16"):
        return "bf16" if kept == "bf16" else "no"
    seconds = measure(model, (batch_size, model.dates, bands, crop_px, crop_px))
    fastest: Literal["no", "bf16"] = "bf16" if seconds["bf16"] < seconds["no"] else "no"
    remember(key, {"precision": fastest, "seconds": seconds})
    return fastest


def measure(model: DenseModel, shape: Sequence[int]) -> dict[str, float]:
    """Seconds of a forward and a backward pass over images of a shape, by arithmetic: the faster of two, in turns.

    Of the processor, so that what else the machine does decides nothing. Memory is kept as in a training.
    """
    learning = copy.deepcopy(model).to(memory_format=torch.channels_last).train()
    images = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(0))
    seconds = {"no": float("inf"), "bf16": float("inf")}
    with keeping(), torch.random.fork_rng(devices=[]):
        for turn in range(_STEPS + 1):  # the first is not counted
            for name in seconds:
                begun = time.process_time()
                with torch.autocast("cpu", torch.bfloat16) if name == "bf16" else nullcontext():
                    loss = learning(images).float().square().mean()
                loss.backward()
                learning.zero_grad(set_to_none=True)
                if turn:
                    seconds[name] = min(seconds[name], time.process_time() - begun)
    return seconds
