"""What a reader hands over: the scenes of a dataset before any pixel is read, with what makes masks of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from shapely.geometry.base import BaseGeometry

from aftermap.data.legends import Legend
from aftermap.data.scene import RGB, Scene, SceneGrid, Split

Progress = Callable[[int, int], None]
"""Called with the number of what is finished and of all."""


@dataclass(frozen=True, slots=True)
class ExtraBand:
    """A raster of one band beside an image, such as a surface model; its values from `low` to `high` become 0 to 255."""

    name: str
    path: Path
    low: float = 0.0
    high: float = 255.0


@dataclass(frozen=True, slots=True)
class SourceScene:
    """One scene, or one image that is cut into scenes, as a reader found it.

    Attributes:
        name: unique in the dataset; begins the names of tiles.
        event: of the scene.
        pre: image of the first date.
        post: image of the second.
        labels: label files by their role.
        bands: names of the first image's bands in their order; `SKIPPED_BAND` for those to leave out.
        extra: rasters that become further bands.
        layers: 8-bit files of one band each that stay where they are, for images that are kept whole.
        crs: reference system, where the image states where it lies but not in which one.
        grid: georeference that the image does not state.
        outlines: buildings where they are known before, in pixels, x = column, y = row.
        split: where the scene belongs.
        source_split: as the publisher splits the images.
    """

    name: str
    event: str
    pre: Path
    post: Path | None = None
    labels: Mapping[str, Path] = field(default_factory=dict)
    bands: tuple[str, ...] = RGB
    extra: tuple[ExtraBand, ...] = ()
    layers: Mapping[str, Path] = field(default_factory=dict)
    crs: str | None = None
    grid: SceneGrid | None = None
    outlines: tuple[BaseGeometry, ...] | None = None
    split: Split = "unassigned"
    source_split: str | None = None

    @property
    def label(self) -> Path | None:
        """The first label file."""
        return next(iter(self.labels.values()), None)

    @property
    def files(self) -> dict[str, Path]:
        """The files whose content the prepared scene depends on, by role."""
        dates = {"pre": self.pre} if self.post is None else {"pre": self.pre, "post": self.post}
        extra = {band.name: band.path for band in self.extra}
        return {**dates, **self.labels, **extra, **self.layers}


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of a scene's pixels.

    Attributes:
        masks: uint8 (H, W) with IGNORE where unknown, by what they hold, the finest last: `building` 0 and 1,
            `damage` 0 to 4, `classes` those of the dataset's legend.
        polygons: buildings by class name, where the labels are polygons.
        grid: georeference, where known.
        event: name of the event, where the labels know it better than the file name.
        soft: float32 (K - 1, H, W) probabilities of the classes from 1 on, NaN where unknown, or None.
    """

    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    polygons: Mapping[str, int] = field(default_factory=dict)
    grid: SceneGrid | None = None
    event: str | None = None
    soft: np.ndarray | None = None


def _forget(_: Scene) -> None:
    """Finished scenes are noted by whoever gets them back."""


@dataclass(frozen=True, slots=True)
class PreparedFolder:
    """Where scenes are made.

    Attributes:
        path: absolute, holds masks, tiles and the manifest.
        known: scenes of an earlier or interrupted run with the same options, by name.
        note: called with every new scene.
        progress: for what has nothing else to count than its own steps.
    """

    path: Path
    known: Mapping[str, Scene] = field(default_factory=dict)
    note: Callable[[Scene], None] = _forget
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one source scene: scenes, and how often something odd was met or left out, by its name."""

    scenes: tuple[Scene, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


class MakeScenes(Protocol):
    """Makes the scenes of one source scene; picklable where several processes are wanted."""

    def __call__(self, source: SourceScene, folder: PreparedFolder, /) -> Made:
        """Masks and, where they are cut, images of one source scene.

        Raises:
            InputError: its files cannot be used.
            OutputError: a file cannot be written.
        """


def _nothing_odd(_: Mapping[str, Made]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset that was found, ready for `prepare`.

    Attributes:
        kind: name of the reader.
        scheme: name of the class scheme of the finest masks; that of the legend where there is one.
        scenes: with unique names.
        make: makes scenes of each.
        options: choices that change masks or tiles.
        notes: further entries for the manifest's options.
        legend: the classes of the masks, where these are of many classes.
        licence: under which the publisher gives the data away, in words.
        is_cut: images are cut into tiles, which belong to the prepared dataset.
        conclude: notes on what was met, which may be warned of.
    """

    kind: str
    scheme: str
    scenes: Sequence[SourceScene]
    make: MakeScenes
    options: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)
    legend: Legend | None = None
    licence: str | None = None
    is_cut: bool = False
    conclude: Callable[[Mapping[str, Made]], Mapping[str, str]] = _nothing_odd
