"""Writes what `aftermap bench` found: the numbers, a table for a document, and the picture."""

from pathlib import Path
from typing import Any

from aftermap.files import make_folder, write_json, write_text
from aftermap.products.figures.timing_figure import MOST_POINTS, TimingPoint, draw_timing
from aftermap.products.timing_table import SCORE_NAMES, label_entries, machine_line, timing_markdown


def begin_report(folder: Path) -> None:
    """Make the folder before anything is measured for it.

    Raises:
        OutputError: it cannot be made.
    """
    make_folder(folder)


def write_report(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write `bench.json`, `bench.md` and, where anything was measured, `score-time.png`.

    Raises:
        OutputError: a file cannot be written.
    """
    begin_report(folder)
    write_text(folder / "bench.md", timing_markdown(report))
    files = [write_json(folder / "bench.json", report), folder / "bench.md"]
    if not report["entries"]:
        return files
    points = timing_points(report)[:MOST_POINTS]
    scored = report["settings"]["scored_on"] if any(point.scores for point in points) else None
    dates = {entry["dates"] for entry in report["entries"]}
    of = "image or pair" if len(dates) > 1 else "pair" if dates == {2} else "image"
    note = "; ".join(
        part
        for part in (
            f"{report['settings']['size']} px",
            f"scores: {scored}" if scored else "",
            "triangles: no score known" if scored and any(not point.scores for point in points) else "",
        )
        if part
    )
    place = machine_line(report).partition(";")[0]
    title = f"{'Score against time' if scored else 'Time'}: {place}"
    files.append(
        draw_timing(folder / "score-time.png", points, title=title, note=note, time_axis=f"seconds per {of}")
    )
    return files


def timing_points(report: dict[str, Any]) -> list[TimingPoint]:
    """The entries as they are drawn."""
    points = []
    for entry, label in zip(report["entries"], label_entries(report["entries"]), strict=True):
        interval = entry["seconds_interval"]
        points.append(
            TimingPoint(
                label=label,
                group=entry["backend"],
                seconds=entry["seconds_per_scene"],
                interval=interval and (interval[0] / entry["batch"], interval[1] / entry["batch"]),
                scores={SCORE_NAMES[name]: value for name, value in entry["scores"].items()},
            )
        )
    return points
