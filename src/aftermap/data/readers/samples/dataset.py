"""A dataset of samples: each becomes a scene, whose images and mask are written beside the manifest."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from aftermap.classes import BUILDING, DAMAGE, IGNORE
from aftermap.data.band_files import Pixels
from aftermap.data.file_content import checksum, read_bytes
from aftermap.data.geotransform import scene_grid
from aftermap.data.legends import Legend
from aftermap.data.preparing.cutter import write_tile
from aftermap.data.preparing.dataset import Dataset, Made, PreparedFolder, SourceScene
from aftermap.data.preparing.dataset import Labels as SceneLabels
from aftermap.data.preparing.journal import IMAGES
from aftermap.data.preparing.scene_files import has_its_files, write_scene
from aftermap.data.readers.class_labels import LabelReader
from aftermap.data.readers.published.release import split_of
from aftermap.data.readers.samples.columns import Columns, Labels, Samples, placed
from aftermap.data.scene import RGB, FileName
from aftermap.errors import DataError, DataWarning, InputError
from aftermap.geo.grid import Grid

_FILE_NAMES: TypeAdapter[str] = TypeAdapter(FileName)
_ONLY_255 = "holds 255 and no building"


@dataclass(frozen=True, slots=True)
class Part:
    """Samples of one set.

    Attributes:
        samples: they.
        names: of their scenes; None counts them.
        events: of each; None takes the dataset's.
    """

    samples: Samples
    names: Sequence[str] | None = None
    events: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Meaning:
    """What masks hold: classes of a legend, else buildings or levels of damage.

    Attributes:
        legend: the classes, coloured or by number.
        labels: what masks hold where there is no legend: `building` (0, and `foreground` for a building) or `damage`
            (0 to 4); 255 is unknown, unless it is the foreground.
        foreground: number of buildings.
        first_value: see `LabelReader`.
    """

    legend: Legend | None = None
    labels: Labels | None = None
    foreground: int = 1
    first_value: int | None = None

    def __post_init__(self) -> None:
        """Refuse what says nothing, or two things.

        Raises:
            InputError: neither a legend nor a kind of labels, or both.
        """
        if (self.legend is None) == (self.labels is None):
            raise InputError(
                "say what the masks hold: --labels building, --labels damage, --classes background,changed, or --legend "
                "NAME; one of them"
            )

    @property
    def target(self) -> str:
        """What the masks of scenes are called."""
        return "classes" if self.legend is not None else str(self.labels)

    @property
    def count(self) -> int:
        """How many classes a mask may hold."""
        return len(self.legend.names if self.legend else BUILDING if self.labels == "building" else DAMAGE)

    def mask(self, label: Pixels, where: str) -> np.ndarray:
        """uint8 (H, W), IGNORE where unknown.

        Raises:
            DataError: numbers or colours that stand for no class.
        """
        if self.legend is not None:
            return LabelReader(self.legend, first_value=self.first_value).decode(label, where).mask
        numbers: np.ndarray = label.array[0]
        if len(label.array) != 1 and not (label.array[:1] == label.array[:3]).all():
            raise DataError(f"{where} has a coloured mask: name its classes with --legend")
        if self.labels == "building" and self.foreground != 1:
            known = {0, self.foreground}
        else:
            known = {*range(self.count), IGNORE}
        if wrong := sorted({int(value) for value in np.unique(numbers)} - known):
            raise DataError(
                f"{where} has a mask with the value {wrong[0]}, expected {', '.join(map(str, sorted(known)))}: name many "
                "classes with --classes or --legend, and the number of buildings with --foreground"
            )
        if self.labels == "building" and self.foreground != 1:
            numbers = (numbers == self.foreground).astype(np.uint8)
        return numbers


@dataclass(frozen=True, slots=True)
class SampleScene(SourceScene):
    """A sample that was found.

    Attributes:
        part: its set, as its publisher calls it.
        number: of the sample in it.
    """

    part: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class SampleScenes:
    """Makes the scene of a sample; one that was made of the same pixels is taken over."""

    parts: Mapping[str, Samples]
    columns: Columns
    meaning: Meaning

    def __call__(self, source: SourceScene, folder: PreparedFolder, /) -> Made:
        """The scene of one sample.

        Raises:
            DataError: a sample that is none of images and masks.
            OutputError: a file cannot be written.
        """
        assert isinstance(source, SampleScene)
        where = f"sample {source.number}" + (f" of {source.part}" if source.part else "")
        try:
            sample = self.parts[source.part][source.number]
        except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
            raise DataError(f"{where} cannot be read: {' '.join(str(error).split())[:200]}") from None
        images = [placed(image, sample) for image in self.columns.images(sample, where)]
        label = self.columns.label(sample, where)
        mask = None if label is None else self.meaning.mask(label, where)
        size = images[0].array.shape[1:]
        if mask is not None and mask.shape != size:
            raise DataError(
                f"{where} has a mask of {mask.shape[1]} x {mask.shape[0]} pixels, its image {size[1]} x {size[0]}"
            )
        seen = np.logical_and.reduce([image.valid for image in images])
        if mask is not None and not seen.all():
            mask = np.where(seen, mask, np.uint8(IGNORE))
        counts = {_ONLY_255: 1} if self._is_doubtful(mask) else {}
        content = [image.array for image in images] + ([] if mask is None else [mask])
        place = Grid(images[0].crs, images[0].transform, size[1], size[0])
        told = repr([(array.shape, str(array.dtype)) for array in content] + [place])
        state = checksum(told.encode() + b"".join(array.tobytes() for array in content))[:16]
        known = folder.known.get(source.name)
        if known is not None and known.checksums.get("source") == state and has_its_files(known):
            now = {"split": source.split, "source_split": source.source_split, "event": source.event}
            return Made((known.model_copy(update=now),), counts)
        paths = [folder.path / IMAGES / f"{source.name}{end}.tif" for end in ("", "_post")[: len(images)]]
        for path, image in zip(paths, images, strict=True):
            named = self.columns.kept if len(image.array) == len(self.columns.kept) else ("grey",)
            write_tile(path, np.where(image.valid, image.array, 0).astype(np.uint8), place, bands=named)
        georeference = scene_grid(place)
        scene = write_scene(
            folder.path,
            source,
            SceneLabels({} if mask is None else {self.meaning.target: mask}, grid=georeference),
            name=source.name,
            pre=paths[0],
            post=paths[1] if len(paths) == 2 else None,
            size=(size[0], size[1]),
            resolution_m=None if georeference is None else place.resolution_m,
            classes=self.meaning.count,
            checksums={"source": state}
            | {role: checksum(read_bytes(path)) for role, path in zip(("pre", "post"), paths, strict=False)},
            bands=self.columns.kept,
        )
        return Made((scene,), counts)

    def _is_doubtful(self, mask: np.ndarray | None) -> bool:
        """Whether 255 may have been meant for buildings, and not for what is unknown."""
        if mask is None or self.meaning.labels != "building" or self.meaning.foreground != 1:
            return False
        return bool((mask == IGNORE).any()) and not (mask == 1).any()


def samples_dataset(
    parts: Samples | Mapping[str, Part],
    *,
    meaning: Meaning,
    columns: Columns | None = None,
    source: Path = Path("samples"),
    event: str = "samples",
    licence: str | None = None,
    kind: str = "samples",
    options: Mapping[str, str] | None = None,
) -> Dataset:
    """Samples of any library as a dataset for `prepare`.

    Args:
        parts: samples, or those of each set by its name; `train`, `val` (or `validation`) and `test` become splits.
        meaning: what masks hold.
        columns: which entries are read.
        source: where they come from.
        event: of samples whose part names none.
        licence: of the data, in words.
        kind: name of the reader.
        options: further choices that change what is prepared.

    Raises:
        DataError: there are none.
        InputError: bands that the masks do not go with.
    """
    columns = columns or Columns()
    found = dict(parts) if isinstance(parts, Mapping) else {"": Part(parts)}
    if meaning.legend is None and columns.kept != RGB:
        raise InputError(
            f"buildings and damage are learned from red, green and blue, not from {', '.join(columns.kept)}: name these "
            "three with --bands and leave others out with '-', in the order of red,green,blue"
        )
    scenes = [
        scene for name, part in found.items() for scene in _scenes(name, part, source=source, event=event)
    ]
    if not scenes:
        raise DataError(f"{source} holds no samples")
    legend = meaning.legend
    choices = {
        "labels": meaning.target,
        "foreground": str(meaning.foreground),
        "first_value": "" if meaning.first_value is None else str(meaning.first_value),
        "image": columns.image,
        "after": columns.after or "",
        "mask": columns.mask,
        "bands": ",".join(columns.named),
        "range": "" if columns.limits is None else f"{columns.limits[0]:g},{columns.limits[1]:g}",
        "stretch": ""
        if columns.percentiles is None
        else f"{columns.percentiles[0]:g},{columns.percentiles[1]:g}",
        "legend": "" if legend is None else legend.model_dump_json(exclude_defaults=True),
        **(options or {}),
    }
    notes = {"source": str(source.resolve())}
    if any(scene.split != "unassigned" for scene in scenes):
        notes["split"] = "official"
    scheme = (
        legend.name if legend is not None else (BUILDING if meaning.labels == "building" else DAMAGE).name
    )
    return Dataset(
        kind=kind,
        scheme=scheme,
        legend=legend,
        scenes=scenes,
        make=SampleScenes({name: part.samples for name, part in found.items()}, columns, meaning),
        options=choices,
        notes=notes,
        licence=licence,
        is_cut=True,
        conclude=_conclude,
    )


def _scenes(name: str, part: Part, *, source: Path, event: str) -> list[SampleScene]:
    split, published = split_of(name)
    count = len(part.samples)
    digits = max(6, len(str(count)))
    prefix = f"{name}-" if name else ""
    names = part.names or [f"{prefix}{number:0{digits}d}" for number in range(count)]
    for number, each in enumerate(names):
        try:
            _FILE_NAMES.validate_python(each)
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise InputError(
                f"the name of sample {number} of {source} cannot be that of a file: {problem}"
            ) from None
    return [
        SampleScene(
            name=names[number],
            event=event if part.events is None else part.events[number],
            pre=source,
            split=split,
            source_split=published,
            part=name,
            number=number,
        )
        for number in range(count)
    ]


def _conclude(made: Mapping[str, Made]) -> dict[str, str]:
    """Warn where no mask holds a building, and some hold 255."""
    doubtful = sum(one.counts.get(_ONLY_255, 0) for one in made.values())
    buildings = any(any(scene.class_pixels[1:]) for one in made.values() for scene in one.scenes)
    if doubtful and not buildings:
        warnings.warn(
            "masks hold 255 and no 1: 255 is taken for unknown; where it means a building, pass --foreground 255",
            DataWarning,
            stacklevel=3,
        )
    return {}
