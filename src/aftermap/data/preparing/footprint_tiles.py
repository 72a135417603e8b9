"""Training tiles from any raster and any vector file: images, masks and a manifest, resumable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas

from aftermap.classes import BUILDING
from aftermap.data.preparing.cutter import Cutter
from aftermap.data.preparing.cutting import CutConfig
from aftermap.data.preparing.journal import IMAGES, JOURNAL_NAME, MASKS, SOFT, Journal, claim, keep_splits
from aftermap.data.preparing.prepare import Progress, checksum, read_bytes
from aftermap.data.readers.footprint_source import footprints_in_pixels
from aftermap.data.scene import MANIFEST_NAME, Manifest, Scene
from aftermap.data.stretch import Stretch
from aftermap.errors import DataError, OutputError
from aftermap.geo.raster import RasterSource

KIND = "tiles"


@dataclass(frozen=True, slots=True)
class CutResult:
    """What came of cutting one image.

    Attributes:
        manifest: the prepared tiles.
        buildings: footprints that lie on the image.
        windows: how many were looked at.
        dropped: windows that became no tile, by reason.
    """

    manifest: Manifest
    buildings: int
    windows: int
    dropped: Mapping[str, int]


def from_footprints(
    image: Path | Sequence[Path],
    footprints: Path,
    out: Path,
    config: CutConfig,
    *,
    event: str | None = None,
    bands: Sequence[int] | None = None,
    stretch: tuple[float, float] | None = None,
    jpeg_quality: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CutResult:
    """Make a prepared dataset of one image (or mosaic) and the buildings on it.

    Started again after an interruption, it goes on where it stopped.

    Args:
        image: a file, or a folder or several files that make one mosaic; of any size, read window by window.
        footprints: building outlines in any reference system.
        out: folder for `images/`, `masks/` and the manifest.
        config: what is cut, and how.
        event: name of the event; by default the image's name.
        bands: red, green and blue among the image's bands, from 1; the first three by default.
        stretch: percentiles that become 0 and 255; needed for other than 8-bit images.
        jpeg_quality: store tiles as JPEG of this quality (1 to 100) instead of without loss.
        overwrite: cut again into a folder whose tiles were cut otherwise; those are removed.
        progress: called with the number of finished windows and of all.

    Raises:
        InputError: image, footprints and options do not go together, or no window makes a tile.
        OutputError: `out` cannot be used.
    """
    source = RasterSource.open(image, bands)
    if any(path.parent.resolve() == (out / IMAGES).resolve() for path in source.files):
        raise OutputError(f"{out} holds the images themselves, which tiles could replace: choose another -o")
    shapes = footprints_in_pixels(footprints, source.grid)
    name = Path(source.files[0] if len(source.files) == 1 else source.name).stem
    options = _options(source, footprints, config, event or name, stretch, jpeg_quality)
    cutter = Cutter(source, shapes, out, config, name, event or name, _measure(source, stretch), jpeg_quality)
    cutter.check()  # before anything is written
    earlier = claim(out, [], kind=KIND, overwrite=overwrite)
    journal = Journal(out / JOURNAL_NAME, options)
    journal.load(earlier)
    if not journal.scenes:
        _clear(out, earlier, overwrite=overwrite)
    with journal:
        scenes = list(cutter.run(journal.scenes, journal.add, progress))
    source.close()
    if not scenes:
        journal.abandon()
        reasons = ", ".join(f"{number} {reason}" for reason, number in cutter.dropped.items())
        raise DataError(
            f"none of {cutter.windows} windows of {source.name} makes a tile ({reasons or 'no place is left'}): "
            "cut smaller tiles, or another way"
        )
    manifest = Manifest(
        kind=KIND, scheme=BUILDING.name, options=options, scenes=sorted(scenes, key=lambda scene: scene.name)
    )
    manifest = keep_splits(manifest, earlier)
    try:
        manifest.save(out)
        journal.path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out / MANIFEST_NAME}: {error.strerror or error}") from None
    return CutResult(Manifest.load(out), len(shapes), cutter.windows, dict(cutter.dropped))


def cut_tiles(
    image: Path | Sequence[Path] | RasterSource,
    footprints: Path | geopandas.GeoDataFrame | None,
    out: Path,
    config: CutConfig,
    *,
    name: str | None = None,
    event: str | None = None,
    source_split: str | None = None,
    bands: Sequence[int] | None = None,
    stretch: Stretch | tuple[float, float] | None = None,
    jpeg_quality: int | None = None,
    known: Mapping[str, Scene] | None = None,
    finished: Callable[[Scene], None] | None = None,
    progress: Progress | None = None,
) -> list[Scene]:
    """Cut one image into tiles below `out`, for readers of datasets of many images; writes no manifest.

    Args:
        image: as for `from_footprints`, or an opened source.
        footprints: building outlines; None for tiles without labels.
        out: folder for `images/` and `masks/`.
        config: what is cut, and how.
        name: begins the names of all tiles, so it has to be unique; by default the image's name.
        event: of the tiles; by default `name`.
        source_split: of the tiles, as the publisher split the images.
        bands: as for `from_footprints`.
        stretch: as for `from_footprints`, or one that has been measured.
        jpeg_quality: as for `from_footprints`.
        known: finished scenes of an interrupted run of the same options, by name.
        finished: called with every new tile.
        progress: called with the number of finished windows and of all.

    Raises:
        InputError: image, footprints and options do not go together.
        OutputError: a tile cannot be written.
    """
    source = image if isinstance(image, RasterSource) else RasterSource.open(image, bands)
    shapes = None if footprints is None else footprints_in_pixels(footprints, source.grid)
    prefix = name or Path(source.name).stem
    made = stretch if isinstance(stretch, Stretch) else _measure(source, stretch)
    cutter = Cutter(source, shapes, out, config, prefix, event or prefix, made, jpeg_quality, source_split)
    scenes = list(cutter.run(known or {}, finished, progress))
    if not isinstance(image, RasterSource):
        source.close()
    return scenes


def _measure(source: RasterSource, percentiles: tuple[float, float] | None) -> Stretch | None:
    return None if percentiles is None else Stretch.measure_source(source, percentiles)


def _options(
    source: RasterSource,
    footprints: Path,
    config: CutConfig,
    event: str,
    stretch: tuple[float, float] | None,
    jpeg_quality: int | None,
) -> dict[str, str]:
    """Everything that the tiles depend on; a large image is known by its size and time, not by its content."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in source.files]
    return {
        "image": str(source.files[0].resolve() if len(files) == 1 else source.files[0].parent.resolve()),
        "image_state": checksum(repr(files).encode())[:16],
        "footprints": str(footprints.resolve()),
        "footprints_state": checksum(read_bytes(footprints))[:16],
        "cut": config.model_dump_json(exclude_defaults=True),
        "bands": ",".join(map(str, source.bands)),
        "stretch": "" if stretch is None else f"{stretch[0]:g},{stretch[1]:g}",
        "jpeg_quality": "" if jpeg_quality is None else str(jpeg_quality),
        "event": event,
    }


def _clear(out: Path, earlier: Manifest | None, *, overwrite: bool) -> None:
    """Remove tiles that were cut otherwise; nothing but files of the names that tiles have."""
    old = [
        path
        for folder, pattern in ((IMAGES, "*.tif"), (MASKS, "*_building.png"), (SOFT, "*.tif"))
        for path in (out / folder).glob(pattern)
    ]
    ours = earlier is not None or (out / JOURNAL_NAME).is_file()
    if not ours or not old:
        return
    if earlier is not None and earlier.kind != KIND:
        raise OutputError(
            f"{out} holds a dataset of another kind ({earlier.kind}), whose files are not ours to remove: "
            "choose another -o"
        )
    if not overwrite:
        raise OutputError(
            f"{out} holds tiles or data that were prepared otherwise: choose another -o, or pass --overwrite"
        )
    for path in (*old, out / MANIFEST_NAME):
        path.unlink(missing_ok=True)
