"""What each step of class-incremental learning would learn from: its tiles, the pixels of its classes, what is hidden."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aftermap.classes import IGNORE
from aftermap.data.incremental.protocol import Protocol
from aftermap.data.incremental.tile_filters import label_counts, select_tiles
from aftermap.data.scene import Scene, Target


@dataclass(frozen=True, slots=True)
class StepSummary:
    """One step.

    Attributes:
        step: from 0.
        classes: names of the new classes.
        places: that the step adds, where steps add places.
        channels: of the model after the step, background included.
        tiles: numbers of the scenes that it learns from.
        pixels: of each class in these tiles that their masks tell: the new ones; all, where steps add places.
        hidden: of each other class in these tiles; their masks call it background.
        background: pixels of the dataset's own background.
        unknown: pixels that take no part.
    """

    step: int
    classes: tuple[str, ...]
    places: tuple[str, ...]
    channels: int
    tiles: tuple[int, ...]
    pixels: dict[str, int]
    hidden: dict[str, int]
    background: int
    unknown: int


def summarise_steps(
    scenes: Sequence[Scene],
    protocol: Protocol,
    *,
    target: Target = "classes",
    counts: Sequence[dict[int, int]] | None = None,
) -> list[StepSummary]:
    """All steps of a protocol on the scenes to train on, from the manifest's counts alone.

    Args:
        scenes: those to train on.
        protocol: what each step sees.
        target: which masks.
        counts: pixels of each class of the protocol in each scene; None where masks hold these classes as they are.

    Raises:
        DataError: a step has no tile to learn from.
    """
    counts = [label_counts(scene, target=target) for scene in scenes] if counts is None else counts
    sets = [frozenset(own) for own in counts]
    events = [scene.event for scene in scenes]
    return [_summary(counts, sets, events, protocol, step) for step in range(len(protocol.steps))]


def _summary(
    counts: Sequence[dict[int, int]],
    sets: Sequence[frozenset[int]],
    events: Sequence[str],
    protocol: Protocol,
    step: int,
) -> StepSummary:
    tiles = select_tiles(sets, protocol, step, events=events)
    total: Counter[int] = Counter()
    for tile in tiles:
        total.update(counts[tile])
    new, labelled = protocol.new(step), protocol.labelled(step)
    unknown = total.pop(IGNORE, 0)
    background = 0 if protocol.background is None else total.pop(protocol.background, 0)
    return StepSummary(
        step=step,
        classes=protocol.names(new),
        places=protocol.places[step] if protocol.places else (),
        channels=protocol.channels(step),
        tiles=tuple(tiles),
        pixels={protocol.classes[label]: total[label] for label in labelled},
        hidden={protocol.classes[label]: total[label] for label in sorted(total) if label not in labelled},
        background=background,
        unknown=unknown,
    )
