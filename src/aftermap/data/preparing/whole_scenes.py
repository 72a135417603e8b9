"""Scenes of one or two dates whose images stay where they are, with masks of buildings or damage."""

from dataclasses import dataclass
from typing import Protocol

from aftermap.data.geotransform import to_grid
from aftermap.data.image_content import checksum, image_size, read_bytes
from aftermap.data.preparing.dataset import Labels, Made, PreparedFolder, SourceScene
from aftermap.data.preparing.scene_files import has_its_files, write_scene
from aftermap.errors import DataError


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
        height, width = image_size(content["pre"], source.pre)
        if source.post is not None:
            other = image_size(content["post"], source.post)
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
