from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aftermap.learning import fastest_precision as chosen
from aftermap.learning.configs.optimizer import OptimizerConfig
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.loop import Training
from aftermap.learning.objectives.supervised import Supervised
from aftermap.models.networks.dense import DenseModel


class Tiny(DenseModel):
    dates, classes, stride = 1, 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)

    def forward_features(self, image: Tensor) -> Tensor:
        features: Tensor = self.norm(self.conv(image[:, 0]))
        return features

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return features


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(chosen, "usual_precision", lambda: "bf16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def choose(**changes: int) -> str:
    given = {"bands": 3, "crop_px": 512, "batch_size": 1} | changes
    return chosen.fastest_precision(Tiny(), described={"kind": "tiny"}, **given)


def test_what_is_measured_decides_and_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def measure(model: DenseModel, shape: tuple[int, ...]) -> dict[str, float]:
        shapes.append(tuple(shape))
        return {"no": 1.0, "bf16": 1.5}

    monkeypatch.setattr(chosen, "measure", measure)

    assert (choose(), choose(), choose(batch_size=2)) == ("no", "no", "no")
    assert shapes == [(1, 1, 3, 512, 512), (2, 1, 3, 512, 512)]


def test_small_steps_and_processors_without_bf16_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "measure", lambda *_: pytest.fail("measured"))

    assert choose(crop_px=64) == "bf16"
    monkeypatch.setattr(chosen, "usual_precision", lambda: "no")
    assert choose() == "no"


def test_measuring_leaves_the_model_and_the_generator_alone() -> None:
    model = Tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()

    seconds = chosen.measure(model, (1, 1, 3, 8, 8))

    assert set(seconds) == {"no", "bf16"} and all(0 < value < 60 for value in seconds.values())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_run_goes_on_in_the_arithmetic_that_it_began_with(tmp_path: Path) -> None:
    def training(precision: str) -> Training:
        objective = Supervised(SupervisedConfig())
        return Training(Tiny(), objective, OptimizerConfig(), steps=3, seed=0, precision=precision)

    first = training("bf16")
    first.save(tmp_path / "resume")
    second = training("no")
    second.load(tmp_path / "resume")

    assert second.accelerator.mixed_precision == "bf16"
    third = training("no")
    third.save(tmp_path / "other")
    first.load(tmp_path / "other")
    dtypes = []
    first.model.conv.register_forward_hook(lambda module, given, found: dtypes.append(found.dtype))
    with first.accelerator.autocast():
        first._wrapped(torch.zeros(1, 1, 3, 4, 4))
    assert dtypes == [torch.float32]
