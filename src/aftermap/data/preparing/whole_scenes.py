"""Scenes of one or two dates whose images stay where they are, with masks of buildings or damage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aftermap.data.band_files import read_file, size_of
from aftermap.data.file_content import checksum, read_bytes
from aftermap.data.geotransform import to_grid
from aftermap.data.preparing.dataset import Labels, Made, PreparedFolder, SourceScene
from aftermap.data.preparing.scene_files import has_its_files, write_scene
from aftermap.errors import DataError
from aftermap.geo.opening.complete import is_complete
from aftermap.geo.opening.whole import MOST_PIXELS


class ReadLabels(Protocol):
    """Reads the labels of a scene whose image has the given size; must be picklable."""

    def __call__(self, scene: SourceScene, /, *, height: int, width: int) -> Labels:
        """The labels of one scene."""


@dataclass(frozen=True, slots=True)
class WholeScenes:
    """Makes a scene of a pair or an image; one whose files have the checksums of an earlier run is taken over.

    Attributes:
        read: reads labels.
        classes: how many the finest mask may hold.
    """

    read: ReadLabels
    classes: int

    def __call__(self, source: SourceScene, folder: PreparedFolder, /) -> Made:
        """The masks of one scene.

        Raises:
            DataError: files that cannot be read, or do not fit each other.
            OutputError: a mask cannot be written.
        """
        content = {role: read_bytes(path) for role, path in source.files.items()}
        sums = {role: checksum(data) for role, data in content.items()}
        earlier = folder.known.get(source.name)
        if earlier is not None and earlier.checksums == sums and has_its_files(earlier):
            now: dict[str, object] = {"pre": source.pre, "post": source.post}
            now |= {"split": source.split, "source_split": source.source_split}
            return Made((earlier.model_copy(update=now),))
        height, width = _size(source.pre, content["pre"])
        if source.post is not None:
            other = _size(source.post, content["post"])
            if other != (height, width):
                raise DataError(
                    f"{source.post} has {other[1]} x {other[0]} pixels, its partner {source.pre.name} "
                    f"{width} x {height}: both dates must be on one grid"
                )
        labels = self.read(source, height=height, width=width)
        resolution = to_grid(labels.grid, height=height, width=width).resolution_m if labels.grid else None
        scene = write_scene(
            folder.path,
            source,
            labels,
            name=source.name,
            pre=source.pre,
            post=source.post,
            size=(height, width),
            resolution_m=resolution,
            classes=self.classes,
            checksums=sums,
        )
        return Made((scene,))


def _size(path: Path, data: bytes) -> tuple[int, int]:
    """(height, width) of an image, after making sure that all of it is there."""
    bands, height, width, dtype = size_of(path)
    if not is_complete(data) or height * width > MOST_PIXELS:
        array = read_file(path).array
        bands, dtype = len(array), str(array.dtype)
    if dtype != "uint8":
        raise DataError(
            f"{path} has {bands} bands of {dtype}, expected 3 bands of 8 bits (red, green, blue): convert it "
            "with 'gdal_translate -ot Byte -scale'"
        )
    return height, width
