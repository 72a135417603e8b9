"""The picture and the tables of timings: where things stand, and what cells say."""

import copy

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from aftermap.errors import OutputError
from aftermap.products.figures.timing_figure import MOST_POINTS, TimingPoint, draw_timing
from aftermap.products.timing_table import label_entries, remarks, timing_markdown, timing_tables


def boxes_of_labels(figure):
    renderer = figure.canvas.get_renderer()
    return [[t.get_window_extent(renderer) for t in axes.texts] for axes in figure.axes]


POINTS = [
    TimingPoint("reference", "torch", 4.1, (4.0, 4.2)),
    TimingPoint("teacher", "torch", 4.0, None, {"official score": 0.55, "localization F1": 0.8}),
    TimingPoint(
        "student", "openvino", 0.12, (0.118, 0.123), {"official score": 0.54, "localization F1": 0.79}
    ),
    TimingPoint("student", "torch", 0.3, None, {"official score": 0.54, "localization F1": 0.79}),
]


def test_there_is_a_panel_per_score_and_time_is_logarithmic(tmp_path, figures):
    draw_timing(tmp_path / "a.png", POINTS, title="t", time_axis="seconds per pair")
    (figure,) = figures
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["official score", "localization F1"]
    assert {(axes.get_xscale(), axes.get_xlabel()) for axes in figure.axes} == {("log", "seconds per pair")}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["torch", "openvino"]
    assert np.asarray(Image.open(tmp_path / "a.png")).shape[1] == pytest.approx(2 * 6.4 * 130, abs=2)


def test_points_stand_at_their_time_and_score(tmp_path, figures):
    draw_timing(tmp_path / "a.png", POINTS, title="t")
    lines = figures[0].axes[0].lines
    dots = {(*line.get_xdata(), *line.get_ydata()) for line in lines if line.get_marker() == "o"}
    assert dots == {(4.0, 0.55), (0.12, 0.54), (0.3, 0.54)}
    (interval,) = [line for line in lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.6]
    assert tuple(interval.get_xdata()) == (0.118, 0.123)


def test_a_model_without_a_score_is_a_triangle_on_the_time_axis(tmp_path, figures):
    draw_timing(tmp_path / "a.png", POINTS, title="t")
    axes = figures[0].axes[0]
    (triangle,) = [line for line in axes.lines if line.get_marker() == "^"]
    assert triangle.get_xdata()[0] == 4.1
    assert triangle.get_ydata()[0] < 0.54


@pytest.mark.parametrize("count", [1, 6, 14])
def test_labels_neither_overlap_nor_leave_their_panel(tmp_path, figures, count):
    generator = np.random.default_rng(count)
    points = [
        TimingPoint(
            f"student number {n}", "torch", 0.1 * 2**n, None, {"official score": generator.uniform(0.4, 0.6)}
        )
        for n in range(count)
    ]
    draw_timing(tmp_path / "a.png", points, title="t")
    figure = figures[-1]
    for axes, boxes in zip(figure.axes, boxes_of_labels(figure), strict=True):
        frame = axes.get_window_extent()
        assert len(boxes) == count
        for number, box in enumerate(boxes):
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            assert not any(box.overlaps(other) for other in boxes[:number])


def test_where_names_do_not_fit_numbers_and_a_key_stand_for_them(tmp_path, figures):
    points = [
        TimingPoint(
            f"student number {n} of the ladder", "torch", 0.1 + n / 1e4, None, {"official score": 0.5}
        )
        for n in range(MOST_POINTS)
    ]
    draw_timing(tmp_path / "a.png", points, title="t")
    figure = figures[-1]
    assert {t.get_text() for t in figure.axes[0].texts} <= {str(n + 1) for n in range(MOST_POINTS)}
    keys = [text.get_text() for text in figure.texts if "student" in text.get_text()]
    assert keys[0] == "1  student number 0 of the ladder"
    assert len(keys) == MOST_POINTS
    (boxes,) = boxes_of_labels(figure)
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_without_scores_there_is_a_row_per_model(tmp_path, figures):
    draw_timing(tmp_path / "a.png", [TimingPoint(p.label, p.group, p.seconds) for p in POINTS], title="t")
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "reference",
        "teacher",
        "student",
        "student",
    ]
    assert [text.get_text() for text in axes.texts] == ["4.1", "4", "0.12", "0.3"]


@pytest.mark.parametrize("count", [0, MOST_POINTS + 1])
def test_too_few_or_too_many_points_are_refused(tmp_path, count):
    with pytest.raises(ValueError, match="expected 1 to"):
        draw_timing(tmp_path / "a.png", POINTS[:1] * count, title="t")


def test_a_time_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="above 0"):
        draw_timing(tmp_path / "a.png", [TimingPoint("a", "torch", 0.0)], title="t")


def test_a_picture_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        draw_timing(tmp_path / "absent" / "a.png", POINTS, title="$x$ and $broken")


# tables

ENTRY = {
    "model": "reference:small+torch",
    "backend": "torch",
    "arithmetic": "f32",
    "batch": 1,
    "dates": 2,
    "tta": "none",
    "seconds_median": 4.0,
    "seconds_interval": [3.96, 4.04],
    "seconds_per_scene": 4.0,
    "seconds_p95": 4.2,
    "stable": True,
    "times_as_fast": {"median": 1.0, "low": 1.0, "high": 1.0},
    "peak_mb": 1234.4,
    "cold_start_seconds": 6.25,
    "parameters": 25_728_597,
    "gmacs": 369.837,
    "file_bytes": 103_000_000,
    "gflops": 184.9,
    "ceiling_share": {"median": 0.92, "low": None, "high": None},
    "scores": {},
}
SECOND = ENTRY | {
    "model": "runs/student/model",
    "backend": "openvino",
    "arithmetic": "int8",
    "batch": 4,
    "seconds_median": 0.4,
    "seconds_per_scene": 0.1,
    "seconds_interval": None,
    "stable": False,
    "times_as_fast": {"median": 40.0, "low": 39.0, "high": 41.5},
    "gmacs": None,
    "gflops": None,
    "ceiling_share": None,
    "scores": {"official_score": 0.51, "localization_f1": 0.7},
}


@pytest.fixture
def report():
    machine = {
        "cpu": "Some Processor",
        "cores": 4,
        "gpu": None,
        "versions": {"torch": "2.15.0", "openvino": None},
        "load_before": 3.0,
        "shared_with_other_work": False,
        "ceilings_gflops": {"f32": {"median": 201.4}, "int8": {"median": 1805.0}},
    }
    settings = {"size": 1024, "threads": 2, "scored_on": "real (test)"}
    failure = {
        "model": "big",
        "backend": "torch",
        "batch": 16,
        "tta": "none",
        "reason": "its process was killed",
    }
    report = {
        "machine": machine,
        "settings": settings,
        "ended": "time",
        "entries": [ENTRY, SECOND],
        "failures": [failure],
    }
    return copy.deepcopy(report)


def test_markdown_has_a_row_per_entry_with_interval_ratio_and_scores(report):
    lines = timing_markdown(report).splitlines()
    assert lines[0] == "Some Processor, 2 of 4 cores; 1024 px; torch 2.15.0."
    heading, rule, first, second = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:6]
    )
    assert len(heading) == len(rule) == len(first) == len(second)
    assert dict(zip(heading, first, strict=True)) == {
        "model": "small, batch 1",
        "backend": "torch",
        "s per pair": "4 ±1.0 %",
        "times as fast": "1",
        "p95 s": "4.2",
        "peak MB": "1,234",
        "start s": "6.2",
        "M param.": "25.73",
        "GMAC": "369.8",
        "file MB": "103.0",
        "GFLOP/s": "185",
        "of ceiling": "92 %",
        "official score": "–",
        "localization F1": "–",
    }
    told = dict(zip(heading, second, strict=True))
    assert (told["model"], told["backend"]) == ("student/model, batch 4", "openvino int8")
    assert (told["s per pair"], told["times as fast"]) == ("0.1", "40 (39 to 41.5)")
    assert (told["GMAC"], told["of ceiling"], told["official score"]) == ("–", "–", "0.510")
    assert "Not measured: big on torch, batch 16: its process was killed" in lines[-1]


def test_remarks_tell_ceilings_scores_and_what_is_not_stable(report):
    text = " ".join(remarks(report))
    assert "f32 201, int8 1,805" in text
    assert "Scores: real (test)." in text
    assert "Not stable within 2 % when the time was spent: student/model, batch 4." in text
    assert "busy" not in text
    assert "Above 100 %" not in text
    report["entries"][0]["ceiling_share"]["median"] = 1.61
    assert "fewer multiplications than are counted" in remarks(report)[1]
    report["machine"]["shared_with_other_work"] = True
    assert "busy with other work at the start (load 3 on 4 cores)" in remarks(report)[-1]


def test_terminal_tables_fit_80_columns_and_hold_the_failures(report):
    console = Console(width=80, record=True, highlight=False, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(timing_tables(report))
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "40 (39 to 41.5)" in text
    assert "its process was killed" in text
    assert "…" not in text


def test_a_report_without_entries_is_told_too(report):
    report["entries"] = []
    assert "its process was killed" in timing_markdown(report)


def test_labels_name_the_backend_only_where_they_must():
    twice = [ENTRY, ENTRY | {"backend": "openvino", "tta": "flips"}]
    assert label_entries(twice) == ["small", "small, flips"]
    assert label_entries([ENTRY], with_backend=True) == ["small, torch"]
    assert label_entries([ENTRY | {"model": "a/b+c/d+flips+openvino", "tta": "flips"}]) == ["d+flips"]
