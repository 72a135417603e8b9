import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aftermap.data.scene import Manifest
from aftermap.errors import DataError, InputError
from aftermap.inference.postprocess import Decision
from aftermap.synthetic.write import synthesise
from aftermap.workflows.scoring import by_workers
from aftermap.workflows.scoring.evaluate import Tally, evaluate_dataset
from aftermap.workflows.scoring.predict import predict_dataset
from aftermap.worklist.job import Outcome


@pytest.fixture(scope="module", autouse=True)
def exported_box() -> Iterator[None]:
    """The box as users run it, which needs no torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AFTERMAP_BACKEND", raising=False)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towns")
    synthesise(folder, scenes=3, size_px=128, seed=3)
    return folder


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The work of the processes, done in this one; tests of work lists have real ones. Gives how many were asked for."""
    asked: list[int] = []

    def run_jobs(work, jobs, *, limits, on_outcome, **engine):
        asked.append(limits.workers)
        work = pickle.loads(pickle.dumps(work))
        do, ended = work.start(), []
        for job in jobs:
            ended.append(Outcome(job.name, "done", facts=pickle.loads(pickle.dumps(do(job)))))
            on_outcome(ended[-1])
        return ended

    monkeypatch.setattr(by_workers, "run_jobs", run_jobs)
    return asked


def test_several_processes_give_the_figures_of_one(data, inline):
    alone = evaluate_dataset("box", data, split="all", bootstrap=20, backend="auto")
    both = evaluate_dataset("box", data, split="all", bootstrap=20, workers=2, backend="auto")
    assert both.as_dict() == alone.as_dict() and inline == [2]


def test_several_processes_predict_what_one_predicts(data, inline, tmp_path):
    seen = []
    count = predict_dataset(
        "box",
        data,
        tmp_path / "two",
        workers=2,
        targets=tmp_path / "truth",
        on_scene=seen.append,
        backend="auto",
    )
    predict_dataset("box", data, tmp_path / "one", backend="auto")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert count == len(seen) == 3 and len(names) == 6 and inline == [2]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == names
    assert all(
        (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes() for name in names
    )
    assert len(list((tmp_path / "truth").iterdir())) == 6


def test_counts_that_are_merged_are_those_of_one_place(data):
    scenes = Manifest.load(data).scenes
    rng = np.random.default_rng(0)
    whole, parts = Tally(Decision((0.5,) * 4)), []
    for scene in scenes:
        probabilities = rng.dirichlet(np.ones(5), (128, 128)).transpose(2, 0, 1).astype(np.float32)
        whole.add(scene, probabilities)
        parts.append(Tally(Decision((0.5,) * 4)))
        parts[-1].add(scene, probabilities)
    first, *others = parts
    for part in others:
        first.merge(part)
    one, other = (tally.evaluation(bootstrap=10) for tally in (first, whole))
    assert one.report.as_dict() == other.report.as_dict()
    assert (one.best_threshold, one.best_weights) == (other.best_threshold, other.best_weights)


def test_an_open_model_and_a_missing_scene_are_refused(data, tmp_path, monkeypatch):
    lost = [
        Outcome("a", "failed", reason="a.png is truncated", cause="input"),
        Outcome("b", "done", facts={"made": 1}),
    ]
    monkeypatch.setattr(by_workers, "run_jobs", lambda *args, **rest: lost)
    with pytest.raises(
        InputError, match=r"1 of 2 scenes could not be predicted; the others are: a: a\.png is truncated"
    ):
        predict_dataset("box", data, tmp_path / "out", workers=2)
    with pytest.raises(InputError, match="without them the figures would be others"):
        evaluate_dataset("box", data, split="all", workers=2)
    with pytest.raises(DataError, match="no labelled scenes"):
        evaluate_dataset("box", data, split="test", workers=2)
