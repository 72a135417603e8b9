"""What `aftermap bench` found, as terminal tables and as Markdown."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from aftermap.files import markdown_table

_BACKENDS = ("auto", "torch", "onnxruntime", "openvino")
SCORE_NAMES = {"official_score": "official score", "localization_f1": "localization F1"}


def timing_tables(report: dict[str, Any]) -> Group:
    """Tables for the terminal.

    Args:
        report: what `aftermap bench --json` prints.
    """
    parts: list[Table | Text] = [Text(machine_line(report), style="bold")]
    entries = report["entries"]
    if entries:
        columns = _columns(report)
        times, sizes, rates = columns[:_SIZES], columns[_SIZES:_RATES], columns[_RATES:]
        parts.append(_table(times, label_entries(entries)))
        parts += [_table(part, _distinct_labels(entries)) for part in (sizes, rates)]
    parts += [Text(line, style="dim") for line in remarks(report)]
    if report["failures"]:
        failed = Table("not measured", "reason", box=SIMPLE)
        for failure in report["failures"]:
            failed.add_row(Text(_named(failure)), Text(failure["reason"]))
        parts.append(failed)
    return Group(*parts)


def timing_markdown(report: dict[str, Any]) -> str:
    """The same as one Markdown table with the machine above and remarks below."""
    lines = [f"{machine_line(report)}.", ""]
    if report["entries"]:
        columns = [("model", label_entries(report["entries"])), *_columns(report)]
        rows = zip(*(cells for _, cells in columns), strict=True)
        lines += [*markdown_table([heading for heading, _ in columns], rows), ""]
    lines += [f"{line}  " for line in remarks(report)]
    lines += [f"Not measured: {_named(failure)}: {failure['reason']}  " for failure in report["failures"]]
    return "\n".join(lines).rstrip() + "\n"


def machine_line(report: dict[str, Any]) -> str:
    """Machine and settings in a line."""
    machine, settings = report["machine"], report["settings"]
    place = machine["gpu"] or f"{machine['cpu']}, {settings['threads']} of {machine['cores']} cores"
    versions = machine["versions"]
    named = (
        f"{name} {versions[name]}" for name in ("torch", "onnxruntime", "openvino") if versions.get(name)
    )
    return f"{place}; {settings['size']} px; {', '.join(named)}"


def remarks(report: dict[str, Any]) -> list[str]:
    """What one has to know to read the figures."""
    machine, entries = report["machine"], report["entries"]
    lines = []
    ceilings = machine["ceilings_gflops"]
    if ceilings:
        values = ", ".join(f"{name} {value['median']:,.0f}" for name, value in ceilings.items())
        lines.append(f"Ceiling: matrix products of this machine in the same rounds, in GFLOP/s: {values}.")
    if any(entry["ceiling_share"] and entry["ceiling_share"]["median"] > 1 for entry in entries):
        lines.append(
            "Above 100 % of them: most likely 3 x 3 convolutions calculated with fewer multiplications than are counted."
        )
    if entries and len(entries) > 1:
        lines.append(
            "Times as fast: per image or pair, than the first row; median of the ratios by round (95 % interval)."
        )
    if report["settings"]["scored_on"] and any(entry["scores"] for entry in entries):
        lines.append(f"Scores: {report['settings']['scored_on']}.")
    loose = [
        label for label, entry in zip(_distinct_labels(entries), entries, strict=True) if not entry["stable"]
    ]
    ended = {"time": "the time was spent", "interrupted": "it was interrupted"}.get(report["ended"])
    if loose and ended:
        lines.append(f"Not stable within 2 % when {ended}: {', '.join(loose)}.")
    if machine["shared_with_other_work"]:
        lines.append(
            f"The machine was busy with other work at the start (load {machine['load_before']:g} on "
            f"{machine['cores']} cores): trust ratios more than seconds."
        )
    return lines


def label_entries(entries: Sequence[dict[str, Any]], *, with_backend: bool = False) -> list[str]:
    """A short name for each entry, with its views, members and batch where these tell entries apart.

    Args:
        entries: of the report.
        with_backend: name the backend too.
    """
    batches = {entry["batch"] for entry in entries}
    labels = []
    for entry in entries:
        label = _short(entry["model"])
        label += f", {entry['tta']}" if entry["tta"] != "none" and entry["tta"] not in _words(label) else ""
        label += f", batch {entry['batch']}" if len(batches) > 1 else ""
        labels.append(f"{label}, {entry['backend']}" if with_backend else label)
    return labels


def _distinct_labels(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Labels that stand without the backend beside them."""
    labels = label_entries(entries)
    return label_entries(entries, with_backend=True) if len(set(labels)) < len(labels) else labels


_SIZES, _RATES = 4, 9
"""Which columns begin the second and the third of the terminal's tables."""


def _columns(report: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Headings and cells, all but the name: time, then sizes, then rates and scores."""
    entries = report["entries"]
    of = "pair" if all(entry["dates"] == 2 for entry in entries) else "image"
    if len({entry["dates"] for entry in entries}) > 1:
        of = "image or pair"
    columns = [
        ("backend", [_backend(entry) for entry in entries]),
        (f"s per {of}", [_seconds(entry) for entry in entries]),
        ("times as fast", [_ratio(entry["times_as_fast"]) for entry in entries]),
        ("p95 s", [_plain_seconds(entry["seconds_p95"] / entry["batch"]) for entry in entries]),
        ("peak MB", [f"{entry['peak_mb']:,.0f}" for entry in entries]),
        ("start s", [f"{entry['cold_start_seconds']:.1f}" for entry in entries]),
        ("M param.", [f"{entry['parameters'] / 1e6:.2f}" for entry in entries]),
        ("GMAC", ["–" if entry["gmacs"] is None else f"{entry['gmacs']:,.1f}" for entry in entries]),
        ("file MB", [f"{entry['file_bytes'] / 1e6:,.1f}" for entry in entries]),
        ("GFLOP/s", ["–" if entry["gflops"] is None else f"{entry['gflops']:,.0f}" for entry in entries]),
        ("of ceiling", [_share(entry["ceiling_share"]) for entry in entries]),
    ]
    for name, heading in SCORE_NAMES.items():
        if any(name in entry["scores"] for entry in entries):
            cells = [f"{entry['scores'][name]:.3f}" if name in entry["scores"] else "–" for entry in entries]
            columns.append((heading, cells))
    return columns


def _table(columns: Sequence[tuple[str, list[str]]], labels: Sequence[str]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("model", overflow="fold")
    for heading, _ in columns:
        table.add_column(heading, justify="left" if heading == "backend" else "right")
    for label, *cells in zip(labels, *(cells for _, cells in columns), strict=True):
        table.add_row(Text(label), *cells)
    return table


def _backend(entry: dict[str, Any]) -> str:
    name = str(entry["backend"])
    return name if entry["arithmetic"] == "f32" else f"{name} {entry['arithmetic']}"


def _seconds(entry: dict[str, Any]) -> str:
    text = _plain_seconds(entry["seconds_per_scene"])
    if entry["seconds_interval"] is None:
        return text
    low, high = entry["seconds_interval"]
    return f"{text} ±{50 * (high - low) / entry['seconds_median']:.1f} %"


def _plain_seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: dict[str, float | None] | None) -> str:
    if value is None or value["median"] is None:
        return "–"
    if value["low"] is None or value["high"] is None:
        return f"{value['median']:.3g}"
    if value["low"] == value["high"]:
        return f"{value['median']:.3g}"
    return f"{value['median']:.3g} ({value['low']:.3g} to {value['high']:.3g})"


def _share(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{100 * value['median']:.0f} %"


def _named(failure: dict[str, Any]) -> str:
    return f"{failure['model']} on {failure['backend']}, batch {failure['batch']}"


def _short(model: str) -> str:
    """The end of a path that tells most, without backends, which stand beside it."""
    words = [word for word in model.split("+")[1:] if word in _BACKENDS]
    for word in words:
        model = model.replace(f"+{word}", "")
    if "://" in model or "/" not in model:
        return model.removeprefix("reference:")
    parts = PurePath(model).parts
    generic = parts[-1].partition("+")[0] in ("model", "model.onnx", "model.xml")
    return "/".join(parts[-2:]) if generic and len(parts) > 1 else parts[-1]


def _words(label: str) -> list[str]:
    return label.split("+")[1:]
