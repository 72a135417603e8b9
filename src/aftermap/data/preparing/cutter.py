"""Cuts one image into tiles: pixels, mask, georeference."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.features import rasterize

from aftermap.data.file_content import checksum, read_bytes
from aftermap.data.preparing.dataset import Labels, PreparedFolder, SourceScene
from aftermap.data.preparing.journal import IMAGES
from aftermap.data.preparing.scene_files import has_its_files, write_scene
from aftermap.data.scene import RGB, Scene, Tile
from aftermap.files import replacing
from aftermap.geo.grid import Grid, quiet_without_georeference


@dataclass(frozen=True, slots=True)
class CutTile:
    """What a tile holds.

    Attributes:
        pixels: uint8 (C, H, W).
        labels: its mask, and what else is known.
        grid: where it lies.
    """

    pixels: np.ndarray
    labels: Labels
    grid: Grid


class PlannedTile(Protocol):
    """A part of an image that may become a tile."""

    @property
    def name(self) -> str:
        """Name of its scene, unique in the dataset."""

    @property
    def place(self) -> Tile | None:
        """Which part of the image it is, where scenes are to say so."""

    def cut(self) -> CutTile | None:
        """Its pixels and labels, or None where it is left out."""

    def keep(self) -> None:
        """Called when it has become a scene."""


@dataclass(frozen=True, slots=True)
class TileForm:
    """What the tiles of an image have in common.

    Attributes:
        classes: how many a mask may hold.
        bands: their names.
        is_named: whether files name their bands and themselves.
        jpeg_quality: store pixels as JPEG of this quality instead of without loss.
        state: changes when a file of the image does; None where the dataset's options tell.
    """

    classes: int
    bands: tuple[str, ...] = RGB
    is_named: bool = False
    jpeg_quality: int | None = None
    state: str | None = None


class ImageToCut(Protocol):
    """An image with its labels, opened."""

    @property
    def form(self) -> TileForm:
        """What its tiles have in common."""

    @property
    def planned(self) -> int:
        """How many tiles there may be."""

    def tiles(self) -> Iterator[PlannedTile]:
        """The tiles that are wanted, each asked for after the one before has been kept or left out."""


def cut(image: ImageToCut, source: SourceScene, folder: PreparedFolder) -> list[Scene]:
    """The tiles of an image; those that are known, from the same files, and still there, are taken over.

    Raises:
        InputError: the image or its labels cannot be used.
        OutputError: a tile cannot be written.
    """
    scenes: list[Scene] = []
    for number, tile in enumerate(image.tiles(), 1):
        scene = folder.known.get(tile.name)
        if scene is not None and scene.checksums.get("source") == image.form.state and has_its_files(scene):
            now = {"split": source.split, "source_split": source.source_split}
            scene = scene.model_copy(update=now)
        elif (content := tile.cut()) is not None:
            scene = _write(image.form, tile, content, source, folder.path)
            folder.note(scene)
        else:
            scene = None
        if scene is not None:
            tile.keep()
            scenes.append(scene)
        if folder.progress is not None:
            folder.progress(number, image.planned)
    if folder.progress is not None:
        folder.progress(image.planned, image.planned)
    return scenes


def _write(form: TileForm, tile: PlannedTile, content: CutTile, source: SourceScene, folder: Path) -> Scene:
    path = folder / IMAGES / f"{tile.name}.tif"
    write_tile(
        path,
        content.pixels,
        content.grid,
        bands=form.bands,
        description=tile.name if form.is_named else None,
        jpeg_quality=form.jpeg_quality,
    )
    sums = {"pre": checksum(read_bytes(path))}
    return write_scene(
        folder,
        source,
        content.labels,
        name=tile.name,
        pre=path,
        size=(content.grid.height, content.grid.width),
        resolution_m=None if content.labels.grid is None else content.grid.resolution_m,
        classes=form.classes,
        checksums=sums if form.state is None else sums | {"source": form.state},
        bands=form.bands,
        tile=tile.place,
    )


def write_tile(
    path: Path,
    pixels: np.ndarray,
    grid: Grid,
    *,
    bands: tuple[str, ...] = RGB,
    description: str | None = None,
    jpeg_quality: int | None = None,
) -> None:
    """Write uint8 (C, H, W) as a GeoTIFF, deflated or as JPEG; whole or not at all.

    Args:
        path: the file.
        pixels: of the tile.
        grid: where they lie.
        bands: their names, which the file holds where it has a description.
        description: of the file.
        jpeg_quality: from 1 to 100, for three bands of colour.

    Raises:
        OutputError: the file cannot be written.
    """
    profile: dict[str, object] = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": len(pixels),
        "height": grid.height,
        "width": grid.width,
        "interleave": "pixel",
    }
    if grid.crs is not None or grid.transform != Affine.identity():
        profile |= {"crs": grid.crs, "transform": grid.transform}
    if jpeg_quality is None:
        photometric = "RGB" if bands == RGB else "MINISBLACK"
        profile |= {"compress": "deflate", "predictor": 2, "photometric": photometric}
    else:
        profile |= {"compress": "JPEG", "JPEG_QUALITY": jpeg_quality, "photometric": "YCBCR"}
    with (
        replacing(path, also=(RasterioError,), parents=True, sync=False) as part,
        quiet_without_georeference(),
        rasterio.open(part, "w", **profile) as file,
    ):
        file.write(pixels)
        if description is not None:
            file.descriptions = bands
            file.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)


def draw_mask(
    shapes: Sequence[object] | np.ndarray, *, height: int, width: int, all_touched: bool
) -> np.ndarray:
    """Buildings as uint8 (H, W), 1 on the pixels whose centre lies in one, or on all that one touches.

    Args:
        shapes: polygons in pixels, x = column, y = row.
        height: rows of the mask.
        width: columns of the mask.
        all_touched: whether touching is enough.
    """
    if not len(shapes):
        return np.zeros((height, width), np.uint8)
    mask: np.ndarray = rasterize(
        [(shape, 1) for shape in shapes],
        out_shape=(height, width),
        transform=Affine.identity(),
        all_touched=all_touched,
        dtype="uint8",
    )
    return mask
