"""Draws what each step of class-incremental learning is told: tiles, their labels, and the mask of every step."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aftermap.data.incremental.protocol import Protocol
from aftermap.data.incremental.tile_filters import label_counts, relabelled, select_tiles
from aftermap.data.legends import Legend
from aftermap.data.scene import RGB, Scene, Target, read_bands, read_image, read_mask
from aftermap.products.figures.painting import palette
from aftermap.products.figures.sheet import PictureRow, pictures, swatches, write_figure

_CLEAR = 0.02  # share of a tile from which a class can well be seen
_UNKNOWN = "#d5dbe1"


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
    events = [scene.event for scene in scenes]
    used = [set(select_tiles(sets, protocol, step, events=events)) for step in range(len(protocol.steps))]
    tiles = _pick(scenes, counts, protocol, used, rows)
    headings = ["image", "labels: all classes"]
    added = protocol.places or [protocol.names(new) for new in protocol.steps]
    headings += [f"step {t}: {', '.join(names)}" for t, names in enumerate(added)]
    drawn = []
    for number in tiles:
        mask = read_mask(scenes[number], target=target)
        if tables is not None:
            mask = tables[number][mask]
        row: list[np.ndarray | str | None] = [
            _image(scenes[number], target),
            palette(legend.colours, _UNKNOWN)[mask],
        ]
        for step, own in enumerate(used):
            learned = palette(protocol.legend(step, legend).colours, _UNKNOWN)[protocol.lookup(step, "train")]
            row.append(learned[mask] if number in own else "not seen\nat this step")
        drawn.append(PictureRow([scenes[number].name], row))
    names, colours = zip(*_entries(protocol, legend), strict=True)
    figure, _ = pictures(title, headings, drawn, legend=swatches(names, colours))
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


def _image(scene: Scene, target: Target) -> np.ndarray:
    """The image on which the labels are drawn, uint8 (H, W, 3)."""
    if target == "damage" and scene.post is not None:
        return read_image(scene.post).transpose(1, 2, 0)
    bands = RGB if set(RGB) <= set(scene.bands) else (scene.bands * 3)[:3]
    return read_bands(scene, bands).transpose(1, 2, 0)
