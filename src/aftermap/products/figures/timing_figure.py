"""Draws score against time: one point per model and runtime, one panel per score."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from aftermap.products.figures.sheet import COLOURS, FAINT, dress, panels, write_figure
from aftermap.wording import counted

MOST_POINTS = 24

_GAP_PX = 3.0
_RADII_PX = (9.0, 16.0, 24.0, 34.0, 46.0, 60.0)
_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


@dataclass(frozen=True, slots=True)
class TimingPoint:
    """A model as it is drawn.

    Attributes:
        label: beside the point.
        group: points of one group have one colour, named in the legend: the runtime.
        seconds: per image or pair.
        interval: of the seconds, where there is one.
        scores: by name; a model without any is marked on the time axis only.
    """

    label: str
    group: str
    seconds: float
    interval: tuple[float, float] | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


def draw_timing(
    path: Path,
    points: Sequence[TimingPoint],
    *,
    title: str,
    note: str = "",
    time_axis: str = "seconds per pair",
) -> Path:
    """Write a PNG with a panel per score that any point has: score upwards, time to the right on a log axis.

    Where no point has a score, one row per point shows the times alone.

    Args:
        path: the file to write, in one step.
        points: 1 to `MOST_POINTS`.
        title: heading.
        note: in small letters under it, such as what the scores were measured on.
        time_axis: what the time is of.

    Raises:
        ValueError: no point, too many, or a time that is not above 0.
        OutputError: the file cannot be written.
    """
    if not 1 <= len(points) <= MOST_POINTS:
        raise ValueError(f"{counted(len(points), 'point')} to draw, expected 1 to {MOST_POINTS}")
    if any(point.seconds <= 0 for point in points):
        raise ValueError("times must be above 0 for a logarithmic axis")
    names = list(dict.fromkeys(name for point in points for name in point.scores))
    groups = list(dict.fromkeys(point.group for point in points))
    legend = [Line2D([], [], linestyle="", marker="o", color=_colour(i)) for i in range(len(groups))], groups
    size = (6.4, 4.4 if names else 0.9 + 0.32 * len(points))
    sheet = partial(panels, title, max(1, len(names)), columns=max(1, len(names)), panel_in=size)
    notes = [note] if note else []
    labels = [_short(point.label) for point in points]
    figure, axes = sheet(notes=notes, legend=legend)
    if not names:
        _draw_rows(axes[0], points, groups)
        dress(axes[0], "", time_axis, lines="x")
    elif not _draw_panels(figure, axes, points, names, groups, labels, time_axis):
        numbers = [str(number + 1) for number in range(len(points))]
        key = [f"{number}  {label}" for number, label in zip(numbers, labels, strict=True)]
        figure, axes = sheet(notes=notes, legend=legend, foot=key)
        _draw_panels(figure, axes, points, names, groups, numbers, time_axis)
    return write_figure(path, figure)


def _draw_panels(
    figure: Figure,
    panels: Sequence[Axes],
    points: Sequence[TimingPoint],
    names: Sequence[str],
    groups: Sequence[str],
    labels: Sequence[str],
    time_axis: str,
) -> bool:
    """Points and labels of every score; returns whether all labels found a place."""
    for axes, name in zip(panels, names, strict=True):
        _draw_points(axes, points, name, groups)
        dress(axes, name, time_axis, lines="both")
    figure.draw_without_rendering()  # labels are placed in the pixels of the finished layout
    figure.set_layout_engine("none")
    colours = [_colour(groups.index(point.group)) for point in points]
    complete = True
    for axes, name in zip(panels, names, strict=True):
        spots = [(point.seconds, point.scores.get(name, _bottom(axes))) for point in points]
        complete &= _label(axes, spots, labels, colours)
    return complete


def _draw_points(axes: Axes, points: Sequence[TimingPoint], name: str, groups: Sequence[str]) -> None:
    values = [point.scores[name] for point in points if name in point.scores]
    room = max(0.02, 0.25 * (max(values) - min(values)))
    axes.set_ylim(max(-0.02, min(values) - room), max(values) + room)
    for point in points:
        colour = _colour(groups.index(point.group))
        if name not in point.scores:
            axes.plot(point.seconds, _bottom(axes), "^", color=colour, markersize=7, clip_on=False, zorder=3)
            continue
        if point.interval is not None:
            height = point.scores[name]
            axes.plot(point.interval, (height, height), color=colour, linewidth=1.6, alpha=0.6)
        look: dict[str, Any] = {"color": colour, "markersize": 7, "markeredgecolor": "white", "zorder": 3}
        axes.plot(point.seconds, point.scores[name], "o", **look)
    _time_scale(axes, points, right=2.6)


def _draw_rows(axes: Axes, points: Sequence[TimingPoint], groups: Sequence[str]) -> None:
    for row, point in enumerate(points):
        colour = _colour(groups.index(point.group))
        if point.interval is not None:
            axes.plot(point.interval, (row, row), color=colour, linewidth=1.6, alpha=0.6)
        axes.plot(point.seconds, row, "o", color=colour, markersize=7, markeredgecolor="white", zorder=3)
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "size": 8, "color": FAINT}
        axes.annotate(f"{point.seconds:.3g}", (point.seconds, row), (8, 0), **beside)
    axes.set_yticks(range(len(points)), [_short(point.label) for point in points], parse_math=False)
    axes.set_ylim(len(points) - 0.4, -0.6)
    _time_scale(axes, points, right=2.6)


def _time_scale(axes: Axes, points: Sequence[TimingPoint], *, right: float) -> None:
    """A logarithmic time axis with plain numbers at 1, 2 and 5, and room for labels at both ends."""
    seconds = [point.seconds for point in points]
    axes.set_xscale("log")
    axes.set_xlim(min(seconds) / (1 + 0.6 * (right - 1)), max(seconds) * right)
    several = max(seconds) / min(seconds) > 300
    axes.xaxis.set_major_locator(LogLocator(10, (1.0,) if several else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label(
    axes: Axes,
    spots: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colours: Sequence[str],
) -> bool:
    """Write each label at the nearest free place around its spot, with a line to it where that is far.

    Returns:
        Whether all found a place; those that did not are left out.
    """
    pixels = [axes.transData.transform(spot) for spot in spots]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in pixels]
    frame = axes.get_window_extent()
    back = axes.transData.inverted()
    complete = True
    for number in sorted(range(len(spots)), key=lambda n: (pixels[n][0], pixels[n][1])):
        look: dict[str, Any] = {
            "size": 8.5,
            "color": colours[number],
            "va": "bottom",
            "parse_math": False,
            "zorder": 4,
        }
        text = axes.text(*spots[number], labels[number], **look)
        extent = text.get_window_extent()
        at = (float(pixels[number][0]), float(pixels[number][1]))
        for box in _around(at, extent.width, extent.height):
            if _within(box, frame) and not any(box.overlaps(other) for other in taken):
                break
        else:
            text.remove()
            complete = False
            continue
        taken.append(box)
        x, y = back.transform((box.x0 + _GAP_PX, box.y0 + _GAP_PX))
        text.set_position((float(x), float(y)))
        _lead(axes, at, box)
    return complete


def _around(pixel: Sequence[float], width: float, height: float) -> Iterator[Bbox]:
    """Boxes of a label around a point, the nearest first."""
    width, height = width + 2 * _GAP_PX, height + 2 * _GAP_PX
    for radius, (right, up) in itertools.product(_RADII_PX, _DIRECTIONS):
        shrink = 0.7 if right and up else 1.0
        x, y = pixel[0] + right * radius * shrink, pixel[1] + up * radius * shrink
        left = x if right > 0 else x - width if right < 0 else x - width / 2
        low = y if up > 0 else y - height if up < 0 else y - height / 2
        yield Bbox.from_bounds(left, low, width, height)


def _lead(axes: Axes, pixel: Sequence[float], box: Bbox) -> None:
    """A thin line from a point to its label, unless they touch nearly."""
    x = min(max(pixel[0], box.x0 + _GAP_PX), box.x1 - _GAP_PX)
    y = min(max(pixel[1], box.y0 + _GAP_PX), box.y1 - _GAP_PX)
    if (x - pixel[0]) ** 2 + (y - pixel[1]) ** 2 > 20**2:
        ends = axes.transData.inverted().transform([pixel, (x, y)])
        axes.plot(ends[:, 0], ends[:, 1], color=FAINT, linewidth=0.7, zorder=2)


def _within(box: Bbox, frame: Bbox) -> bool:
    return bool(box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1)


def _bottom(axes: Axes) -> float:
    low, high = axes.get_ylim()
    return low + 0.025 * (high - low)


def _short(label: str) -> str:
    return label if len(label) <= 44 else f"{label[:26]}…{label[-17:]}"


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
