"""Few-shot tasks: an event at a time, some crops to adapt to and others, of other scenes, to be measured on."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

from aftermap.classes import IGNORE
from aftermap.data.batch import Batch
from aftermap.data.checking.overlap import by_place
from aftermap.data.loading.sampling import BuildingTarget, ShotConfig
from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.errors import DataError


class Shots:
    """Cuts and normalises crops; decodes a scene once, as long as memory allows."""

    def __init__(
        self,
        config: ShotConfig,
        *,
        target: BuildingTarget,
        dates: int,
        mean: Sequence[float],
        std: Sequence[float],
        band_order: Sequence[int] = (0, 1, 2),
    ) -> None:
        """Say what crops look like.

        Args:
            config: see `ShotConfig`.
            target: which mask comes with them.
            dates: images per crop.
            mean: per band in the order that the model wants, in units of the stored values (0..255).
            std: likewise.
            band_order: index, among red, green and blue, of each band that the model wants.
        """
        self.config = config
        self._target: BuildingTarget = target
        self._dates = dates
        self._mean = torch.tensor(mean).reshape(-1, 1, 1)
        self._std = torch.tensor(std).reshape(-1, 1, 1)
        self._order = list(band_order)
        self._kept: OrderedDict[str, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def batch(self, scenes: Sequence[Scene], rng: np.random.Generator) -> Batch:
        """One crop of every scene in the list, in its order."""
        crops = [self._crop(scene, rng) for scene in scenes]
        image = torch.from_numpy(np.stack([image for image, _ in crops])[:, :, self._order]).float()
        mask = torch.from_numpy(np.stack([mask for _, mask in crops])).long()
        return Batch((image - self._mean) / self._std, mask)

    def _crop(self, scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        images, mask = self._read(scene)
        image, label = cut(
            images, mask, rng, size_px=self.config.crop_px, class_share=self.config.class_share
        )
        if self.config.turn:
            quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))
            image, label = np.rot90(image, quarters, (-2, -1)), np.rot90(label, quarters)
            if mirrored:
                image, label = image[..., ::-1], label[..., ::-1]
        return image, label

    def _read(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        key = str(scene.pre)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        entry = read_images(scene, dates=self._dates), read_mask(scene, target=self._target)
        if entry[0].shape[-2:] != entry[1].shape:
            raise DataError(
                f"{scene.name}: image {entry[0].shape[-2:]} and mask {entry[1].shape} differ in size"
            )
        self._kept[key] = entry
        while len(self._kept) > 1 and self._bytes() > self.config.cache_mb * 1_000_000:
            self._kept.popitem(last=False)
        return entry

    def _bytes(self) -> int:
        return sum(image.nbytes + mask.nbytes for image, mask in self._kept.values())


class TaskSource:
    """Tasks by number: `task_set_size` in a row are of different events; the same number gives the same task."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        shots: Shots,
        *,
        support_shots: int,
        query_shots: int,
        task_set_size: int,
        seed: int,
    ) -> None:
        """Sort the scenes by event.

        Args:
            scenes: labelled scenes.
            shots: how crops are cut.
            support_shots: crops to adapt to, the first of a batch.
            query_shots: crops to be measured on, the others.
            task_set_size: tasks per set; each set is drawn anew from all events.
            seed: all draws follow from it and the number.

        Raises:
            DataError: fewer events than a set has tasks, or an event that cannot be parted.
        """
        by_event: dict[str, list[Scene]] = {}
        for scene in scenes:
            by_event.setdefault(scene.event, []).append(scene)
        self.events = tuple(sorted(by_event))
        if len(self.events) < task_set_size:
            raise DataError(
                f"{len(self.events)} events ({', '.join(self.events) or 'none'}) for sets of {task_set_size} tasks: "
                "each task of a set is another event; lower meta.task_set_size or add events"
            )
        self._places = {event: by_place(by_event[event]) for event in self.events}
        for event, places in self._places.items():
            if len(places) < 2:
                raise DataError(
                    f"event {event} has {len(by_event[event])} labelled scene(s) on the same ground: a task needs at "
                    "least two places, one to adapt to and one to be measured on"
                )
        self._shots = shots
        self._support, self._query = support_shots, query_shots
        self._set_size = task_set_size
        self._seed = seed

    @property
    def sets_per_epoch(self) -> int:
        """Task sets in which every event comes up once on average, rounded down (and at least one)."""
        return max(1, len(self.events) // self._set_size)

    def batch(self, index: int) -> Batch:
        """Task number `index`; see `task`."""
        number, position = divmod(index, self._set_size)
        drawn = np.random.default_rng((self._seed, 0, number)).permutation(len(self.events))
        return self._task(
            self.events[drawn[position]], np.random.default_rng((self._seed, 1, number, position))
        )

    def task(self, event: str, draw: int) -> Batch:
        """Draw number `draw` of an event, apart from all of `batch`: support first, then query."""
        return self._task(event, np.random.default_rng((self._seed, 2, self.events.index(event), draw)))

    def _task(self, event: str, rng: np.random.Generator) -> Batch:
        support, query = part(self._places[event], self._support, self._query, rng)
        return self._shots.batch([*support, *query], rng)


class ShotSource:
    """Batches of crops of a few scenes, as many of each as comes out even; the same number gives the same batch."""

    def __init__(self, scenes: Sequence[Scene], shots: Shots, *, batch_size: int, seed: int) -> None:
        if not scenes:
            raise DataError("no scenes to take crops from")
        self._scenes, self._shots = list(scenes), shots
        self._batch_size, self._seed = batch_size, seed

    def batch(self, index: int) -> Batch:
        """Batch number `index`: the scenes in turn."""
        first = index * self._batch_size
        count = len(self._scenes)
        scenes = [self._scenes[(first + i) % count] for i in range(self._batch_size)]
        return self._shots.batch(scenes, np.random.default_rng((self._seed, 3, index)))


def part(
    places: Sequence[Sequence[Scene]], support: int, query: int, rng: np.random.Generator
) -> tuple[list[Scene], list[Scene]]:
    """A scene for every shot, support and query from different places.

    Args:
        places: scenes that show the same ground are one place; at least two.
        support: shots to adapt to.
        query: shots to be measured on.
        rng: draws places, and a scene of each.

    Returns:
        Scenes of the support and of the query. With fewer places than shots they are shared out in the same ratio and
        scenes come more than once.
    """
    order = rng.permutation(len(places))
    wanted = support + query
    first = support if len(places) >= wanted else round(len(places) * support / wanted)
    first = min(max(first, 1), len(places) - 1)
    sides = order[:first], order[first : first + query]
    chosen = [[places[i][int(rng.integers(len(places[i])))] for i in side] for side in sides]
    parts = [
        [side[i % len(side)] for i in range(count)]
        for side, count in zip(chosen, (support, query), strict=True)
    ]
    return parts[0], parts[1]


def cut(
    images: np.ndarray, mask: np.ndarray, rng: np.random.Generator, *, size_px: int, class_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """A square crop of images (T, C, H, W) and mask (H, W); what lies outside is mirrored and IGNORE.

    With probability `class_share` its centre is at most a quarter of its size from a pixel of a class drawn
    from those that occur, the background aside.
    """
    height, width = mask.shape
    centre = int(rng.integers(height)), int(rng.integers(width))
    if rng.random() < class_share:
        thinned = mask[::4, ::4]
        classes = [c for c in np.unique(thinned) if c not in (0, IGNORE)]
        if classes:
            rows, cols = np.nonzero(thinned == classes[int(rng.integers(len(classes)))])
            at = int(rng.integers(len(rows)))
            jitter = rng.integers(-(size_px // 4), size_px // 4 + 1, 2)
            centre = int(rows[at]) * 4 + int(jitter[0]), int(cols[at]) * 4 + int(jitter[1])
    row = int(np.clip(centre[0] - size_px // 2, 0, max(0, height - size_px)))
    col = int(np.clip(centre[1] - size_px // 2, 0, max(0, width - size_px)))
    window = slice(row, row + size_px), slice(col, col + size_px)
    image, label = images[(..., *window)], mask[window]
    down, right = size_px - label.shape[0], size_px - label.shape[1]
    if down or right:
        image = np.pad(image, ((0, 0), (0, 0), (0, down), (0, right)), mode="symmetric")
        label = np.pad(label, ((0, down), (0, right)), constant_values=IGNORE)
    return image, label
