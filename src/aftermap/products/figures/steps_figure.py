"""Draws what each step of class-incremental learning is told: tiles, their labels, and the mask of every step."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aftermap.data.incremental.protocol import Protocol
from aftermap.data.incremental.tile_filters import label_counts, relabelled, select_tiles
from aftermap.data.legends import Legend, rgb
from aftermap.data.scene import RGB, Scene, Target, read_bands, read_image, read_mask
from aftermap.products.figures.sheet import write_figure

_TILE_IN, _GAP_IN, _LEFT_IN, _DPI = 1.75, 0.1, 0.15, 150
_HEAD_IN, _COLUMN_IN, _LINE_IN = 0.6, 0.66, 0.26
_LETTERS, _LINES = 25, 3
_CLEAR = 0.02  # share of a tile from which a class can well be seen
_INK, _SOFT, _RULE, _UNKNOWN = "#17212b", "#5a6875", "#9aa5b1", "#d5dbe1"


def draw_steps(
    path: Path,
    scenes: Sequence[Scene],
    protocol: Protocol,
    legend: Legend,
    *,
    target: Target = "classes",
    rows: int = 6,
    title: str,
    tables: Sequence[np.ndarray] | None = None,
) -> Path:
    """Write a PNG with one row per tile: image, labels, and the training mask of each step.

    Tiles are picked so that every step learns from one of them at least, as far as there are rows; where a step does not
    learn from a tile, the place of its mask is empty and says so.

    Args:
        path: the file to write, in one step.
        scenes: those to train on.
        protocol: what each step sees.
        legend: of the dataset.
        target: which masks.
        rows: at most so many tiles.
        title: heading of the picture.
        tables: what the values of each scene's mask are in the legend, uint8 (256,); None where they are its classes.

    Raises:
        DataError: a step has no tile, or a file cannot be read.
        OutputError: the file cannot be written.
    """
    counts = [label_counts(scene, target=target) for scene in scenes]
    if tables is not None:
        counts = [relabelled(own, table) for own, table in zip(counts, tables, strict=True)]
    sets = [frozenset(own) for own in counts]
    used = [set(select_tiles(sets, protocol, step)) for step in range(len(protocol.steps))]
    tiles = _pick(scenes, counts, protocol, used, rows)
    columns = 2 + len(used)
    entries = _entries(protocol, legend)
    width_in = max(8.0, 2 * _LEFT_IN + columns * (_TILE_IN + _GAP_IN))
    entry_in = 0.55 + 0.085 * max(len(name) for name, _ in entries)
    per_line = max(1, int((width_in - 2 * _LEFT_IN) // entry_in))
    foot_in = 0.2 + _LINE_IN * -(-len(entries) // per_line)
    height_in = _HEAD_IN + _COLUMN_IN + len(tiles) * (_TILE_IN + 0.28) + foot_in
    figure = Figure(figsize=(width_in, height_in), dpi=_DPI, facecolor="white")

    def write(left_in: float, top_in: float, text: str, **options: Any) -> None:
        place = (left_in / width_in, 1 - top_in / height_in)
        figure.text(*place, text, parse_math=False, **({"va": "top", "color": _INK} | options))

    write(_LEFT_IN, 0.17, title, size=13, weight="bold")
    heads = [("image", ""), ("labels", "all classes")]
    heads += [(f"step {t}", ", ".join(protocol.names(new))) for t, new in enumerate(protocol.steps)]
    for column, (name, detail) in enumerate(heads):
        left_in = _LEFT_IN + column * (_TILE_IN + _GAP_IN)
        write(left_in, _HEAD_IN, name, size=9, weight="bold")
        lines = textwrap.wrap(detail, _LETTERS, max_lines=_LINES, placeholder=" ...", break_on_hyphens=False)
        write(left_in, _HEAD_IN + 0.17, "\n".join(lines), size=7, color=_SOFT, linespacing=1.1)
    for row, number in enumerate(tiles):
        top_in = _HEAD_IN + _COLUMN_IN + row * (_TILE_IN + 0.28)
        scene = scenes[number]
        mask = read_mask(scene, target=target)
        if tables is not None:
            mask = tables[number][mask]
        pictures = [_image(scene, target), _colours(legend.colours)[mask]]
        for step in range(len(used)):
            palette = _colours(protocol.legend(step, legend).colours)
            pictures.append(palette[protocol.lookup(step, "train")][mask])
        for column, picture in enumerate(pictures):
            left_in = _LEFT_IN + column * (_TILE_IN + _GAP_IN)
            box = (
                left_in / width_in,
                1 - (top_in + _TILE_IN) / height_in,
                _TILE_IN / width_in,
                _TILE_IN / height_in,
            )
            seen = column < 2 or number in used[column - 2]
            _draw(figure.add_axes(box), picture if seen else None, smooth=column == 0)
        write(_LEFT_IN, top_in + _TILE_IN + 0.05, _short(scene.name), size=6.5, color=_SOFT)
    handles = [Patch(facecolor=colour, edgecolor=_RULE, lw=0.6, label=name) for name, colour in entries]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(_LEFT_IN / width_in, 0.06 / height_in),
        borderaxespad=0,
        borderpad=0,
        ncols=per_line,
        frameon=False,
        fontsize=8,
        handlelength=1.2,
    )
    return write_figure(path, figure)


def _pick(
    scenes: Sequence[Scene],
    counts: Sequence[dict[int, int]],
    protocol: Protocol,
    used: Sequence[set[int]],
    rows: int,
) -> list[int]:
    """Tiles that show much, in turn for the step that fewest of them serve.

    One in which a new class of that step can well be seen, of another image than those before, with many classes.
    """
    clear = [
        {label for label, count in own.items() if count >= _CLEAR * scene.width * scene.height}
        for scene, own in zip(scenes, counts, strict=True)
    ]
    images = [scene.name if scene.tile is None else scene.tile.source for scene in scenes]
    picked: list[int] = []
    rest = set().union(*used)
    while rest and len(picked) < rows:
        step = min((t for t, own in enumerate(used) if own & rest), key=lambda t: len(used[t] & set(picked)))
        shown = Counter(images[tile] for tile in picked)
        new = set(protocol.new(step))
        best = max(
            sorted(used[step] & rest),
            key=lambda tile: (bool(clear[tile] & new), -shown[images[tile]], len(clear[tile])),
        )
        picked.append(best)
        rest.remove(best)
    return sorted(picked)


def _entries(protocol: Protocol, legend: Legend) -> list[tuple[str, str]]:
    """Names and colours of what can be seen in the masks."""
    last = protocol.legend(len(protocol.steps) - 1, legend)
    never = [(legend.names[label], legend.colours[label]) for label in protocol.never()]
    first = [("background or hidden", last.colours[0])]
    return [*zip(last.names[1:], last.colours[1:], strict=True), *never, *first, ("unknown", _UNKNOWN)]


def _colours(colours: Sequence[str]) -> np.ndarray:
    """Palette uint8 (256, 3); what has no class is grey."""
    palette = np.full((256, 3), rgb(_UNKNOWN), np.uint8)
    palette[: len(colours)] = [rgb(colour) for colour in colours]
    return palette


def _image(scene: Scene, target: Target) -> np.ndarray:
    """The image on which the labels are drawn, uint8 (H, W, 3)."""
    if target == "damage" and scene.post is not None:
        return read_image(scene.post).transpose(1, 2, 0)
    bands = RGB if set(RGB) <= set(scene.bands) else (scene.bands * 3)[:3]
    return read_bands(scene, bands).transpose(1, 2, 0)


def _draw(axes: Axes, picture: np.ndarray | None, *, smooth: bool) -> None:
    """A picture in its frame, or an empty frame that says why."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=_RULE, linewidth=0.6)
    if picture is not None:
        axes.imshow(picture, interpolation="antialiased" if smooth else "nearest")
        return
    centre: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, "not seen\nat this step", size=7, color=_SOFT, **centre)


def _short(name: str) -> str:
    return name if len(name) <= 32 else f"...{name[-29:]}"
