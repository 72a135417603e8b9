"""Preparation of datasets: every reader's scenes become masks on disk and a manifest beside them.

A journal beside the masks keeps what is finished, so that an interrupted preparation goes on where it stopped;
the manifest is written last.
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Protocol

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import MemoryFile
from shapely.geometry.base import BaseGeometry

from aftermap.classes import IGNORE, SCHEMES
from aftermap.data.geotransform import to_grid
from aftermap.data.preparing.journal import JOURNAL_NAME, MASKS, SOFT, Journal, claim, keep_splits
from aftermap.data.scene import MANIFEST_NAME, Manifest, Scene, SceneGrid
from aftermap.data.soft_labels import write_soft
from aftermap.errors import DataError, OutputError

IMAGE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SourceScene:
    """One scene as a reader found it, before anything is read.

    `pre_label` and `post_label` are label files (JSON or mask image) of the two dates, `grid` a georeference that the
    image file does not state, and `outlines` the buildings where they are known before: in pixels, x = column, y = row.
    """

    name: str
    event: str
    pre: Path
    post: Path | None = None
    pre_label: Path | None = None
    post_label: Path | None = None
    source_split: str | None = None
    grid: SceneGrid | None = None
    outlines: tuple[BaseGeometry, ...] | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The files whose content the prepared scene depends on, by role."""
        roles = ("pre", "post", "pre_label", "post_label")
        return {role: path for role in roles if (path := getattr(self, role)) is not None}


@dataclass(frozen=True, slots=True)
class Labels:
    """What a reader makes of a scene's labels.

    Attributes:
        building: uint8 (H, W) of 0, 1 and IGNORE, or None.
        damage: uint8 (H, W) of 0 to 4 and IGNORE, or None.
        polygons: buildings by class name, where the labels are polygons.
        grid: georeference, where known.
        event: name of the event, where the labels know it better than the file name.
        soft: float32 (K - 1, H, W) probabilities of the classes from 1 on, NaN where unknown, or None.
    """

    building: np.ndarray | None = None
    damage: np.ndarray | None = None
    polygons: Mapping[str, int] = field(default_factory=dict)
    grid: SceneGrid | None = None
    event: str | None = None
    soft: np.ndarray | None = None


class ReadLabels(Protocol):
    """Reads the labels of a scene whose image has the given size; must be picklable."""

    def __call__(self, scene: SourceScene, /, *, height: int, width: int) -> Labels:
        """The labels of one scene."""


def prepare(
    scenes: Sequence[SourceScene],
    read: ReadLabels,
    out: Path,
    *,
    kind: str,
    scheme: str,
    options: Mapping[str, str],
    notes: Mapping[str, str] | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write masks and a manifest for `scenes` into the folder `out`.

    Scenes whose files and options have not changed since an earlier (or interrupted) run are taken over.

    Args:
        scenes: what a reader found.
        read: turns a scene into masks.
        out: folder, made where missing. A folder that holds other things is refused unless `overwrite`;
            nothing but files of the same name is ever replaced.
        kind: name of the reader.
        scheme: class scheme of the finest masks.
        options: choices that change the masks.
        notes: further entries for the manifest's options that do not change the masks.
        workers: processes.
        overwrite: write into a folder that holds other things.
        progress: called with the number of finished scenes and of all.

    Raises:
        DataError: scenes that cannot be read; the others stay finished.
        OutputError: `out` cannot be written, or holds something else.
    """
    earlier = claim(out, scenes, kind=kind, overwrite=overwrite)
    task = _Task(read, out / MASKS, scheme)
    known = Journal(out / JOURNAL_NAME, {"kind": kind, "scheme": scheme, **options})
    known.load(earlier)
    done: dict[str, Scene] = {}
    problems: list[str] = []
    with known:
        pending = [(scene, known.scenes.get(scene.name)) for scene in scenes]
        for number, outcome in enumerate(_map(task, pending, workers), 1):
            if isinstance(outcome, Scene):
                done[outcome.name] = outcome
                known.add(outcome)
            else:
                problems.append(outcome)
            if progress is not None:
                progress(number, len(scenes))
    if problems:
        kept = "" if known.abandon() else ", finished scenes are kept"
        rest = f" (and {len(problems) - 1} more scenes like it)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{rest}: mend or remove the files and run again{kept}")
    ready = _with_resolution([done[name] for name in sorted(done)])
    manifest = Manifest(kind=kind, scheme=scheme, options={**options, **(notes or {})}, scenes=ready)
    manifest = keep_splits(manifest, earlier)
    try:
        manifest.save(out)
        known.path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out / MANIFEST_NAME}: {error.strerror or error}") from None
    return Manifest.load(out)


def image_size(data: bytes, path: Path) -> tuple[int, int]:
    """(height, width) of an image file's content, after decoding all of it.

    Raises:
        DataError: truncated, or not an image.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        return _tiff_size(data, path)
    if data[:8] == _PNG and data[24:25] == b"\x10":
        raise DataError(
            f"{path} has 16 bits per band, expected 8: convert it with 'gdal_translate -ot Byte -scale'"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return image.height, image.width
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path} claims to be larger than {_MOST_PIXELS} pixels: cut it into tiles") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{path} is truncated or damaged ({error})") from None


def _tiff_size(data: bytes, path: Path) -> tuple[int, int]:
    """The same for TIFFs, of which Pillow reads few kinds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with MemoryFile(data) as memory, memory.open() as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise DataError(
                        f"{path} claims to be larger than {_MOST_PIXELS} pixels: cut it into tiles"
                    )
                image.read()
                return image.height, image.width
    except RasterioIOError:
        raise DataError(f"{path} is truncated, damaged, or no TIFF") from None


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def checksum(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class _Task:
    """Prepares one scene; sent to worker processes."""

    read: ReadLabels
    masks: Path
    scheme: str

    def __call__(self, item: tuple[SourceScene, Scene | None]) -> Scene | str:
        source, earlier = item
        try:
            return self._scene(source, earlier)
        except DataError as error:
            return str(error)

    def _scene(self, source: SourceScene, earlier: Scene | None) -> Scene:
        content = {role: read_bytes(path) for role, path in source.files.items()}
        sums = {role: checksum(data) for role, data in content.items()}
        if earlier is not None and _still_valid(earlier, source, sums):
            return earlier.model_copy(
                update={
                    "pre": source.pre,
                    "post": source.post,
                    "source_split": source.source_split,
                    "split": "unassigned",
                }
            )
        sizes = {
            role: image_size(content[role], path)
            for role, path in source.files.items()
            if role in ("pre", "post")
        }
        height, width = sizes["pre"]
        if sizes.get("post", (height, width)) != (height, width):
            raise DataError(
                f"{source.post} has {sizes['post'][1]} x {sizes['post'][0]} pixels, its partner {source.pre.name} "
                f"{width} x {height}: both dates must be on one grid"
            )
        labels = self.read(source, height=height, width=width)
        paths = {
            name: self._write(mask, source, name) if mask is not None else None
            for name, mask in (("building", labels.building), ("damage", labels.damage))
        }
        finest = labels.damage if labels.damage is not None else labels.building
        resolution = to_grid(labels.grid, height=height, width=width).resolution_m if labels.grid else None
        return Scene(
            name=source.name,
            event=labels.event or source.event,
            source_split=source.source_split,
            pre=source.pre,
            post=source.post,
            building_mask=paths["building"],
            damage_mask=paths["damage"],
            soft=self._write_soft(labels, source),
            width=width,
            height=height,
            grid=labels.grid,
            resolution_m=resolution,
            class_pixels=[] if finest is None else class_pixels(finest, len(SCHEMES[self.scheme])),
            polygons=dict(labels.polygons),
            checksums=sums,
        )

    def _write_soft(self, labels: Labels, source: SourceScene) -> Path | None:
        if labels.soft is None:
            return None
        return write_soft(self.masks.parent / SOFT / f"{source.name}.tif", labels.soft, labels.grid)

    def _write(self, mask: np.ndarray, source: SourceScene, target: str) -> Path:
        path = self.masks / f"{source.name}_{target}.png"
        encoded = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 2])[1]
        part = path.with_suffix(".part")
        try:
            part.write_bytes(encoded.tobytes())
            return part.rename(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def _map(
    task: _Task, items: Iterable[tuple[SourceScene, Scene | None]], workers: int
) -> Iterator[Scene | str]:
    if workers <= 1:
        yield from map(task, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(task, items, chunksize=4)


def _still_valid(earlier: Scene, source: SourceScene, sums: Mapping[str, str]) -> bool:
    masks = [path for path in (earlier.building_mask, earlier.damage_mask, earlier.soft) if path is not None]
    return earlier.checksums == dict(sums) and all(path.is_file() for path in masks)


def class_pixels(mask: np.ndarray, classes: int) -> list[int]:
    """Pixels of each class in a mask, those without a known class left out."""
    counts = np.bincount(mask[mask != IGNORE].ravel(), minlength=classes)
    return [int(count) for count in counts]


def _with_resolution(scenes: list[Scene]) -> list[Scene]:
    """Give scenes without georeference the usual resolution of their event's scenes of the same size."""
    known: dict[tuple[str, int], list[float]] = {}
    for scene in scenes:
        if scene.grid is not None and scene.resolution_m is not None:
            known.setdefault((scene.event, scene.width), []).append(scene.resolution_m)
    return [
        scene.model_copy(update={"resolution_m": median(mates)})
        if scene.grid is None and (mates := known.get((scene.event, scene.width)))
        else scene
        for scene in scenes
    ]
