"""Reader of SpaceNet's buildings: small satellite tiles, mostly of 16 bits, each with a GeoJSON of its own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.preparing.dataset import Dataset, SourceScene
from aftermap.data.preparing.footprint_tiles import (
    FOOTPRINTS,
    EmptyImageError,
    FootprintScenes,
    MissingLabels,
    footprint_dataset,
)
from aftermap.data.stretch import PERCENTILES, Stretch
from aftermap.errors import DataError
from aftermap.geo.raster import RasterSource
from aftermap.wording import counted

BANDS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a dataset keeps its tiles and labels.

    Attributes:
        images: pattern of the folder of images, below the source.
        labels: pattern of the folder of labels.
        name: of an image without suffix; the group `tile` is what the names of its labels hold.
        label_names: of a label without suffix, `{tile}` filled in; the first that is there counts.
    """

    images: str
    labels: str
    name: str
    label_names: tuple[str, ...]


LAYOUTS = {
    "atlanta": Layout(
        "**/Pan-Sharpen",
        "**/geojson/spacenet-buildings",
        r"(?:Pan-Sharpen_)?.*?(?P<tile>\d+_\d+)",
        ("spacenet-buildings_{tile}",),
    ),
    "rio": Layout("**/3band", "**/geojson", r"(?:3band_)?(?P<tile>.+)", ("Geo_{tile}", "{tile}_Geo")),
    "cities": Layout(
        "**/RGB-PanSharpen",
        "**/geojson/buildings",
        r"(?:RGB-PanSharpen_)?(?P<tile>.+)",
        ("buildings_{tile}",),
    ),
}
"""SpaceNet 4 (off-nadir Atlanta), 1 (Rio de Janeiro) and 2 (Las Vegas, Paris, Shanghai, Khartoum)."""


def spacenet_dataset(
    source: Path,
    config: CutConfig,
    *,
    images: str | None = None,
    labels: str | None = None,
    image_prefix: str = "",
    label_prefix: str = "",
    missing_labels: MissingLabels = "unlabelled",
    event: str | None = None,
    bands: Sequence[int] = BANDS,
    stretch: tuple[float, float] | None = None,
    compat_stretch: bool = False,
    jpeg_quality: int | None = None,
) -> Dataset:
    """SpaceNet's tiles, to become 8-bit tiles with masks; those that hold nothing but zeros are left out.

    Args:
        source: folder of the dataset.
        config: what is cut of each tile, and how; tiles smaller than its size stay whole.
        images: folder of the images below the source, where it is none of `LAYOUTS`.
        labels: folder of the GeoJSON files below the source; needed with `images`.
        image_prefix: with `images`: the part of an image's name that `label_prefix` takes the place of in its label's.
        label_prefix: see there.
        missing_labels: a tile without GeoJSON is `unlabelled`, or all `background` as in the original.
        event: of all tiles; by default the source's name.
        bands: red, green and blue among the bands.
        stretch: percentiles that become 0 and 255; by default 2 and 98 for other than 8-bit images, which stay as they
            are.
        compat_stretch: stretch as the original: zeros around the image count, fractions are dropped, 8-bit images
            are stretched too.
        jpeg_quality: store tiles as JPEG of this quality instead of without loss.

    Raises:
        DataError: another layout, or tiles that cannot be used.

    Source: Open Cities AI Challenge, third place, for the stretch.
    """
    found = find_tiles(
        source,
        images=images,
        labels=labels,
        image_prefix=image_prefix,
        label_prefix=label_prefix,
        event=event or source.resolve().name,
    )
    unlabelled = [image.name for image in found if not image.labels]
    if len(unlabelled) == len(found):
        raise DataError(
            f"none of {counted(len(found), 'image')} in {found[0].pre.parent} has a label, first {unlabelled[0]}: "
            "name the folder with --labels, and how names differ with --image-prefix and --label-prefix"
        )
    percentiles = "" if stretch is None else f"{stretch[0]:g},{stretch[1]:g}"
    measure = partial(_measure, percentiles=stretch, compat_stretch=compat_stretch)
    return footprint_dataset(
        found,
        FootprintScenes(config, measure, bands, jpeg_quality, missing_labels),
        kind="spacenet",
        options={"stretch": percentiles, "compat_stretch": str(compat_stretch).lower()},
        notes={"source": str(source.resolve())},
    )


def find_tiles(
    source: Path,
    *,
    images: str | None = None,
    labels: str | None = None,
    image_prefix: str = "",
    label_prefix: str = "",
    event: str,
) -> list[SourceScene]:
    """The images of a dataset with their labels, in the order of their names; see `spacenet_dataset`.

    Raises:
        DataError: no such folders, or no images in them.
    """
    if not source.is_dir():
        raise DataError(
            f"{source} is not a folder: give the one that holds SpaceNet's images and GeoJSON labels"
        )
    if images is not None:
        if labels is None:
            raise DataError(f"--images {images} is given without --labels, the folder of the GeoJSON files")
        names = (f"{_escaped(label_prefix)}{{tile}}",)
        layout = Layout(images, labels, rf"(?:{re.escape(image_prefix)})?(?P<tile>.+)", names)
        folders = [source / images]
    else:
        layout, folders = _recognise(source)
        if labels is not None:
            layout = Layout(layout.images, labels, layout.name, layout.label_names)
    label_files = _labels(source, layout)
    found: dict[str, SourceScene] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix.lower() not in (".tif", ".tiff"):
                continue
            match = re.fullmatch(layout.name, path.stem)
            keys = [name.format(tile=match["tile"]) for name in layout.label_names] if match else []
            label = next((label_files[key] for key in keys if key in label_files), None)
            if path.stem in found:
                raise DataError(
                    f"{found[path.stem].pre} and {path} have one name: prepare their folders one by one"
                )
            labelled = {} if label is None else {FOOTPRINTS: label}
            found[path.stem] = SourceScene(path.stem, event, path, labels=labelled)
    if not found:
        raise DataError(f"no TIFF images in {folders[0]}: name their folder with --images")
    return [found[name] for name in sorted(found)]


def _recognise(source: Path) -> tuple[Layout, list[Path]]:
    for layout in LAYOUTS.values():
        folders = sorted(path for path in source.glob(layout.images) if path.is_dir())
        if folders:
            return layout, folders
    inside = ", ".join(sorted(path.name for path in source.iterdir())[:6]) or "nothing"
    known = ", ".join(layout.images.removeprefix("**/") for layout in LAYOUTS.values())
    raise DataError(
        f"{source} holds {inside}, expected a folder {known} in it: or name yours with --images and --labels"
    )


def _labels(source: Path, layout: Layout) -> dict[str, Path]:
    """Label files by name without suffix."""
    return {
        path.stem: path
        for folder in sorted(source.glob(layout.labels))
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".geojson", ".json")
    }


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _measure(
    raster: RasterSource, percentiles: tuple[float, float] | None, *, compat_stretch: bool
) -> Stretch | None:
    patch = raster.read(raster.grid)
    holds_data = patch.valid & (patch.array != 0).any(axis=0)
    if not holds_data.any():
        raise EmptyImageError(f"{raster.name} holds nothing but zeros")
    if raster.dtype == "uint8" and percentiles is None and not compat_stretch:
        return None
    return Stretch.measure(
        patch.array,
        percentiles or PERCENTILES,
        valid=None if compat_stretch else holds_data,
        name=raster.name,
        compat_truncate=compat_stretch,
    )
