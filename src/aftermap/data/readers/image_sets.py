"""Datasets of many large images, each with its footprints: cut into tiles that make one prepared dataset."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import geopandas

from aftermap.classes import BUILDING
from aftermap.data.preparing.cutting import CutConfig
from aftermap.data.preparing.footprint_tiles import cut_tiles
from aftermap.data.preparing.journal import IMAGES, JOURNAL_NAME, MASKS, SOFT, Journal, claim, keep_splits
from aftermap.data.preparing.prepare import Progress, checksum, read_bytes
from aftermap.data.scene import MANIFEST_NAME, Manifest, Scene
from aftermap.data.stretch import Stretch
from aftermap.errors import DataError, InputError, OutputError, RasterError
from aftermap.geo.files import RasterFile
from aftermap.geo.raster import RasterSource


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image of a dataset.

    Attributes:
        name: unique in the dataset; begins the names of its tiles.
        event: of its tiles.
        image: the file.
        footprints: its buildings; None for an image without labels. A GeoJSON without features says that there are none.
        source_split: as the publisher splits the images.
    """

    name: str
    event: str
    image: Path
    footprints: Path | None = None
    source_split: str | None = None


class EmptyImageError(RasterError):
    """An image that holds nothing but fill; it is left out."""


Measure = Callable[[RasterSource], Stretch | None]
"""The stretch of one image, or None for pixels as they are; raises `EmptyImageError` for those to leave out."""


def cut_images(
    images: Sequence[SourceImage],
    out: Path,
    config: CutConfig,
    *,
    kind: str,
    measure: Measure,
    options: Mapping[str, str],
    notes: Mapping[str, str] | None = None,
    bands: Sequence[int] | None = None,
    jpeg_quality: int | None = None,
    without_label: Literal["unlabelled", "background"] = "unlabelled",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Cut all images of a dataset; started again after an interruption, it goes on where it stopped.

    Args:
        images: with unique names.
        out: folder for `images/`, `masks/` and the manifest.
        config: what is cut of each image, and how.
        kind: name of the reader.
        measure: stretch of an image.
        options: choices of the reader that change tiles.
        notes: further entries for the manifest's options.
        bands: red, green and blue among the images' bands, from 1; without them every image needs three.
        jpeg_quality: store tiles as JPEG of this quality instead of without loss.
        without_label: what images without footprints are.
        overwrite: cut again into a folder whose tiles were cut otherwise; those are removed.
        progress: called with the number of finished images and of all.

    Raises:
        DataError: images that cannot be used; tiles of the others stay finished.
        OutputError: `out` cannot be used.
    """
    _check_bands(images, bands)
    whole = {
        **options,
        "images": _state(images),
        "cut": config.model_dump_json(exclude_defaults=True),
        "bands": "" if bands is None else ",".join(map(str, bands)),
        "jpeg_quality": "" if jpeg_quality is None else str(jpeg_quality),
        "without_label": without_label,
    }
    earlier = claim(out, [], kind=kind, overwrite=overwrite)
    journal = Journal(out / JOURNAL_NAME, {"kind": kind, "scheme": BUILDING.name, **whole})
    journal.load(earlier)
    if not journal.scenes:
        _clear(out, overwrite=overwrite)
    known = dict(journal.scenes)
    scenes: list[Scene] = []
    problems: list[str] = []
    empty: list[str] = []
    with journal:
        for number, image in enumerate(images, 1):
            try:
                with closing(RasterSource.open(image.image, bands)) as source:
                    scenes += cut_tiles(
                        source,
                        _footprints(image, without_label),
                        out,
                        config,
                        name=image.name,
                        event=image.event,
                        source_split=image.source_split,
                        stretch=measure(source),
                        jpeg_quality=jpeg_quality,
                        known=known,
                        finished=journal.add,
                    )
            except EmptyImageError:
                empty.append(image.name)
            except InputError as error:
                problems.append(str(error))
            if progress is not None:
                progress(number, len(images))
    if problems:
        kept = "" if journal.abandon() else ", finished tiles are kept"
        rest = f" (and {len(problems) - 1} more images like it)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{rest}: mend or remove the files and run again{kept}")
    if not scenes:
        journal.abandon()
        raise DataError(f"none of the {len(images)} images gives a tile: cut smaller tiles, or another way")
    more = {**(notes or {}), **({"empty_images": ",".join(empty)} if empty else {})}
    ordered = sorted(scenes, key=lambda scene: scene.name)
    manifest = Manifest(kind=kind, scheme=BUILDING.name, options={**whole, **more}, scenes=ordered)
    manifest = keep_splits(manifest, earlier)
    try:
        manifest.save(out)
        journal.path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out / MANIFEST_NAME}: {error.strerror or error}") from None
    return Manifest.load(out)


def percentile_measure(percentiles: tuple[float, float] | None) -> Measure:
    """The same percentiles of the data of every image, or no stretch."""

    def measure(source: RasterSource) -> Stretch | None:
        return None if percentiles is None else Stretch.measure_source(source, percentiles)

    return measure


def require_files(images: Sequence[SourceImage], listed_in: Path) -> None:
    """Refuse a dataset whose files are not all there.

    Raises:
        DataError: with the first one and their number.
    """
    files = [path for image in images for path in (image.image, image.footprints) if path is not None]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} files named in {listed_in} are missing, the first is {missing[0]}: "
            "fetch them, or choose those that are there by area or tier"
        )


def _footprints(
    image: SourceImage, without_label: Literal["unlabelled", "background"]
) -> Path | geopandas.GeoDataFrame | None:
    """The file, or an empty frame where it is a GeoJSON that states that there is no building."""
    path = image.footprints
    nothing = geopandas.GeoDataFrame(geometry=[], crs="EPSG:4326")
    if path is None:
        return nothing if without_label == "background" else None
    if path.suffix.lower() not in (".geojson", ".json"):
        return path
    try:
        tree = json.loads(read_bytes(path))
    except ValueError:
        return path  # its reader says what is wrong
    if isinstance(tree, dict) and tree.get("features") == []:
        return nothing
    return path


def _check_bands(images: Sequence[SourceImage], bands: Sequence[int] | None) -> None:
    """Refuse sets in which the images differ in their bands, unless it is said which to take."""
    if bands is not None:
        return
    first: RasterFile | None = None
    for image in images:
        file = RasterFile.inspect(image.image)
        first = first or file
        if file.count != first.count:
            raise DataError(
                f"{first.path} has {first.count} bands, {file.path} has {file.count}: pass --bands 1,2,3 to take red, "
                "green and blue from the same bands of all"
            )


def _state(images: Sequence[SourceImage]) -> str:
    """Changes when an image or label does; large files are known by size and time, not by content."""
    lines = []
    for image in images:
        files = [path for path in (image.image, image.footprints) if path is not None]
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        lines.append((image.name, image.event, image.source_split, stats))
    return checksum(repr(lines).encode())[:16]


def _clear(out: Path, *, overwrite: bool) -> None:
    """Remove tiles that were cut otherwise; nothing but files of the names that tiles have."""
    ours = (out / MANIFEST_NAME).is_file() or (out / JOURNAL_NAME).is_file()
    kinds = ((IMAGES, "*.tif"), (MASKS, "*_building.png"), (SOFT, "*.tif"))
    old = [path for folder, pattern in kinds for path in (out / folder).glob(pattern)] if ours else []
    if not old:
        return
    if not overwrite:
        raise OutputError(
            f"{out} holds tiles or data that were prepared otherwise: choose another -o, or pass --overwrite"
        )
    for path in (*old, out / MANIFEST_NAME):
        path.unlink(missing_ok=True)
