"""Prepared datasets as one: their scenes, their classes in one legend, and which of them each scene is of."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aftermap.classes import BUILDING, DAMAGE, ClassScheme
from aftermap.data.incremental.protocol import Protocol, protocol_for
from aftermap.data.incremental.task_tables import PLACES, TASKS, tasks_of
from aftermap.data.incremental.tile_filters import label_counts, relabelled
from aftermap.data.legend_union import DatasetLabels, union
from aftermap.data.legends import Legend, legend_of
from aftermap.data.scene import Manifest, Scene, Target, has_labels
from aftermap.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Pool:
    """Scenes of several datasets.

    Attributes:
        target: of the masks.
        legend: of all classes.
        datasets: the masks of each legend in it; empty where all masks are of this legend.
        members: number of each manifest's legend among `datasets`; None where that is empty.
        scenes: with labels, manifest after manifest; names of scenes and large images are unique.
        origins: number of each scene's manifest.
        tables: names of legends whose task tables are known.
    """

    target: Target
    legend: Legend
    datasets: tuple[DatasetLabels, ...]
    members: tuple[int | None, ...]
    scenes: tuple[Scene, ...]
    origins: tuple[int, ...]
    tables: tuple[str, ...] = ()

    def counts(self) -> list[dict[int, int]]:
        """Pixels of each class of the legend in each scene, IGNORE among them; see `label_counts`."""
        return [
            self._counts(scene, self.members[n]) for scene, n in zip(self.scenes, self.origins, strict=True)
        ]

    def mask_tables(self) -> list[np.ndarray]:
        """What the values of each scene's mask are in the legend, uint8 (256,)."""
        whole = np.arange(256, dtype=np.uint8)
        tables = [whole if member is None else self.datasets[member].table for member in self.members]
        return [tables[n] for n in self.origins]

    def protocol(self, task: str | Sequence[Sequence[str | int]], **options: Any) -> Protocol:
        """The protocol of a task on the pool: of its legend, or a table of one of the legends in it.

        Raises:
            RecipeError: see `protocol_for`; or datasets have different tables of this name.
        """
        options |= {"datasets": self.datasets} if self.datasets else {}
        if isinstance(task, str) and task not in tasks_of(self.legend):
            found = {name: TASKS[name][task] for name in self.tables if task in TASKS.get(name, {})}
            if len(found) > 1:
                raise RecipeError(
                    f"task {task!r} is known for {' and '.join(found)}: write its steps, 'building,road / water'"
                )
            for table, steps in found.items():
                options["places"] = options.get("places") or PLACES.get(table, {}).get(task, ())
                return protocol_for(self.legend, steps, name=task, **options)
        return protocol_for(self.legend, task, **options)

    def _counts(self, scene: Scene, member: int | None) -> dict[int, int]:
        counts = label_counts(scene, target=self.target)
        return counts if member is None else relabelled(counts, self.datasets[member].table)


def pool(
    manifests: Sequence[Manifest],
    *,
    target: Target,
    names: Sequence[str],
    rename: Mapping[str, str] | None = None,
    earlier: ClassScheme | None = None,
    without_events: Collection[str] = (),
) -> Pool:
    """Put datasets together.

    For the target `classes` a dataset without a legend takes part with its building masks.

    Args:
        manifests: at least one.
        target: which masks.
        names: of the manifests; where two have scenes or large images of one name, these are told apart by them.
        rename: see `legend_union.union`.
        earlier: see `legend_union.union`.
        without_events: events left out.

    Raises:
        DataError: it cannot be known which classes are the same; see `legend_union.union`.
    """
    legends = [_legend(manifest, target) for manifest in manifests]
    kinds: list[Legend] = []
    for legend in legends:
        if not any(_alike(legend, kind) for kind in kinds):
            kinds.append(legend)
    joint = union(kinds, rename=rename, earlier=earlier)
    members: list[int | None] = [None] * len(manifests)
    if joint.datasets:
        members = [next(k for k, kind in enumerate(kinds) if _alike(legend, kind)) for legend in legends]
    scenes: list[Scene] = []
    origins: list[int] = []
    for number, manifest in enumerate(manifests):
        for scene in manifest.scenes:
            own = _labelled(scene, target, manifest)
            if own is not None and scene.event not in without_events:
                scenes.append(own)
                origins.append(number)
    tables = tuple(dict.fromkeys(legend.name for legend in legends))
    return Pool(
        target,
        joint.legend,
        joint.datasets,
        tuple(members),
        tuple(_told_apart(scenes, origins, names)),
        tuple(origins),
        tables,
    )


def _legend(manifest: Manifest, target: Target) -> Legend:
    """The classes of a dataset's masks."""
    if target == "classes":
        return manifest.legend or legend_of(BUILDING)
    return legend_of(DAMAGE if target == "damage" else BUILDING)


def _alike(one: Legend, other: Legend) -> bool:
    return (one.names, one.background) == (other.names, other.background)


def _labelled(scene: Scene, target: Target, manifest: Manifest) -> Scene | None:
    """A scene with masks of the target; None where it has none."""
    if target == "classes" and manifest.legend is None and scene.building_mask is not None:
        counts = scene.class_pixels
        known = [counts[0], sum(counts[1:])] if counts else []
        return scene.model_copy(update={"class_mask": scene.building_mask, "class_pixels": known})
    return scene if has_labels(scene, target) else None


def _told_apart(scenes: Sequence[Scene], origins: Sequence[int], names: Sequence[str]) -> list[Scene]:
    """The scenes, those of a dataset renamed where another one has a scene or a large image of one of its names."""
    used: list[set[str]] = [set() for _ in names]
    for scene, number in zip(scenes, origins, strict=True):
        used[number] |= {scene.name} if scene.tile is None else {scene.name, scene.tile.source}
    counts = Counter(name for own in used for name in own)
    shared = {number for number, own in enumerate(used) if any(counts[name] > 1 for name in own)}
    places = [f"{name}-{number}" if names.count(name) > 1 else name for number, name in enumerate(names)]
    told = []
    for scene, number in zip(scenes, origins, strict=True):
        if number in shared:
            update: dict[str, Any] = {"name": f"{places[number]}-{scene.name}"}
            if scene.tile is not None:
                source = f"{places[number]}-{scene.tile.source}"
                update["tile"] = scene.tile.model_copy(update={"source": source})
            scene = scene.model_copy(update=update)
        told.append(scene)
    return told
