"""Batches of crops from a prepared dataset; batch number n is the same whenever and wherever it is asked for."""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock
from typing import assert_never

import cv2
import numpy as np
import torch

from aftermap.classes import IGNORE
from aftermap.data.augment.apply import apply_to_bytes, apply_to_floats
from aftermap.data.augment.chain import Drawn, draw
from aftermap.data.augment.operations import Leaf, OneOf, Operation, geometric, leaves, photometric
from aftermap.data.batch import Batch
from aftermap.data.loading.crops import Sample, crop_around, crop_best
from aftermap.data.loading.date_dropout import put_other_date
from aftermap.data.loading.sampling import (
    ClassSampling,
    EpochSampling,
    SamplingConfig,
    batches_per_epoch,
    epoch_order,
    pooled,
    post_chance,
    repetitions,
)
from aftermap.data.scene import RGB, Scene, Target, has_labels, read_bands, read_mask, read_pixels
from aftermap.data.soft_labels import SOFT_UNKNOWN, class_probabilities, read_soft
from aftermap.errors import DataError

_CLASSES = {"building": 2, "damage": 5}


@dataclass(frozen=True, slots=True)
class _Crops:
    """A batch before it becomes tensors: bands as planes (B, T, C, S, S), masks, and what is still to be done."""

    images: np.ndarray
    masks: np.ndarray
    rest: list[Drawn]
    soft: np.ndarray | None  # stored, (B, K - 1, S, S)
    resolution: np.ndarray
    dates: np.ndarray | None  # which each sample shows, where some lack one


class CropSource:
    """Draws augmented, normalised crops; safe to ask for from one thread, reads ahead in others.

    Attributes:
        device: where operations on floats run and batches are delivered; the draws do not depend on it.
        ahead: batches prepared in advance.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        scenes: Sequence[Scene],
        *,
        target: Target,
        dates: int,
        sampling: SamplingConfig,
        augment: Sequence[Operation] | None,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        bands: Sequence[str] = RGB,
        classes: int | None = None,
        lookups: Sequence[np.ndarray] | None = None,
        ahead: int = 2,
        workers: int = 2,
    ) -> None:
        """Plan the sampling.

        Args:
            scenes: the training scenes; those without labels give crops whose mask is all IGNORE.
            target: which mask is learned.
            dates: images per crop.
            sampling: see `ClassSampling` and `EpochSampling`.
            augment: None leaves crops as they are.
            mean: per band in the model's order, in units of the stored values (0..255).
            std: likewise.
            seed: all draws follow from it and the batch number.
            bands: the model's order of bands. Colour operations see the first three of red, green, blue and the rest.
            classes: classes of the masks; needed for the target `classes` and with `lookups`.
            lookups: for each scene what its mask's values become, uint8 (256,); a class or IGNORE.
            ahead: batches prepared in advance.
            workers: threads that prepare them.

        Raises:
            DataError: no scene at all, a mask that the target needs is missing, or bands that images do not have.
            ValueError: the number of classes is not told.
        """
        if not scenes:
            raise DataError("no training scenes: assign splits with 'aftermap data split'")
        self._bands = _given_bands(bands)
        if dates > 1 and set(bands) != set(RGB):
            raise DataError(f"the model wants the bands {', '.join(bands)}, pairs have {', '.join(RGB)}")
        operations = tuple(augment or ())
        self._geometry, self._photometry = geometric(operations), photometric(operations)
        _check_dates(self._photometry, dates)
        if sampling.date_dropout and (target != "damage" or dates != 2):
            raise DataError("sampling.date_dropout is for damage between two dates: leave it out")
        self._scenes = list(scenes)
        self._target: Target = target
        if classes is None and (target not in _CLASSES or lookups is not None):
            raise ValueError("the number of classes has to be told")
        self._classes = classes or _CLASSES[target]
        self._lookups = None if lookups is None else list(lookups)
        self._dates = dates
        self._sampling = sampling
        self._order = [self._bands.index(band) for band in bands]
        self._mean = torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1)
        self._seed = seed
        self.ahead = ahead
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="crops")
        self._pending: dict[int, Future[_Crops]] = {}
        self._cache: OrderedDict[tuple[int, str], np.ndarray] = OrderedDict()
        self._cache_bytes = 0
        self._lock = Lock()
        self._pixels = np.stack([self._class_pixels(i) for i in range(len(self._scenes))])
        self._chances = _scene_chances(self._pixels)
        labelled = np.array([has_labels(scene, target) for scene in self._scenes])
        self._labelled, self._bare = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        self._soft = any(scene.soft is not None for scene in self._scenes)
        self._repeats = [1] * len(self._scenes)
        if isinstance(sampling, EpochSampling) and target == "damage":
            self._repeats = [
                repetitions([int(c) for c in np.flatnonzero(pixels)], sampling.repeat)
                for pixels in self._pixels
            ]
        if sampling.soft_every:
            for number in self._bare:
                self._repeats[number] = 0
        self._both = isinstance(sampling, EpochSampling) and sampling.both_dates
        if self._both:
            self._repeats = self._date_repeats()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the scenes, repetitions counted."""
        return batches_per_epoch(self._sampling, sum(self._repeats))

    def batch(self, index: int) -> Batch:
        """Batch number `index`."""
        future = self._pending.pop(index, None) or self._pool.submit(self._crops, index)
        for following in range(index + 1, index + 1 + self.ahead):
            if following not in self._pending:
                self._pending[following] = self._pool.submit(self._crops, following)
        for stale in [i for i in self._pending if i < index]:
            self._pending.pop(stale).cancel()
        crops = future.result()
        drawn = crops.rest
        pixels = torch.from_numpy(crops.images).to(self.device)  # in the model's order
        mask = torch.from_numpy(crops.masks).to(self.device).long()
        soft = None
        if crops.soft is not None:
            soft = torch.from_numpy(class_probabilities(crops.soft)).to(self.device)
        mean, std = self._mean.to(self.device), self._std.to(self.device)
        image = pixels.float().sub_(mean).div_(std)
        touched = sorted({int(sample) for entry in drawn for sample in entry.samples})
        if touched:  # few are, in the published recipes: the others need no more than to become floats
            part = pixels[touched][:, :, np.argsort(self._order)] / 255  # red, green, blue again
            drawn = [replace(entry, samples=np.searchsorted(touched, entry.samples)) for entry in drawn]
            part, mask[touched], moved = apply_to_floats(
                drawn, part, mask[touched], None if soft is None else soft[touched]
            )
            image[touched] = (part[:, :, self._order] * 255 - mean) / std
            if soft is not None and moved is not None:
                soft[touched] = moved
        dates = put_other_date(image, crops.dates)
        return Batch(image, mask, soft, torch.from_numpy(crops.resolution).to(self.device), dates)

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _crops(self, index: int) -> _Crops:
        index = pooled(index, self._sampling, seed=self._seed)
        rng = np.random.default_rng((self._seed, index))
        shown = [self._sample(number, rng) for number in self._scene_numbers(index)]
        every = self._sampling.soft_every
        if every and index % every == 0 and len(self._bare):
            more = rng.choice(self._bare, self._sampling.batch_size)
            shown += [self._sample(int(number), rng) for number in more]
        samples = [sample for _, sample in shown]
        images = np.stack([sample.images for sample in samples])  # (B, T, S, S, 3)
        masks = np.stack([sample.mask for sample in samples])
        drawn = draw(self._photometry, rng, batch=len(samples), dates=images.shape[1])
        rest = apply_to_bytes(drawn, images)
        planes = np.empty((*images.shape[:2], len(self._order), *images.shape[2:4]), np.uint8)
        for place in np.ndindex(*images.shape[:2]):
            bands = cv2.split(images[place])
            for number, band in enumerate(self._order):
                planes[(*place, number)] = bands[band]
        pixel = [(self._scenes[number].resolution_m or np.nan) * sample.zoom for number, sample in shown]
        dates = self._sampling.date_dropout.draw(rng, len(samples))
        return _Crops(planes, masks, rest, self._stored_soft(samples), np.array(pixel, np.float32), dates)

    def _date_repeats(self) -> list[int]:
        """How often each image is shown where both of a scene are samples: pre and post by turns; a missing one never."""
        if self._dates != 1:
            raise DataError("sampling.both_dates is for models that see one date, and this one sees two")
        return [
            count if date == "pre" or scene.post is not None else 0
            for scene, count in zip(self._scenes, self._repeats, strict=True)
            for date in ("pre", "post")
        ]

    def _stored_soft(self, samples: Sequence[Sample]) -> np.ndarray | None:
        """Soft labels (B, K - 1, S, S) as they are stored, unknown where a sample has none."""
        if not self._soft:
            return None
        size = self._sampling.crop_px
        stored = np.full((len(samples), self._classes - 1, size, size), SOFT_UNKNOWN, np.uint8)
        for number, sample in enumerate(samples):
            if sample.soft is not None:
                stored[number] = sample.soft.transpose(2, 0, 1)
        return stored

    def _scene_numbers(self, index: int) -> list[int | None]:
        """The scenes of a batch; None where the class that is drawn decides."""
        sampling = self._sampling
        if not isinstance(sampling, EpochSampling):
            return [None] * sampling.batch_size
        epoch, position = divmod(index, self.steps_per_epoch)
        order = epoch_order(self._repeats, sampling, seed=self._seed, epoch=epoch)
        if len(order) < sampling.batch_size and sampling.drop_last:
            order = np.resize(order, sampling.batch_size)  # fewer scenes than a batch: they come round again
        first = position * sampling.batch_size
        return [int(number) for number in order[first : first + sampling.batch_size]]

    def _sample(self, number: int | None, rng: np.random.Generator) -> tuple[int, Sample]:
        """The scene that is shown, and the crop of it."""
        sampling = self._sampling
        match sampling:
            case EpochSampling():
                assert number is not None
                number, date = divmod(number, 2) if self._both else (number, 0)
                return number, crop_best(
                    *self._pair(number, rng, post=bool(date)),
                    sampling=sampling,
                    geometry=self._geometry,
                    classes=self._classes,
                    rng=rng,
                    soft=self._read_soft(number),
                )
            case ClassSampling():
                wanted = None
                if number is not None:
                    pass
                # nothing is drawn where every scene has labels, so that such runs stay what they were
                elif len(self._bare) and rng.random() < self._bare_share(sampling):
                    number = int(rng.choice(self._bare))
                elif (wanted := self._wanted_class(sampling, rng)) is None:
                    number = int(self._labelled[rng.integers(len(self._labelled))])
                else:
                    number = int(rng.choice(len(self._scenes), p=self._chances[wanted]))
                return number, crop_around(
                    *self._pair(number, rng),
                    wanted=wanted,
                    sampling=sampling,
                    geometry=self._geometry,
                    classes=self._classes,
                    rng=rng,
                    soft=self._read_soft(number),
                )
            case _:
                assert_never(sampling)

    def _read_soft(self, number: int) -> np.ndarray | None:
        return self._read(number, "soft") if self._scenes[number].soft is not None else None

    def _bare_share(self, sampling: ClassSampling) -> float:
        """Chance of a crop from a scene without labels."""
        if not len(self._labelled):
            return 1.0
        if sampling.soft_every:
            return 0.0
        share = sampling.unlabelled_share
        return len(self._bare) / len(self._scenes) if share is None else share

    def _wanted_class(self, sampling: ClassSampling, rng: np.random.Generator) -> int | None:
        weights = np.zeros(self._classes)
        given = sampling.class_weights[: self._classes]
        weights[: len(given)] = given
        weights *= self._chances.sum(axis=1) > 0
        if weights.sum() == 0 or rng.random() >= sampling.class_share:
            return None
        return int(rng.choice(self._classes, p=weights / weights.sum()))

    def _pair(
        self, number: int, rng: np.random.Generator, *, post: bool = False
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Images (H, W, C) of each date and mask (H, W) of a scene; of one date, now and then the second."""
        dates = ["post"] if post else ["pre", "post"][: self._dates]
        chance = post_chance(self._sampling)
        if self._dates == 1 and chance and self._scenes[number].post is not None and rng.random() < chance:
            dates = ["post"]
        images, mask = [self._read(number, date) for date in dates], self._read(number, "mask")
        for image in images:
            if image.shape[:2] != mask.shape:
                raise DataError(
                    f"{self._scenes[number].name}: image {image.shape[:2]} and mask {mask.shape} differ in size"
                )
        return images, mask

    def _read(self, number: int, what: str) -> np.ndarray:
        """An image (H, W, C), the mask (H, W) or the soft labels (H, W, K - 1) of a scene, kept in memory."""
        with self._lock:
            if (number, what) in self._cache:
                self._cache.move_to_end((number, what))
                return self._cache[number, what]
        scene = self._scenes[number]
        if what == "mask":
            entry = read_mask(scene, target=self._target)
            if self._lookups is not None:
                entry = self._lookups[number][entry]
        elif what == "soft":
            entry = read_soft(scene)
            if entry.shape[2] != self._classes - 1:
                raise DataError(
                    f"{scene.soft} tells {entry.shape[2] + 1} classes, the model learns {self._classes}"
                )
        else:
            path = scene.pre if what == "pre" else scene.post
            if path is None:
                raise DataError(f"scene {scene.name} has no post image, and this model needs both dates")
            entry = read_pixels(path) if self._bands == RGB else _interleaved(read_bands(scene, self._bands))
        with self._lock:
            if (number, what) not in self._cache:
                self._cache[number, what] = entry
                self._cache_bytes += entry.nbytes
            while self._cache_bytes > self._sampling.cache_mb * 1_000_000 and len(self._cache) > 1:
                _, old = self._cache.popitem(last=False)
                self._cache_bytes -= old.nbytes
        return entry

    def _class_pixels(self, number: int) -> np.ndarray:
        """Pixels of each class in a scene, from the manifest where it tells them."""
        scene, counts = self._scenes[number], list(self._scenes[number].class_pixels)
        told = len(counts) >= self._classes or (counts and self._target == "classes")
        if not told and scene.is_labelled:
            counts = np.bincount(self._raw_mask(number).ravel(), minlength=256)[:IGNORE].tolist()
        if counts and self._target == "building":
            counts = [counts[0], sum(counts[1:])]
        if self._lookups is not None:
            becomes = self._lookups[number][: len(counts)]
            counts = np.bincount(becomes, weights=counts, minlength=256)[:IGNORE].tolist()
        pixels = np.zeros(self._classes)
        counts = counts[: self._classes]
        pixels[: len(counts)] = counts
        return pixels

    def _raw_mask(self, number: int) -> np.ndarray:
        """The mask of a scene, before any lookup."""
        if self._lookups is None:
            return self._read(number, "mask")
        return read_mask(self._scenes[number], target=self._target)


def _given_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """The order in which bands are read: red, green and blue first where all three are among them.

    Raises:
        DataError: a band twice.
    """
    if len(set(bands)) != len(bands):
        raise DataError(f"the model wants a band twice: {', '.join(bands)}")
    if not set(RGB) <= set(bands):
        return tuple(bands)
    return (*RGB, *(band for band in bands if band not in RGB))


def _interleaved(planes: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W, C), contiguous."""
    pixels: np.ndarray = cv2.merge(list(planes)).reshape(*planes.shape[1:], len(planes))
    return pixels


def _scene_chances(pixels: np.ndarray) -> np.ndarray:
    """(classes, scenes): chance of each scene when a crop of that class is wanted; rows of 0 are absent."""
    # a scene with four times the pixels is wanted twice as often
    chance = np.sqrt(pixels.T)
    total = chance.sum(axis=1, keepdims=True)
    shares: np.ndarray = chance / np.where(total > 0, total, 1)
    return shares


def _check_dates(operations: Sequence[Leaf | OneOf], dates: int) -> None:
    """Refuse operations on a date that the model does not see."""
    for operation in operations:
        for leaf in leaves(operation):
            if dates == 1 and getattr(leaf, "dates", "both") == "post":
                raise DataError(f"augment: {leaf.op} changes the post image, and this model sees one date")
