"""Timing of models: the statistics, the turns, the candidates, and one run with real processes."""

import os
import signal
import sys
import time
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import binom

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.exported import EXPORTED_NAME, ExportedCard, Graph
from aftermap.artefacts.store import load_model, save_model
from aftermap.errors import DataError, InputError, ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import CustomConfig, SiameseUnetConfig
from aftermap.workflows.bench import run as benchmark
from aftermap.workflows.bench.candidates import facts_of, materialise, parse_candidates
from aftermap.workflows.bench.process import CandidateError, WorkerProcess
from aftermap.workflows.bench.references import references
from aftermap.workflows.bench.rounds import (
    Estimate,
    Track,
    estimate,
    is_stable,
    paired_ratio,
    quantile,
    run_rounds,
)
from aftermap.workflows.bench.run import Settings, bench, take_card_scores
from aftermap.workflows.bench.worker import Job
from forked_python import forked_python
from squares import make_dataset

SMALL = SiameseUnetConfig(encoder_name="test_resnet", encoder_depth=3, decoder_channels=(8, 8, 8))


def save_small(folder, *, config=SMALL, metrics=None):
    torch.manual_seed(0)
    card = Card(
        name=folder.name,
        dates=2,
        scheme="joint-damage-scale",
        model=config,
        training=TrainingRecord(data="none", data_licence="MIT"),
        licence="MIT",
        metrics=metrics or {},
    )
    save_model(folder, build_model(config), card)
    return folder


# statistics


def test_six_values_give_their_extremes_as_interval():
    assert estimate([4, 1, 6, 2, 5, 3]) == Estimate(3.5, 1, 6)


def test_five_values_give_no_interval_and_are_never_stable():
    assert estimate([1.0] * 5) == Estimate(1.0)
    assert not is_stable([1.0] * 5)
    assert not is_stable([])


@pytest.mark.parametrize(("count", "rank"), [(9, 2), (10, 2), (20, 6), (50, 18)])
def test_the_interval_is_that_of_the_sign_test(count, rank):
    found = estimate(range(1, count + 1))
    assert (found.low, found.high) == (rank, count + 1 - rank)


def test_the_interval_covers_95_percent_and_the_next_narrower_does_not():
    for count in range(6, 80):
        rank = int(estimate(range(1, count + 1)).low)
        assert 1 - 2 * binom.cdf(rank - 1, count, 0.5) >= 0.95
        assert 1 - 2 * binom.cdf(rank, count, 0.5) < 0.95


def test_stable_is_a_half_width_below_2_percent_of_the_median():
    # interval of six values: their extremes; (1.038 - 1) / 2 = 1.9 %, (1.041 - 1) / 2 = 2.05 %
    assert is_stable([1, 1, 1, 1, 1, 1.038])
    assert not is_stable([1, 1, 1, 1, 1, 1.041])


def test_ratios_are_paired_by_round_so_that_drift_cancels():
    drift = {0: 1.0, 1: 2.0, 2: 5.0, 3: 1.5, 4: 1.0, 5: 3.0, 6: 9.0}
    slow = {number: 6 * d for number, d in drift.items()}
    fast = {number: 2 * d for number, d in drift.items() if number != 6}
    assert paired_ratio(slow, fast) == Estimate(3.0, 3.0, 3.0)
    assert estimate(list(slow.values())).half_width > 0.5


def test_rounds_that_only_one_took_part_in_give_no_ratio():
    assert paired_ratio({0: 1.0}, {1: 1.0}) is None
    assert paired_ratio({0: 3.0, 1: 8.0}, {1: 2.0}) == Estimate(4.0)


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.95, 1])
def test_quantiles_are_numpys(share):
    values = [5.0, 1.0, 4.0, 2.0, 8.0, 9.0]
    assert quantile(values, share) == pytest.approx(np.quantile(values, share))


# turns


class Clock:
    """A clock that visits move."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def track(self, name, seconds, *, dies_in=None, judged=True):
        values = iter(seconds)

        def ask(calls, untimed):
            self.order.append(name)
            if dies_in is not None and self.order.count(name) == dies_in:
                raise CandidateError("its process was killed")
            taken = next(values)
            self.now += taken
            return {"seconds": [taken] * calls}

        return Track(name, ask, judged=judged)

    def __call__(self):
        return self.now


def test_every_round_visits_all_once_in_an_order_of_its_own():
    clock = Clock()
    tracks = [clock.track(name, [1.0] * 20) for name in "abcd"]
    assert run_rounds(tracks, seconds=1e9, clock=clock, seed=3) == "stable"
    rounds = [tuple(clock.order[i : i + 4]) for i in range(0, len(clock.order), 4)]
    assert len(rounds) == 6  # the first number of rounds that has an interval
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len(set(rounds)) > 1


def test_the_same_seed_gives_the_same_orders():
    orders = []
    for _ in range(2):
        clock = Clock()
        run_rounds([clock.track(name, [1.0] * 9) for name in "abc"], seconds=1e9, clock=clock, seed=7)
        orders.append(clock.order)
    assert orders[0] == orders[1]


def test_rounds_go_on_until_the_last_is_stable():
    clock = Clock()
    restless = [1.0, 2.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    steady, other = clock.track("steady", [1.0] * 20), clock.track("other", restless)
    assert run_rounds([steady, other], seconds=1e9, clock=clock) == "stable"
    # two of n values are 2: the second largest leaves the interval with rank 3, from 12 values on
    assert len(other.visits) == len(steady.visits) == 12


def test_the_first_round_is_finished_and_the_next_ends_with_the_time():
    clock = Clock()
    tracks = [clock.track(name, [10.0] * 9) for name in "abc"]
    assert run_rounds(tracks, seconds=15, clock=clock) == "time"
    assert [len(track.visits) for track in tracks] == [1, 1, 1]
    clock = Clock()
    tracks = [clock.track(name, [10.0] * 9) for name in "abc"]
    run_rounds(tracks, seconds=35, clock=clock)
    assert sorted(len(track.visits) for track in tracks) == [1, 1, 2]


def test_a_process_that_dies_leaves_the_others_measured():
    clock = Clock()
    good, bad = clock.track("good", [1.0] * 9), clock.track("bad", [1.0] * 9, dies_in=3)
    assert run_rounds([good, bad], seconds=1e9, clock=clock) == "stable"
    assert bad.failure == "its process was killed (in round 3)"
    assert len(good.visits) == 6


def test_nothing_is_left_when_all_died_but_the_matrix_products():
    clock = Clock()
    tracks = [clock.track("bad", [1.0], dies_in=1), clock.track("products", [1.0] * 9, judged=False)]
    assert run_rounds(tracks, seconds=1e9, clock=clock) == "failed"


def test_what_is_not_judged_is_not_waited_for():
    clock = Clock()
    products = clock.track("products", [1.0, 9.0] * 9, judged=False)
    run_rounds([clock.track("a", [1.0] * 9), products], seconds=1e9, clock=clock)
    assert len(products.visits) == 6


@pytest.mark.parametrize(
    ("seconds", "calls", "untimed"), [(0.001, 20, 1), (0.1, 5, 1), (0.9, 1, 1), (8.0, 1, 0)]
)
def test_a_visit_takes_about_half_a_second_and_warms_up_where_that_is_cheap(seconds, calls, untimed):
    track = Track("a", lambda *_: {})
    track.pace(seconds)
    assert (track.calls, track.untimed) == (calls, untimed)


# candidates


def parsed(*models, backends=("torch",), batches=(1,), tta="none"):
    return parse_candidates(models, backends=backends, batches=batches, tta=tta)


def test_every_model_is_a_candidate_on_every_backend_with_every_batch():
    found = parsed("box", backends=("torch", "openvino"), batches=(1, 4))
    assert [(c.backend, c.batch) for c in found] == [
        ("torch", 1),
        ("torch", 4),
        ("openvino", 1),
        ("openvino", 4),
    ]


def test_words_after_plus_signs_are_for_one_model():
    box, reference = parsed(
        "box", "reference:xview2-resnet34-damage+openvino+flips+3seeds", backends=("torch",)
    )
    assert (box.backend, box.tta, box.seeds) == ("torch", "none", 1)
    assert (reference.backend, reference.tta, reference.seeds) == ("openvino", "flips", 3)
    assert reference.source == "reference:xview2-resnet34-damage"


def test_a_plus_sign_in_a_path_stays(tmp_path):
    folder = save_small(tmp_path / "a+b")
    (found,) = parsed(f"{folder}+flips")
    assert (found.source, found.tta) == (str(folder), "flips")


def test_an_unknown_reference_names_similar_ones():
    with pytest.raises(ModelError, match=r"'xview2-resnet43-damage'.*xview2-resnet34-damage"):
        parsed("reference:xview2-resnet43-damage")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("box+flips+full", "the same thing twice"),
        ("box+3seeds", "is for references"),
        ("absent", "no model at absent"),
    ],
)
def test_models_that_make_no_sense_are_refused(model, message):
    with pytest.raises(InputError, match=message):
        parsed(model)
    with pytest.raises(InputError, match="no model given"):
        parsed()


def test_references_are_the_published_networks_and_all_that_are_listed():
    names = references()
    assert {"xview2-resnet34-damage", "kd-student-localization", "siamese-unet-mobilenetv3-damage"} <= set(
        names
    )
    assert names["xview2-resnet34-damage"].classes == 5
    assert names["segformer-b0-localization"].dates == 1


def test_seeds_of_a_reference_are_different_networks_in_one_ensemble(tmp_path, monkeypatch):
    monkeypatch.setattr("aftermap.workflows.bench.references.references", lambda: {"small": SMALL})
    (candidate,) = parsed("reference:small+2seeds+flips")
    ensemble = materialise(candidate, tmp_path)
    first, second = (load_model(tmp_path / f"small-{seed}") for seed in range(2))
    assert first.sha256 != second.sha256
    one, both = (facts_of(str(path), tta="none", size_px=64) for path in (tmp_path / "small-0", ensemble))
    assert (both.members, both.parameters) == (2, 2 * one.parameters)
    assert both.file_bytes == 2 * one.file_bytes
    assert both.gmacs == pytest.approx(2 * one.gmacs)
    assert facts_of(ensemble, tta="flips", size_px=128).gmacs == pytest.approx(4 * 4 * both.gmacs)


def test_activations_of_a_reference_neither_vanish_nor_overflow_half_precision(tmp_path, monkeypatch):
    monkeypatch.setattr("aftermap.workflows.bench.references.references", lambda: {"small": SMALL})
    model = load_model(materialise(parsed("reference:small")[0], tmp_path)).model
    with torch.inference_mode():
        logits = model(torch.randn(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    assert 1e-3 < float(logits.std()) < 1e3


def test_facts_of_an_exported_model_are_those_of_its_card(tmp_path):
    source = {"name": "a", "version": "1", "sha256": "0" * 64}
    graph = Graph(
        format="onnx", file="model.onnx", files={"model.onnx": "0" * 64}, bytes=1234, inside=True, multiple=32,
        parameters=567, gmacs=8.0, precision="int8", source=source,
    )  # fmt: skip
    training = TrainingRecord(data="none", data_licence="MIT")
    card = ExportedCard(name="a", dates=2, scheme="building", training=training, licence="MIT", graph=graph)
    (tmp_path / EXPORTED_NAME).write_text(card.model_dump_json())
    facts = facts_of(str(tmp_path), tta="half-turn", size_px=512)
    assert (facts.parameters, facts.file_bytes, facts.stored, facts.members) == (567, 1234, "int8", 1)
    assert facts.gmacs == 2 * 8.0 / 4  # two views, a quarter of the pixels that the card counts for


def test_a_model_of_the_users_own_that_cannot_be_counted_has_its_parameters(tmp_path):
    config = CustomConfig(target="test_bench:uncountable", classes=5)
    facts = facts_of(str(save_small(tmp_path / "own", config=config)), tta="none", size_px=64)
    assert facts.gmacs is None
    assert facts.parameters == sum(p.numel() for p in build_model(SMALL).parameters())


def uncountable():
    """A model that looks at its pixels, which the meta device does not have."""

    def look(_, inputs):
        float(inputs[0].max())

    model = build_model(SMALL)
    model.register_forward_pre_hook(look)
    return model


def entry(model, scores, tta="none"):
    return {"model": model, "tta": tta, "card_scores": scores, "scores": {}}


def test_scores_of_cards_are_those_of_the_test_set_that_most_models_know():
    entries = [
        entry(
            "a",
            {"synthetic": {"official_score": 0.9}, "real": {"official_score": 0.5, "localization_f1": 0.8}},
        ),
        entry("b", {"real": {"score": 0.4}}),
        entry("b", {"real": {"score": 0.4}}, tta="flips"),
        entry("c", {}),
    ]
    assert take_card_scores(entries) == "real (from the cards)"
    assert [e["scores"] for e in entries] == [
        {"official_score": 0.5, "localization_f1": 0.8},
        {"official_score": 0.4},
        {},  # the card tells nothing of test-time augmentation
        {},
    ]


def test_cards_without_scores_give_none():
    assert take_card_scores([entry("a", {})]) is None


# the whole, with workers that give made-up times


class FakeWorker:
    """Answers as a worker does; the second model takes twice as long per call at any batch."""

    stop_at: ClassVar[int | None] = None
    visits: ClassVar[int] = 0
    opened: ClassVar[list[str]] = []

    def __init__(self, job, variables=None):
        self.job, self.begun, self.pid = job, 100.0, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        pass

    def start(self):
        if not self.job.model:
            return {"side_px": 1024}
        FakeWorker.opened.append(self.job.backend)
        if self.job.batch == 9:
            raise CandidateError("there is not enough memory")
        return {"imported": 101.0, "loaded": 103.0, "finished": 106.0, "execution": {}}

    def ask(self, do, **arguments):
        if do == "score":
            return {"scores": {"official_score": 0.25}}
        if not self.job.model:
            return {"gflops": {"f32": 100.0, "int8": 400.0}}
        FakeWorker.visits += 1
        if FakeWorker.stop_at is not None and FakeWorker.visits > FakeWorker.stop_at:
            raise KeyboardInterrupt
        seconds = 2.0 if "slow" in self.job.model else 1.0
        return {
            "seconds": [seconds] * arguments["calls"],
            "network_seconds": [0.9 * seconds] * arguments["calls"],
            "processor_seconds": 2 * seconds * arguments["calls"],
            "execution": {"backend": "torch", "precision": "f32"},
            "peak_mb": 500.0,
            "peak_gpu_mb": None,
        }


@pytest.fixture
def fake(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(FakeWorker, "stop_at", None)
    monkeypatch.setattr(FakeWorker, "visits", 0)
    monkeypatch.setattr(FakeWorker, "opened", [])
    return [str(save_small(tmp_path / name)) for name in ("slow", "quick")]


def test_entries_tell_what_is_asked_of_them(fake):
    report = bench(fake, Settings(backends=("torch",), batches=(1, 4), size_px=64, threads=1))
    assert report["ended"] == "stable"
    slow, slow_4, _, quick_4 = report["entries"]
    assert [(e["batch"], e["seconds_median"]) for e in report["entries"]] == [
        (1, 2.0),
        (4, 2.0),
        (1, 1.0),
        (4, 1.0),
    ]
    assert slow["times_as_fast"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert slow_4["times_as_fast"]["median"] == 4.0  # per pair: 2 s against 2 s / 4
    assert quick_4["times_as_fast"]["median"] == 8.0
    assert quick_4["seconds_per_scene"] == 0.25
    assert quick_4["gflops"] == pytest.approx(2 * quick_4["gmacs"] / 0.25)
    assert quick_4["ceiling_share"]["median"] == pytest.approx(quick_4["gflops"] / 100)
    assert (slow["cold_start_seconds"], slow["import_seconds"], slow["load_seconds"]) == (6.0, 1.0, 2.0)
    assert (slow["peak_mb"], slow["cores_busy"], slow["rounds"]) == (500.0, 2.0, 6)
    assert slow["network_seconds_median"] == 1.8
    assert quick_4["processor_seconds_per_scene"] == 0.5  # two cores for a second, four pairs
    assert report["machine"]["ceilings_gflops"]["int8"]["median"] == 400.0


def test_what_only_a_first_use_does_is_done_before_the_start_is_timed(fake):
    bench(fake[:1], Settings(backends=("torch", "openvino"), size_px=64))
    assert FakeWorker.opened == ["torch", "openvino", "openvino"]


def test_a_candidate_that_does_not_start_is_a_failure_beside_the_others(fake):
    report = bench(fake[:1], Settings(backends=("torch",), batches=(9, 1), size_px=64))
    assert [e["batch"] for e in report["entries"]] == [1]
    (failure,) = report["failures"]
    assert (failure["batch"], failure["reason"]) == (9, "there is not enough memory")


def test_an_interrupted_run_reports_what_was_measured(fake, monkeypatch):
    monkeypatch.setattr(FakeWorker, "stop_at", 2 * 2 + 2 * 3)  # two warm-ups each, then three rounds
    report = bench(fake, Settings(backends=("torch",), size_px=64))
    assert report["ended"] == "interrupted"
    assert [e["rounds"] for e in report["entries"]] == [3, 3]


def test_an_interruption_before_anything_was_measured_is_passed_on(fake, monkeypatch):
    monkeypatch.setattr(FakeWorker, "stop_at", 1)
    with pytest.raises(KeyboardInterrupt):
        bench(fake, Settings(backends=("torch",), size_px=64))


def test_data_gives_every_candidate_its_score(fake, tmp_path):
    data = make_dataset(tmp_path / "squares", scenes=2)
    report = bench(fake, Settings(backends=("torch",), size_px=64, data=data, split="validation"))
    assert report["settings"]["scored_on"] == "squares (validation)"
    assert [e["scores"] for e in report["entries"]] == [{"official_score": 0.25}] * 2


def test_random_weights_are_not_scored(fake, tmp_path, monkeypatch):
    monkeypatch.setattr("aftermap.workflows.bench.references.references", lambda: {"small": SMALL})
    data = make_dataset(tmp_path / "squares", scenes=2)
    settings = Settings(backends=("torch",), size_px=64, data=data, split="validation")
    reference, trained = bench(["reference:small", fake[0]], settings)["entries"]
    assert (reference["scores"], trained["scores"]) == ({}, {"official_score": 0.25})


def test_data_without_scenes_of_the_split_is_refused_before_anything_starts(tmp_path):
    data = make_dataset(tmp_path / "squares", scenes=2)
    with pytest.raises(DataError, match="no labelled scenes in split test"):
        bench(["box"], Settings(data=data))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(size_px=0), "--size 0"),
        (Settings(batches=(0,)), "--batch 0"),
        (Settings(threads=-1), "--threads -1"),
        (Settings(seconds=0), "--seconds 0"),
        (Settings(device="toaster"), "no device 'toaster'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        bench(["box"], settings)


# real processes


def test_a_killed_worker_is_one_line_that_thinks_of_memory(monkeypatch):
    monkeypatch.setattr(sys, "executable", forked_python())
    with WorkerProcess(Job()) as worker:
        assert worker.start()["side_px"] == 1024
        assert worker.ask("visit", calls=1, untimed=1)["gflops"]["f32"] > 0
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(CandidateError, match="killed, as the system does when memory runs out"):
            worker.ask("visit", calls=1, untimed=1)
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_a_worker_that_fails_tells_its_last_line(monkeypatch):
    monkeypatch.setattr(sys, "executable", forked_python())
    with WorkerProcess(Job()) as worker:
        worker.start()
        with pytest.raises(CandidateError, match=r"exit code 1: TypeError.*nonsense"):
            worker.ask("visit", nonsense=1)


@pytest.fixture(scope="module")
def real_run(tmp_path_factory):
    """Two small models for one round each, one of them altered after it was written."""
    folder = tmp_path_factory.mktemp("bench")
    good, altered = save_small(folder / "good"), save_small(folder / "altered")
    with (altered / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    data = make_dataset(folder / "squares", scenes=2)
    settings = Settings(
        backends=("torch",), size_px=64, threads=1, seconds=0.01, data=data, split="validation"
    )
    lines = []

    class Started(WorkerProcess):
        """A process of Python itself for the model that is timed; of the others only what they say is looked at."""

        def __init__(self, job, variables=None):
            with pytest.MonkeyPatch.context() as patch:
                if job.model != str(good):
                    patch.setattr(sys, "executable", forked_python())
                super().__init__(job, variables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "WorkerProcess", Started)
        before = time.monotonic()
        report = bench([str(good), str(altered)], settings, on_progress=lines.append)
        return report, lines, time.monotonic() - before


def test_a_real_run_measures_time_memory_and_start(real_run):
    report, _, whole = real_run
    (found,) = report["entries"]
    assert found["repeats"] >= 1
    assert 0 < found["network_seconds_median"] < found["seconds_median"]
    assert found["import_seconds"] < found["cold_start_seconds"] < whole
    assert found["cold_start_seconds"] == pytest.approx(
        found["import_seconds"] + found["load_seconds"] + found["first_seconds"]
    )
    assert found["peak_mb"] > 100
    assert report["machine"]["ceilings_gflops"]["f32"]["median"] > 0
    assert 0 <= found["scores"]["localization_f1"] <= 1
    assert (found["backend"], found["threads"], found["arithmetic"]) == ("torch", 1, "f32")


def test_a_real_run_reports_the_altered_model_as_failed(real_run):
    report, lines, _ = real_run
    (failure,) = report["failures"]
    assert "was altered" in failure["reason"]
    assert lines[0].startswith("1/2 starting")
    assert lines[2] == "round 1: 0 of 1 medians are stable"
