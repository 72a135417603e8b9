"""The protocol of class-incremental learning: which classes come at which step, and what a mask tells a model then."""

import difflib
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from aftermap.classes import IGNORE
from aftermap.config import Config, build_config
from aftermap.data.incremental.task_tables import PLACES, tasks_of
from aftermap.data.legend_union import DatasetLabels, plain_name
from aftermap.data.legends import Legend
from aftermap.errors import RecipeError
from aftermap.wording import counted

TileUse = Literal["train", "validation", "test", "replay"]
Future = Literal["ignore", "background"]
Filter = Literal["overlapped", "disjoint", "image-split"]

BACKGROUND = "background"
"""Name of channel 0 of every incremental model."""
_BLACK = "#000000"


class Protocol(Config):
    """Which classes are learned at which step, and on what.

    A class of no step is background in every use. Channel 0 of a model is the background: the dataset's own, or one
    that is added.

    Attributes:
        task: its name.
        classes: names of the dataset's classes; the index is the value in its masks.
        background: index of the dataset's own background; None where it has none and one is added.
        steps: indices of the new classes of each step. The dataset's own background may stand in the first and is
            taken out.
        future: what classes of later steps are in validation and test: unknown, or background.
        filter: which tiles a step learns from; see `data.tile_filters`.
        seed: of the image split.
        compat_new_only: validation knows the new classes alone, all others are unknown, as in the original: a model that
            forgets everything loses nothing there.
        compat_ignored_is_background: unknown pixels become background in training and test, as the original did to those
            of Agriculture-Vision.
        compat_background_selects: the dataset's own background counts as a new class of the first step when tiles are
            chosen, so that tiles with nothing else are learned from.
        compat_ignored_excludes: the filter `disjoint` leaves out every tile with an unknown pixel.
        datasets: what the masks of each legend are among `classes`, where datasets label different classes; empty where
            masks hold `classes` as they are.
        places: events whose tiles each step learns from, where later steps add places and no class: all classes are known
            from step 0 on, and masks of training keep them. Empty where steps add classes, which choose the tiles.
    """

    task: Annotated[str, Field(min_length=1)]
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=IGNORE)]
    background: Annotated[int, Field(ge=0)] | None = None
    steps: Annotated[tuple[tuple[int, ...], ...], Field(min_length=1)]
    future: Future = "ignore"
    filter: Filter = "overlapped"
    seed: int = 0
    compat_new_only: bool = False
    compat_ignored_is_background: bool = False
    compat_background_selects: bool = False
    compat_ignored_excludes: bool = False
    datasets: tuple[DatasetLabels, ...] = ()
    places: tuple[tuple[Annotated[str, Field(min_length=1)], ...], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_background(cls, tree: Any) -> Any:
        """The same values, the dataset's own background taken out of the first step: channel 0 is always there."""
        if not isinstance(tree, dict) or tree.get("background") is None or not tree.get("steps"):
            return tree
        first, *later = tree["steps"]
        if not isinstance(first, (list, tuple)):
            return tree
        own = tree["background"]
        return tree | {"steps": (tuple(label for label in first if label != own), *later)}

    @model_validator(mode="after")
    def _steps_fit_the_classes(self) -> Self:
        if self.background is not None and self.background >= len(self.classes):
            raise ValueError(f"background is {self.background}, there are {len(self.classes)} classes")
        for dataset in self.datasets:
            if max(dataset.values) >= len(self.classes):
                raise ValueError(
                    f"{dataset.legend} has class {max(dataset.values)}, the classes are 0 to {len(self.classes) - 1}"
                )
        met: dict[int, int] = {}
        for step, labels in enumerate(self.steps):
            if not labels and not (self.places and step):
                own = " but the background" if self.background is not None and step == 0 else ""
                raise ValueError(f"step {step} has no class{own}: give it one, or leave it out")
            for label in labels:
                if not 0 <= label < len(self.classes):
                    raise ValueError(
                        f"step {step} names class {label}, the classes are 0 to {len(self.classes) - 1}"
                    )
                name = self.classes[label]
                if label in met:
                    where = (
                        f"twice in step {step}" if met[label] == step else f"in steps {met[label]} and {step}"
                    )
                    raise ValueError(f"class {name!r} is {where}: a class is new once")
                if label == self.background:
                    raise ValueError(
                        f"step {step} names {name!r}, the dataset's own background: it is channel 0 from the first "
                        "step on, leave it out"
                    )
                if name == BACKGROUND:
                    raise ValueError(
                        f"step {step} names the class {name!r}, which is what channel 0 is called: make it the "
                        "background of the legend"
                    )
                met[label] = step
        if self.channels(len(self.steps) - 1) > IGNORE:
            raise ValueError(f"{len(met)} classes and the background are more than a mask of 8 bits can hold")
        return self

    @model_validator(mode="after")
    def _places_fit_the_steps(self) -> Self:
        if not self.places:
            return self
        if len(self.places) != len(self.steps):
            raise ValueError(
                f"places of {counted(len(self.places), 'step')}, the task has {len(self.steps)}: give some to each"
            )
        met: dict[str, int] = {}
        for step, (labels, places) in enumerate(zip(self.steps, self.places, strict=True)):
            if step and labels:
                raise ValueError(
                    f"step {step} adds {', '.join(self.names(labels))}: steps that add places want every class to be "
                    "known from step 0 on"
                )
            if not places:
                raise ValueError(f"step {step} adds no place: name one, or leave the step out")
            for place in places:
                if place in met:
                    raise ValueError(
                        f"place {place!r} is in steps {met[place]} and {step}: a place is new once"
                    )
                met[place] = step
        if self.filter != "overlapped":
            raise ValueError(f"filter {self.filter} chooses tiles by class, places do it here: leave it out")
        return self

    def heads(self, step: int) -> list[int]:
        """Channels that each step up to `step` added to the model; the background is among those of the first."""
        self._check(step)
        return [len(labels) + (number == 0) for number, labels in enumerate(self.steps[: step + 1])]

    def channels(self, step: int) -> int:
        """Channels of the model after a step, background included."""
        return sum(self.heads(step))

    def old_classes(self, step: int) -> int:
        """Channels of the model before a step; 0 before the first."""
        return sum(self.heads(step)[:-1])

    def new_classes(self, step: int) -> int:
        """Channels that a step adds; the background is one of the first step's."""
        return self.heads(step)[-1]

    def new(self, step: int) -> tuple[int, ...]:
        """Labels in the dataset's masks of the classes that are new at a step."""
        self._check(step)
        return self.steps[step]

    def labelled(self, step: int) -> tuple[int, ...]:
        """Labels of the classes that masks of training tell at a step: the new ones; all, where steps add places."""
        return self.seen(step) if self.places else self.new(step)

    def is_place_seen(self, step: int, place: str) -> bool:
        """Whether a place is of a step up to `step`; any is where steps add classes."""
        return not self.places or any(place in added for added in self.places[: step + 1])

    def seen(self, step: int) -> tuple[int, ...]:
        """Labels of the classes of all steps up to `step`, in the order of the model's channels 1, 2, ..."""
        self._check(step)
        return tuple(label for labels in self.steps[: step + 1] for label in labels)

    def later(self, step: int) -> tuple[int, ...]:
        """Labels of the classes of the steps after `step`."""
        self._check(step)
        return tuple(label for labels in self.steps[step + 1 :] for label in labels)

    def never(self) -> tuple[int, ...]:
        """Labels of the classes of no step, the dataset's own background left out: they are background."""
        learned = {*self.seen(len(self.steps) - 1), self.background}
        return tuple(label for label in range(len(self.classes)) if label not in learned)

    def names(self, labels: Sequence[int]) -> tuple[str, ...]:
        """Names of classes by their labels."""
        return tuple(self.classes[label] for label in labels)

    def channel_names(self, step: int) -> tuple[str, ...]:
        """Names of the channels of the model after a step."""
        return (BACKGROUND, *self.names(self.seen(step)))

    def legend(self, step: int, legend: Legend) -> Legend:
        """Names and colours of the channels of the model after a step.

        Args:
            step: from 0.
            legend: of the dataset.

        Raises:
            RecipeError: the legend has other classes than the protocol.
        """
        if legend.names != self.classes or legend.background != self.background:
            raise RecipeError(
                f"legend {legend.name} has the classes {', '.join(legend.names)}; task {self.task} is made for "
                f"{', '.join(self.classes)}"
            )
        own = _BLACK if self.background is None else legend.colours[self.background]
        return Legend(
            name=f"{legend.name}-{self.task}-{step}",
            names=self.channel_names(step),
            colours=(own, *(legend.colours[label] for label in self.seen(step))),
            background=0,
        )

    def hidden_in(self, step: int, dataset: int | None) -> tuple[int, ...]:
        """Labels of the classes learned up to a step that may be in the background of a dataset.

        Those that it does not label; none where it labels every pixel as one of its classes.

        Args:
            step: from 0.
            dataset: number among `datasets`; None for masks of all classes.
        """
        if dataset is None or self.background not in self.datasets[dataset].values:
            return ()
        return tuple(label for label in self.seen(step) if label not in self.datasets[dataset].values)

    def lookup(self, step: int, use: TileUse, *, dataset: int | None = None) -> np.ndarray:
        """What each value of the dataset's masks is at a step, as uint8 (256,): `lookup[mask]` is the mask to use.

        | | new classes | old classes | later classes | background, classes of no step | unknown |
        | --- | --- | --- | --- | --- | --- |
        | train | channel | background | background | background | unknown |
        | validation, test | channel | channel | as `future` says | background | unknown |
        | replay | channel | unknown | unknown | unknown | unknown |

        `replay` is for tiles that are remembered from this very step: what was not labelled then is unknown, for in the
        mask as it was, nothing told the true background from the classes of other steps.

        Where steps add places, all classes count as new ones in every step.

        The own background of a dataset that does not label all classes seen may be one of those: it is unknown in
        validation and test, and background in training, where the old model tells what is in it.

        Args:
            step: from 0.
            use: what the mask is for.
            dataset: number among `datasets` of the one whose masks these are; None for masks of `classes`.

        Raises:
            RecipeError: there is no such step.
        """
        table = np.full(256, IGNORE, np.uint8)
        known = {label: channel for channel, label in enumerate(self.seen(step), 1)}
        new = {label: known[label] for label in self.labelled(step)}
        nothing = [*self.never(), *([] if self.background is None else [self.background])]
        if use == "replay":
            kept = new
        elif use == "train":
            kept = dict.fromkeys(range(len(self.classes)), 0) | new
        elif use == "validation" and self.compat_new_only:
            kept = dict.fromkeys(nothing, 0) | new
        else:
            hidden = self.later(step) if self.future == "background" else ()
            kept = dict.fromkeys([*nothing, *hidden], 0) | known
        for label, channel in kept.items():
            table[label] = channel
        if use in ("validation", "test") and self.hidden_in(step, dataset):
            table[self.background] = IGNORE
        if self.compat_ignored_is_background and use in ("train", "test"):
            table[IGNORE] = 0
        return table if dataset is None else table[self.datasets[dataset].table]

    @property
    def sha256(self) -> str:
        """Of everything in it: equal for protocols that are equal."""
        tree = self.model_dump(mode="json")
        if not self.datasets:  # as before there were any
            del tree["datasets"]
        if not self.places:
            del tree["places"]
        text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def _check(self, step: int) -> None:
        if not 0 <= step < len(self.steps):
            raise RecipeError(f"task {self.task} has the steps 0 to {len(self.steps) - 1}, found {step}")


def protocol_for(
    legend: Legend, task: str | Sequence[Sequence[str | int]], *, name: str = "custom", **options: Any
) -> Protocol:
    """The protocol of a task on a dataset.

    Args:
        legend: classes of the dataset.
        task: name of a task of this legend; or the classes of each step, by name or index; or the same as text,
            `building,road / water`.
        name: of a task whose steps are given.
        **options: fields of `Protocol`, such as `filter` and `seed`. With `places`, steps after the first need not be
            written: they add no class.

    Raises:
        RecipeError: an unknown task or class (the nearest is named), a class that comes twice, a step without
            classes, or an option that is none.
    """
    steps: Sequence[Sequence[str | int]]
    if isinstance(task, str) and not set(task) & {",", "/"}:
        known = tasks_of(legend)
        if task not in known:
            hint = _nearest(task, list(known))
            raise RecipeError(
                f"legend {legend.name} has no task {task!r}: {hint}; steps of your own are written "
                "'building,road / water'"
            )
        name, steps = task, known[task]
        options["places"] = options.get("places") or PLACES.get(legend.name, {}).get(task, ())
    else:
        steps = _parse(task) if isinstance(task, str) else task
    labels = tuple(tuple(_label(legend, value) for value in step) for step in steps)
    if len(labels) == 1:
        labels += ((),) * (len(options.get("places", ())) - 1)
    tree = options | {
        "task": name,
        "classes": legend.names,
        "background": legend.background,
        "steps": labels,
    }
    return build_config(Protocol, tree, source=f"task {name} of {legend.name}")


def describe(protocol: Protocol) -> list[str]:
    """What a protocol says, in lines to print."""
    own = protocol.background
    ground = "added" if own is None else f"the dataset's own ({protocol.classes[own]})"
    lines = [
        f"task {protocol.task}: {counted(len(protocol.steps), 'step')}, filter {protocol.filter}, background {ground}",
    ]
    for step, labels in enumerate(protocol.steps):
        first = protocol.old_classes(step) or 1
        names = (f"{name} {channel}" for channel, name in enumerate(protocol.names(labels), first))
        line = ", ".join(names) or "no new class"
        if protocol.places:
            line += f"; places: {', '.join(protocol.places[step])}"
        lines.append(f"step {step}: {line}")
    if never := protocol.never():
        lines.append(f"never learned, background: {', '.join(protocol.names(never))}")
    last = len(protocol.steps) - 1
    for number, dataset in enumerate(protocol.datasets):
        listed = sorted({label for label in dataset.values if label != protocol.background})
        line = f"{dataset.legend} labels {', '.join(protocol.names(listed))}"
        if hidden := protocol.hidden_in(last, number):
            line += f"; its background may hold {', '.join(protocol.names(hidden))}"
        lines.append(line)
    switches = [key for key, value in protocol if key.startswith("compat_") and value]
    if switches:
        lines.append(f"as the original: {', '.join(switches)}")
    return lines


def _parse(text: str) -> list[list[str]]:
    """`building, road / water`, or `[[building, road], [water]]` as in a recipe, as lists of names.

    An empty step stays one, to be refused with its number.
    """
    if text.strip().startswith("[["):
        text = text.replace("],", "/").translate(str.maketrans("", "", "[]\"'"))
    return [[name.strip() for name in part.split(",") if name.strip()] for part in text.split("/")]


def _label(legend: Legend, value: str | int) -> int:
    """Index of a class by its name, whatever its case and word separators, or by the index itself."""
    if isinstance(value, int):
        return value
    plain = {plain_name(name): index for index, name in reversed(list(enumerate(legend.names)))}
    if plain_name(value) in plain:
        return plain[plain_name(value)]
    if value.isdecimal():
        return int(value)
    hint = _nearest(value, list(legend.names))
    raise RecipeError(f"legend {legend.name} has no class {value!r}: {hint}")


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
