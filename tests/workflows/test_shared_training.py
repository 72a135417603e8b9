from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import shared_training
from aftermap.files import read_json
from aftermap.workflows.training.run import train
from other_processes import exit_codes_of_two
from squares import make_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def shared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of two processes."""
    folder = tmp_path_factory.mktemp("two") / "run"
    assert exit_codes_of_two(shared_training.share, data, folder) == [0, 0]
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_two_processes_learn_what_one_learns_from_both_batches_of_each_step(shared, data, tmp_path):
    train(shared_training.recipe(data, accumulate=2), tmp_path / "one")
    alone = weights(tmp_path / "one")
    for name, value in weights(shared).items():
        torch.testing.assert_close(
            value, alone[name], rtol=1e-4, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}"
        )


def test_only_the_first_of_two_processes_writes(shared):
    assert {path.name for path in shared.parent.glob("begun-*")} == {"begun-0", "begun-1"}
    steps = [line for line in (shared / "log.txt").read_text().splitlines() if "step 2: loss" in line]
    assert len(steps) == 1
    assert len((shared / "metrics.jsonl").read_text().splitlines()) == shared_training.STEPS // 2
    assert read_json(shared / "run.json")["status"] == "complete"


def test_two_processes_go_on_after_a_kill_to_the_same_weights(shared, data, tmp_path):
    folder = tmp_path / "run"
    killed, left_alone = exit_codes_of_two(shared_training.share_killed, data, folder)
    assert killed == -9 and left_alone != 0
    assert exit_codes_of_two(shared_training.share_on, data, folder) == [0, 0]
    resumed = weights(folder)
    for name, value in weights(shared).items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == shared_training.STEPS // 2
