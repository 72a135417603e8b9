"""Protocols: which scenes a model is tested on and which it may learn from, as a file that others can use."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from aftermap.config import Config, explain
from aftermap.data.checking.overlap import by_place, groups, same_ground, same_images
from aftermap.data.checking.splits import assign_splits, buildings
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, InputError
from aftermap.files import write_text
from aftermap.wording import counted
from aftermap.workflows.adaptation.scenes import draw_scenes

Kind = Literal["leave-one-event-out", "few-shot", "block", "split"]
VALIDATION = 0.15
"""Share of the places to learn from that choose the best step, where events are left out."""
SHOTS = (0, 1, 5, 10)
"""How many labelled scenes of the event a model is adapted with, by few-shot."""
LEAST_TESTED = 3
"""Scenes that an event must have left to be tested on, by few-shot."""


class _Terse(Config):
    """What is empty is not written, so that a protocol that has no use for a field keeps its hash."""

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        terse = ("support", "shots", "left_out", "informed")
        return {name: value for name, value in handler(self).items() if value or name not in terse}


class Fold(_Terse):
    """One test set, and what may be learned from for it.

    Attributes:
        name: of the event that is left out, or `block` or `split`.
        train, validation, test: names of scenes.
        support: by few-shot, scenes of the event in the order in which they are added to adapt with.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = Field(min_length=1)
    support: tuple[str, ...] = ()


class Protocol(_Terse):
    """Folds over the scenes of one dataset.

    Attributes:
        kind: `leave-one-event-out`: a fold for each event, whose scenes are tested. `few-shot`: the same, but some scenes
            of the event are kept to adapt with. `block`: one fold, every event cut into strips. `split`: one fold, the
            splits that the dataset has.
        seed: of what is drawn.
        data: SHA-256 over names, events and image checksums of all labelled scenes; the same data gives the same.
        folds: in order.
        shots: by few-shot, how many scenes are adapted with; 0 is among them.
        left_out: events that have too few scenes for few-shot.
        informed: scenes to adapt with were drawn to show every kind of damage, see `draw_scenes`, and not by hash.
    """

    format: Literal[1] = 1
    kind: Kind
    seed: int = 0
    data: str
    folds: tuple[Fold, ...] = Field(min_length=1)
    shots: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    informed: bool = False

    @property
    def sha256(self) -> str:
        """Of everything: results of one protocol can be compared."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def only(self, names: Sequence[str]) -> "Protocol":
        """The protocol with these folds, in its own order; itself where none is named.

        Raises:
            InputError: it has no such fold.
        """
        known = [fold.name for fold in self.folds]
        for name in names:
            if name not in known:
                raise InputError(f"there is no fold {name}: the protocol has {', '.join(known)}")
        folds = tuple(fold for fold in self.folds if fold.name in names)
        return self.model_copy(update={"folds": folds}) if names else self

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


def make_protocol(
    manifest: Manifest,
    kind: Kind,
    *,
    seed: int = 0,
    shots: Sequence[int] = SHOTS,
    events: Sequence[str] = (),
    tested: int = 0,
    informed: bool = False,
) -> Protocol:
    """Folds over the labelled scenes of a dataset.

    By leave-one-event-out and few-shot, scenes of other events that share images or ground with the tested ones are left
    out of learning, and the places that choose the best step are those with the lowest hash of seed and name, whatever
    the order of the scenes. By few-shot so are the scenes to adapt with, among those with buildings; what shows the same
    as one of them is neither adapted with nor tested on.

    Args:
        manifest: the dataset.
        kind: of protocol.
        seed: of what is drawn.
        shots: by few-shot, how many scenes are adapted with; the first scenes are among those of a larger number.
        events: that are tested, where an event is; none tests each of them.
        informed: by few-shot, scenes to adapt with are drawn as `aftermap adapt` does, to show every kind of damage.
        tested: by few-shot, at most so many scenes of an event are tested, those of the lowest hash; 0 takes all.

    Raises:
        DataError: no labelled scenes, fewer than two events, too few scenes of an event, or a dataset without splits.
        InputError: events or scenes where the kind knows none, or unknown events.
    """
    scenes = _labelled(manifest)
    by_event = kind in ("leave-one-event-out", "few-shot")
    if events and not by_event:
        raise InputError(f"events are chosen by leave-one-event-out and few-shot, this protocol is {kind}")
    if (tested or informed) and kind != "few-shot":
        what = "the number of tested scenes" if tested else "how scenes to adapt with are drawn"
        raise InputError(f"{what} is of few-shot, this protocol is {kind}")
    match kind:
        case "leave-one-event-out" | "few-shot":
            folds = _by_event(scenes, seed, events)
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
    made = Protocol(kind=kind, seed=seed, data=data_digest(scenes), folds=tuple(folds))
    return _with_support(made, scenes, shots, tested, informed) if kind == "few-shot" else made


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
        learned = [scenes[name] for name in (*fold.train, *fold.validation, *fold.support)]
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


def _by_event(scenes: Sequence[Scene], seed: int, wanted: Sequence[str]) -> list[Fold]:
    events = sorted({scene.event for scene in scenes})
    if len(events) < 2:
        raise DataError(
            f"all scenes are of {events[0]}: to leave an event out takes two, pass --protocol block or split"
        )
    if unknown := [event for event in wanted if event not in events]:
        raise InputError(f"no labelled scene is of event {unknown[0]}: there are {', '.join(events)}")
    pairs = [(pair.first, pair.second) for pair in (*same_images(scenes), *same_ground(scenes))]
    places = groups(len(scenes), pairs)
    folds = []
    for event in [event for event in events if not wanted or event in wanted]:
        others = [p for p in places if all(scenes[index].event != event for index in p)]
        ranked = sorted(others, key=lambda place: hashed(seed, scenes[place[0]].name))
        count = max(1, round(VALIDATION * len(ranked))) if len(ranked) > 1 else 0
        names = [sorted(scenes[i].name for p in part for i in p) for part in (ranked[count:], ranked[:count])]
        tested = tuple(scene.name for scene in scenes if scene.event == event)
        folds.append(Fold(name=event, train=tuple(names[0]), validation=tuple(names[1]), test=tested))
    return folds


def _with_support(
    protocol: Protocol, scenes: Sequence[Scene], shots: Sequence[int], tested: int, informed: bool
) -> Protocol:
    """The same folds, with scenes of each event that are adapted with in place of tested."""
    counts = tuple(sorted({0, *shots}))
    if counts[0] < 0 or counts[-1] == 0:
        raise InputError(f"scenes to adapt with are numbers from 1 on, found {', '.join(map(str, shots))}")
    folds, left_out = [], []
    for fold in protocol.folds:
        ranked = sorted(
            by_place([scene for scene in scenes if scene.event == fold.name]),
            key=lambda place: hashed(protocol.seed, place[0].name),
        )
        rich = [next(filter(buildings, place)) for place in ranked if any(map(buildings, place))]
        if informed and len(rich) >= counts[-1]:
            rich = draw_scenes(rich, counts[-1], seed=protocol.seed)
        support = tuple(scene.name for scene in rich[: counts[-1]])
        apart = [place for place in ranked if not any(scene.name in support for scene in place)]
        rest = [scene.name for place in apart for scene in place]
        if len(support) < counts[-1] or len(rest) < LEAST_TESTED:
            left_out.append(fold.name)
            continue
        test = tuple(sorted(rest[: tested or None]))
        folds.append(fold.model_copy(update={"support": support, "test": test}))
    if not folds:
        raise DataError(
            f"no event has {counts[-1]} places with buildings to adapt with and {counted(LEAST_TESTED, 'scene')} more "
            f"to be tested on ({', '.join(left_out)}): ask for fewer, such as --shots 0,1"
        )
    return protocol.model_copy(
        update={"folds": tuple(folds), "shots": counts, "left_out": tuple(left_out), "informed": informed}
    )


def _by_split(name: str, scenes: Sequence[Scene]) -> Fold:
    parts = {
        split: tuple(s.name for s in scenes if s.split == split) for split in ("train", "validation", "test")
    }
    if not parts["test"]:
        raise DataError(
            "no labelled scene is in split test: split the dataset with 'aftermap data split', or pass another --protocol"
        )
    return Fold(name=name, **parts)


def hashed(seed: int, name: str) -> str:
    """What scenes and events are drawn by: the lowest come first."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
