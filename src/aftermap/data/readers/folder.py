"""Reader of plain folders: images with class masks, grey masks or one vector file, at one date or two."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from aftermap.classes import BUILDING, DAMAGE, IGNORE
from aftermap.data.band_files import read_file, size_of
from aftermap.data.file_content import checksum, read_bytes
from aftermap.data.geotransform import scene_grid, to_grid
from aftermap.data.preparing.cutter import draw_mask
from aftermap.data.preparing.dataset import Dataset, Labels, SourceScene
from aftermap.data.preparing.whole_scenes import WholeScenes
from aftermap.data.readers.folder_layout import find_scenes
from aftermap.data.readers.webtiles import WebTile
from aftermap.data.scene import SceneGrid
from aftermap.errors import DataError, DataWarning, GeoreferenceError, RasterError
from aftermap.geo.grid import Grid
from aftermap.geo.opening.files import RasterFile
from aftermap.geo.opening.georeference import horizontal
from aftermap.geo.opening.limits import opened
from aftermap.wording import counted

MaskKind = Literal["building", "damage", "soft"]
"""What masks of a plain folder hold."""

MissingMask = Literal["unlabelled", "background"]
UNSURE = (0.4, 0.6)
"""Probabilities between these are neither building nor background. Source: Open Cities, third place (soft labels)."""


def folder_dataset(
    source: Path,
    *,
    labels: Literal["auto", "building", "damage", "soft"] = "auto",
    footprints: Path | None = None,
    missing_mask: MissingMask = "unlabelled",
    event: str | None = None,
    group_zoom: int | None = None,
) -> Dataset:
    """Images with masks, in the layouts of `folder_layout.find_scenes`, or with one vector file for all.

    Masks are single-band 8-bit images: buildings as 0 and 1 or 0 and 255, damage classes 0 to 4 with 255 where the
    class is unknown, or grey. GeoTIFF images bring their georeference.

    Args:
        source: folder of one of those layouts.
        labels: what masks hold. `auto` looks at all of them: a value from 2 to 4 anywhere makes them damage
            classes. `soft`: grey from 0 to 255 is the probability of a building; it is kept as a soft label, and in the
            mask is building or background outside of `UNSURE`.
        footprints: vector file of buildings, from which masks are drawn (a pixel is building where its centre is). Looked
            for as given, then in `source`. Images without georeference have to be named by their web-mercator tile.
        missing_mask: what an image without mask is.
        event: name of the event; by default the folder's name, or in a tree that of the image's folder.
        group_zoom: images are named by their web-mercator tile, and those of one parent tile of this zoom become
            one event, called after it (and after `event` where that is given).

    Raises:
        DataError: another layout, unreadable files, or values that fit no scheme.
        FootprintError: a vector file that cannot be used.
    """
    scenes = find_scenes(source, event=event)
    options = {
        "missing_mask": missing_mask,
        "event": event or "",
        "group_zoom": "" if group_zoom is None else str(group_zoom),
        "footprints": "",
    }
    notes = {"source": str(source.resolve())}
    if group_zoom is not None:
        scenes = [_grouped(scene, group_zoom, event) for scene in scenes]
    if footprints is not None and labels not in ("auto", "building"):
        raise DataError(f"footprints are drawn as buildings, not as labels {labels}: leave --labels out")
    if footprints is not None:
        from aftermap.geo.vectors import part_layer

        beside = part_layer(source / footprints)[0].exists() and not part_layer(footprints)[0].exists()
        chosen = source / footprints if beside else footprints
        scenes = _with_outlines(scenes, chosen)
        file, layer = part_layer(chosen)
        options["footprints"] = checksum(read_bytes(file))[:16] + ("" if layer is None else f":{layer}")
        notes["footprints_file"] = str(file.resolve())
    masks = [scene.label for scene in scenes if scene.label is not None]
    if footprints is None and not masks:
        _warn_of_footprints(source)
    values = set[int]() if labels == "soft" else mask_values(masks)
    target = labels if labels != "auto" else _guess(values, source)
    if target == "damage" and scenes[0].post is None:
        raise DataError(f"{source} has damage masks but one date only: damage needs pre/ and post/ images")
    scheme = DAMAGE if target == "damage" else BUILDING
    # 255 beside 1 can only mean "unknown"; alone it is how many tools write "building".
    foreground = 255 if target == "building" and values <= {0, 255} else 1
    read = partial(read_labels, target=target, foreground=foreground, missing_mask=missing_mask)
    return Dataset(
        kind="folder",
        scheme=scheme.name,
        scenes=scenes,
        make=WholeScenes(read, len(scheme)),
        options={"labels": target, "foreground": str(foreground), **options},
        notes=notes,
    )


def mask_values(masks: Sequence[Path]) -> set[int]:
    """All values that occur in the masks that can be read."""
    present = np.zeros(256, bool)
    for path in masks:
        with suppress(DataError):  # its scene is left out when its turn comes
            present[np.unique(read_mask_file(path))] = True
    return {int(value) for value in np.flatnonzero(present)}


def read_mask_file(path: Path) -> np.ndarray:
    """Read a single-band 8-bit mask (H, W); three equal bands count as one.

    Raises:
        DataError: unreadable, or of another kind.
    """
    bands = read_file(path).array
    if len(bands) >= 3 and (bands[:1] == bands[:3]).all():
        bands = bands[:1]
    if len(bands) != 1 or bands.dtype != np.uint8:
        raise DataError(
            f"{path} has {len(bands)} bands of {bands.dtype}, expected a single-band 8-bit mask of classes; for masks of "
            "many classes, coloured ones too, name them with --legend"
        )
    mask: np.ndarray = bands[0]
    return mask


def read_labels(
    scene: SourceScene,
    /,
    *,
    height: int,
    width: int,
    target: MaskKind,
    foreground: int,
    missing_mask: MissingMask = "unlabelled",
) -> Labels:
    """The labels of one scene.

    Raises:
        DataError: size or values that do not fit.
    """
    grid = read_grid(scene.pre) or scene.grid
    post = (read_grid(scene.post) or scene.grid) if scene.post is not None else grid
    if problem := grid_mismatch(grid, post):
        raise DataError(f"{scene.pre} and {scene.post} {problem}: warp one to the other")
    if scene.outlines is not None:
        building = draw_mask(scene.outlines, height=height, width=width, all_touched=False)
        from aftermap.data.readers.vector_masks import count_inside

        count = count_inside(scene.outlines, height=height, width=width)
        return Labels({"building": building}, {"building": count}, grid)
    if scene.label is None:
        if missing_mask == "unlabelled":
            return Labels(grid=grid)
        mask = np.zeros((height, width), np.uint8)
    else:
        mask = read_mask_file(scene.label)
    if mask.shape != (height, width):
        raise DataError(
            f"{scene.label} has {mask.shape[1]} x {mask.shape[0]} pixels, its image {width} x {height}"
        )
    if target == "soft":
        soft = mask[None].astype(np.float32) / 255
        return Labels({"building": harden_grey(mask)}, grid=grid, soft=soft)
    scheme = DAMAGE if target == "damage" else BUILDING
    if foreground != 1:
        mask = (mask == foreground).astype(np.uint8)
    wrong = np.setdiff1d(mask, [*range(len(scheme)), IGNORE])
    if wrong.size:
        raise DataError(
            f"{scene.label} holds the value {wrong[0]}, expected 0 to {len(scheme) - 1}, or {IGNORE} for unknown"
        )
    return Labels({target: mask}, grid=grid)


def harden_grey(grey: np.ndarray) -> np.ndarray:
    """Building mask uint8 (H, W) of grey uint8 (H, W): 1 from 0.6 on, 0 up to 0.4 of 255, IGNORE between."""
    low, high = (limit * 255 for limit in UNSURE)
    mask = np.full(grey.shape, IGNORE, np.uint8)
    mask[grey <= low] = 0
    mask[grey >= high] = 1
    return mask


def grid_mismatch(pre: SceneGrid | None, post: SceneGrid | None) -> str | None:
    """What differs between the georeferences of two dates by more than half a pixel, in words; None where nothing."""
    if pre is None and post is None:
        return None
    if pre is None or post is None:
        return "have a reference system at one date only"
    if pre.crs != post.crs:
        return f"differ in reference system ({pre.crs[:40]}, {post.crs[:40]})"
    step = max(abs(pre.transform[0]), abs(pre.transform[1]))
    apart = np.abs(np.subtract(pre.transform, post.transform)) / step
    if apart[[2, 5]].max() > 0.5 or apart[[0, 1, 3, 4]].max() > 1e-3:
        return "lie on different grids"
    return None


def _guess(values: set[int], source: Path) -> MaskKind:
    classes = values - {0, IGNORE}
    if classes <= {1}:
        return "building"
    if classes <= set(range(len(DAMAGE))):
        return "damage"
    shown = ", ".join(str(value) for value in sorted(values)[:8])
    raise DataError(
        f"masks in {source / 'masks'} hold {shown}, expected 0/1, 0/255, or damage classes 0 to 4; "
        "where grey is the probability of a building, pass --labels soft"
    )


def _grouped(scene: SourceScene, zoom: int, event: str | None) -> SourceScene:
    """The scene with the georeference of its tile, in the event of its parent tile."""
    tile = WebTile.parse(scene.pre.stem)
    if tile is None:
        raise DataError(
            f"{scene.pre} is not named by a web-mercator tile x-y-z (such as OAM-1238424-1046544-21.png), which "
            "--group-zoom needs: leave it out, and split by event or block"
        )
    try:
        parent = tile.parent(zoom).name
    except ValueError:
        raise DataError(
            f"{scene.pre} is a tile of zoom {tile.zoom}, which has no parent of zoom {zoom}: pass a --group-zoom from "
            f"0 to {tile.zoom}"
        ) from None
    height, width = size_of(scene.pre)[1:3]
    grid = tile.scene_grid(height=height, width=width)
    return replace(scene, grid=grid, event=f"{event}-{parent}" if event else parent)


def _with_outlines(scenes: Sequence[SourceScene], footprints: Path) -> list[SourceScene]:
    """The scenes with the footprints that lie on them."""
    if masked := [scene.label for scene in scenes if scene.label is not None]:
        raise DataError(
            f"{masked[0]} is a mask and --footprints {footprints} is given: leave one of them out"
        )
    placed = []
    for scene in scenes:
        height, width = size_of(scene.pre)[1:3]
        own, tile = read_grid(scene.pre), WebTile.parse(scene.pre.stem)
        named = None if tile is None else tile.scene_grid(height=height, width=width)
        grid = own or scene.grid or named
        if grid is None:
            raise DataError(
                f"{scene.pre} has no georeference, which --footprints needs: give GeoTIFFs, or images named by their "
                "web-mercator tile x-y-z (such as OAM-1238424-1046544-21.png)"
            )
        known = scene if own is not None else replace(scene, grid=grid)
        placed.append((known, to_grid(grid, height=height, width=width)))
    from aftermap.data.readers.vector_masks import place_footprints

    outlines = place_footprints(footprints, {scene.name: grid for scene, grid in placed})
    return [replace(scene, outlines=outlines[scene.name]) for scene, _ in placed]


def _warn_of_footprints(source: Path) -> None:
    """Say so where no image has a mask, but a vector file lies beside them."""
    from aftermap.geo.vectors import FORMATS

    certain = set(FORMATS) - {".csv", ".tsv", ".zip"}  # those hold anything
    found = sorted(path.name for path in source.iterdir() if path.suffix.lower() in certain)
    if found:
        warnings.warn(
            f"no image in {source} has a mask, so all are without labels; {found[0]} is not read: pass "
            f"--footprints {found[0]} if it holds their buildings",
            DataWarning,
            stacklevel=3,
        )


def read_grid(path: Path, *, grey: bool = False) -> SceneGrid | None:
    """Georeference of a TIFF image; other images have none.

    Args:
        path: of the image.
        grey: one band will do as well, such as that of a radar.

    Raises:
        DataError: a TIFF that cannot be read, or is not RGB of 8 bits.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        with opened(path) as image:
            plain = Grid.pixels(image.width, image.height)
            file = RasterFile.of(image, path, plain, "declared")
            grid = Grid(horizontal(image.crs, path), image.transform, image.width, image.height)
    except (RasterError, GeoreferenceError) as error:
        raise DataError(str(error)) from None
    if file.dtype != "uint8" or (file.count != 3 and not (grey and file.count == 1)):
        raise DataError(
            f"{path} has {counted(file.count, 'band')} of {file.dtype}, expected 3 bands of 8 bits (red, green, blue): "
            "convert it with gdal_translate -ot Byte -scale -b 1 -b 2 -b 3"
        )
    return scene_grid(grid)
