"""Protocols: which scenes a model is tested on and which it may learn from, as a file that others can use."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from aftermap.config import Config, explain
from aftermap.data.checking.overlap import groups, same_ground, same_images
from aftermap.data.checking.splits import assign_splits
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError
from aftermap.files import write_text

Kind = Literal["leave-one-event-out", "block", "split"]
VALIDATION = 0.15
"""Share of the places to learn from that choose the best step, by leave-one-event-out."""


class Fold(Config):
    """One test set, and what may be learned from for it.

    Attributes:
        name: of the event that is left out, or `block` or `split`.
        train, validation, test: names of scenes.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = Field(min_length=1)


class Protocol(Config):
    """Folds over the scenes of one dataset.

    Attributes:
        kind: `leave-one-event-out`: a fold for each event, whose scenes are tested. `block`: one fold, every event cut
            into strips. `split`: one fold, the splits that the dataset has.
        seed: of what is drawn.
        data: SHA-256 over names, events and image checksums of all labelled scenes; the same data gives the same.
        folds: in order.
    """

    format: Literal[1] = 1
    kind: Kind
    seed: int = 0
    data: str
    folds: tuple[Fold, ...] = Field(min_length=1)

    @property
    def sha256(self) -> str:
        """Of everything: results of one protocol can be compared."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def save(self, path: Path) -> Path:
        """Write it as JSON."""
        return write_text(path, json.dumps(self.model_dump(mode="json"), indent=1) + "\n", parents=True)

    @classmethod
    def load(cls, path: Path) -> "Protocol":
        """Read one.

        Raises:
            DataError: it cannot be read or understood.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from None
        except ValidationError as error:
            raise DataError(explain(error, cls, f"{path} is no protocol of this version")) from None


def make_protocol(manifest: Manifest, kind: Kind, *, seed: int = 0) -> Protocol:
    """Folds over the labelled scenes of a dataset.

    By leave-one-event-out, scenes of other events that share images or ground with the tested ones are left out of
    learning, and the places that choose the best step are those with the lowest hash of seed and name, whatever the
    order of the scenes.

    Raises:
        DataError: no labelled scenes, fewer than two events, or a dataset without splits.
    """
    scenes = _labelled(manifest)
    match kind:
        case "leave-one-event-out":
            folds = _by_event(scenes, seed)
        case "block":
            assigned = assign_splits(
                manifest.model_copy(update={"scenes": scenes}),
                by="block",
                fractions=(0.7, 0.1, 0.2),
                seed=seed,
            )
            folds = [_by_split("block", assigned.scenes)]
        case "split":
            folds = [_by_split("split", scenes)]
    return Protocol(kind=kind, seed=seed, data=data_digest(scenes), folds=tuple(folds))


def check_protocol(protocol: Protocol, manifest: Manifest) -> dict[str, Scene]:
    """The labelled scenes of a dataset by name, once it is seen that the protocol is about them and does not leak.

    Raises:
        DataError: other data, or scenes to learn from that share images or ground with tested ones.
    """
    scenes = {scene.name: scene for scene in _labelled(manifest)}
    if protocol.data != data_digest(list(scenes.values())):
        raise DataError(
            "the protocol was made of other scenes than this dataset has, or of other images: prepare the same data, or "
            "make a protocol of this one"
        )
    for fold in protocol.folds:
        learned = [scenes[name] for name in (*fold.train, *fold.validation)]
        tested = [scenes[name] for name in fold.test]
        both = [*learned, *tested]
        for pair in (*same_images(both), *same_ground(both)):
            first, second = sorted((pair.first, pair.second))
            if first < len(learned) <= second:
                raise DataError(
                    f"fold {fold.name} leaks: {both[first].name}, which is learned from, shows the same as "
                    f"{both[second].name}, which is tested"
                )
    return scenes


def data_digest(scenes: Sequence[Scene]) -> str:
    """SHA-256 over what scenes are called and show, in the order of their names."""
    told = sorted(
        [s.name, s.event, s.width, s.height, s.checksums.get("pre", ""), s.checksums.get("post", "")]
        for s in scenes
    )
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _labelled(manifest: Manifest) -> list[Scene]:
    scenes = [s for s in manifest.scenes if s.damage_mask is not None and s.post is not None]
    if not scenes:
        raise DataError("no scene has two dates and labels of damage, which a benchmark needs")
    return sorted(scenes, key=lambda scene: scene.name)


def _by_event(scenes: Sequence[Scene], seed: int) -> list[Fold]:
    events = sorted({scene.event for scene in scenes})
    if len(events) < 2:
        raise DataError(
            f"all scenes are of {events[0]}: to leave an event out takes two, pass --protocol block or split"
        )
    pairs = [(pair.first, pair.second) for pair in (*same_images(scenes), *same_ground(scenes))]
    places = groups(len(scenes), pairs)
    folds = []
    for event in events:
        others = [p for p in places if all(scenes[index].event != event for index in p)]
        ranked = sorted(others, key=lambda place: _hash(seed, scenes[place[0]].name))
        count = max(1, round(VALIDATION * len(ranked))) if len(ranked) > 1 else 0
        names = [sorted(scenes[i].name for p in part for i in p) for part in (ranked[count:], ranked[:count])]
        tested = tuple(scene.name for scene in scenes if scene.event == event)
        folds.append(Fold(name=event, train=tuple(names[0]), validation=tuple(names[1]), test=tested))
    return folds


def _by_split(name: str, scenes: Sequence[Scene]) -> Fold:
    parts = {
        split: tuple(s.name for s in scenes if s.split == split) for split in ("train", "validation", "test")
    }
    if not parts["test"]:
        raise DataError(
            "no labelled scene is in split test: split the dataset with 'aftermap data split', or pass another --protocol"
        )
    return Fold(name=name, **parts)


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
