"""Lets a training run die before each of its file operations; started as a process of its own by test_killed_runs.

PyTorch refuses to learn in a child of a process that has learned, so that here every run is in a child.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from aftermap.data.batch import Batch
from aftermap.files import replacing_folder
from aftermap.learning.experiments.notify import NotifyConfig
from aftermap.learning.experiments.tracking import RecordsConfig
from aftermap.learning.loop import Training
from aftermap.learning.objectives.supervised import Supervised
from aftermap.learning.objectives.terms import SupervisedConfig
from aftermap.learning.optimizer import CosineConfig, OptimizerConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.training.run_folder import check_folder
from aftermap.workflows.training.start import RunLength
from aftermap.workflows.training.training_kind import TrainingKind, run_training
from crash_points import crash_points, in_child

STEPS = 2
STRIDE = int(os.environ.get("AFTERMAP_CRASH_STRIDE", "3"))
"""Every so many points are gone on from; 1 takes every one and 80 processor seconds."""


class Small(DenseModel):
    dates, classes, stride = 1, 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
        )
        self.head = torch.nn.Conv2d(4, 2, 1)

    def forward_features(self, image: torch.Tensor) -> torch.Tensor:
        return self.body(image[:, 0])

    def forward_head(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return self.head(features)


class Noise:
    """Batch n is a function of n alone."""

    def batch(self, index: int) -> Batch:
        generator = torch.Generator().manual_seed(index)
        image = torch.randn(2, 1, 3, 8, 8, generator=generator)
        return Batch(image, (image[:, 0, 0] > 0).long())


class SmallRun(TrainingKind):
    """A score that falls, and a model that is one file of weights."""

    name, tree, save_every = "small", {"name": "small"}, 1
    records, notify = RecordsConfig(), NotifyConfig()
    patience = 1

    def __init__(self) -> None:
        torch.manual_seed(0)
        config = OptimizerConfig(lr=0.01, schedule=CosineConfig(warmup_steps=2))
        self.training = Training(
            Small(), Supervised(SupervisedConfig()), config, steps=STEPS, seed=3, precision="no"
        )
        self.source = Noise()
        self.length = RunLength(STEPS, 0, 1, 1)

    def facts(self) -> dict[str, object]:
        return {"seed": 3}

    def assess(
        self, model: DenseModel, run: object, step: int, minutes: float
    ) -> tuple[dict[str, float], object]:
        return {"score": [0.5, 0.4][step - 1]}, None  # type: ignore[return-value]

    def save(self, folder: Path, model: DenseModel, card: object) -> None:
        with replacing_folder(folder, ours=("weights.pt",)) as part:
            torch.save(model.state_dict(), part / "weights.pt")


def run(folder: Path, *, resume: bool = False) -> None:
    check_folder(folder / "run", resume=resume)
    run_training(SmallRun(), folder / "run", resume=resume, started=time.monotonic())


def go_on(folder: Path) -> None:
    """What a user does after a kill: the same again where nothing was begun, else --resume."""
    file = folder / "run" / "run.json"
    if file.exists() and '"complete"' in file.read_text():
        return
    run(folder, resume=file.exists())


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[str], str]:
    run = folder / "run"
    lines = [line.split('"lr"')[0] for line in (run / "metrics.jsonl").read_text().splitlines()]
    status = "complete" if '"complete"' in (run / "run.json").read_text() else "not complete"
    return torch.load(run / "model" / "weights.pt", weights_only=True), lines, status


def main() -> None:
    torch.set_num_threads(1)
    os.fsync = lambda _: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "whole").mkdir()
        in_child(run, scratch / "whole")
        weights, lines, status = outcome(scratch / "whole")
        assert status == "complete" and len(lines) == STEPS, (status, lines)
        (scratch / "walk").mkdir()
        walked = 0
        for point in crash_points(run, lambda folder: None, scratch / "walk"):
            if point.number % STRIDE:
                continue
            where = f"point {point.number}: {point.operation}"
            told = in_child(go_on, point.folder)
            assert not told, f"{where}: {told}"
            again, lines_again, status = outcome(point.folder)
            assert status == "complete" and lines_again == lines, f"{where}: {status} {lines_again}"
            assert all(torch.equal(weights[key], again[key]) for key in weights), where
            left = {path.name for path in (point.folder / "run").iterdir()}
            expected = {"recipe.yaml", "run.json", "metrics.jsonl", "log.txt", "model"}
            assert left - {"resume", "samples", ".lock"} == expected, f"{where}: {left}"
            walked += 1
        print(walked)


if __name__ == "__main__":
    sys.exit(main())
