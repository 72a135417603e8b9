"""A small training for one process or for two, which share it as `torchrun` and `accelerate launch` start them."""

import os
import signal
from pathlib import Path

from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run import train

STEPS = 4


def recipe(data: Path, *, accumulate: int = 1) -> TrainRecipe:
    """Four steps, an evaluation after every second; the statistics of the encoder's normalisation stay."""
    return TrainRecipe.model_validate(
        {
            "name": "shared",
            "task": "building",
            "data": {"manifests": [str(data)]},
            "sampling": {"crop_px": 32, "batch_size": 2},
            "optimizer": {"lr": 0.01, "accumulate": accumulate},
            "norm": "fixed",
            "precision": "no",
            "steps": STEPS,
            "evaluate_every": 2,
            "model": {
                "kind": "unet",
                "encoder_name": "resnet10t",
                "encoder_depth": 3,
                "decoder_channels": [8, 8, 8],
            },
        }
    )


def share(data: Path, folder: Path, *, killed_after: int | None = None, resume: bool = False) -> None:
    """One of the two processes; the main one is killed after a step where that is asked for."""

    def look(progress) -> None:
        if progress.done == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    (folder.parent / f"begun-{os.environ['RANK']}").touch()
    train(recipe(data), folder, resume=resume, on_progress=look)


def share_killed(data: Path, folder: Path) -> None:
    """The same, killed after the third step: the state of the second is on the disk."""
    share(data, folder, killed_after=3)


def share_on(data: Path, folder: Path) -> None:
    """Going on from there."""
    share(data, folder, resume=True)
