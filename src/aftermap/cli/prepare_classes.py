"""`aftermap data prepare isprs`, `isaid` and `agrivision`: published datasets of many classes."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from aftermap.cli.dataset_output import JsonFlag, Switch, Workers, progress_bar, show_prepared
from aftermap.cli.prepare_folder import tiling_of
from aftermap.cli.running import numbers

OutFolder = Annotated[Path, Parameter(name=["-o", "--out"])]
OffPaletteName = Literal["refuse", "nearest", "compat"]


def isprs(
    source: Path,
    *,
    out: OutFolder,
    city: Literal["potsdam", "vaihingen"],
    channels: Literal["rgb", "rgbir", "irrg"] | None = None,
    dsm: Annotated[bool, Switch] = False,
    dsm_range: str | None = None,
    eroded: Annotated[bool, Switch] = False,
    tile_px: int = 512,
    overlap_px: int = 112,
    validation: float = 0.1,
    seed: int = 0,
    off_palette: OffPaletteName = "refuse",
    colour_tolerance: float = 32,
    crs: str | None = None,
    compat_grid: Annotated[bool, Switch] = False,
    workers: Workers = 1,
    overwrite: Annotated[bool, Switch] = False,
    json: JsonFlag = False,
) -> None:
    """Prepare ISPRS Potsdam or Vaihingen: large images with coloured labels, cut into tiles, in the official split.

    Files are known by their names, anywhere below SOURCE. Tiles cover every pixel and keep the georeference; those of the
    training images that are at least three quarters unknown are left out.

    Example: aftermap data prepare isprs ~/Potsdam -o potsdam --city potsdam --channels rgbir

    Parameters
    ----------
    source
        The unpacked release, such as 2_Ortho_RGB, 4_Ortho_RGBIR, 5_Labels_all and 1_DSM_normalisation in one folder.
    out
        Folder for images, masks and the manifest.
    city
        Which of the two.
    channels
        Bands; by default rgbir of Potsdam, and irrg, which is all there is, of Vaihingen.
    dsm
        Add the surface model as a band called dsm.
    dsm_range
        Its values that become 0 and 255; by default 0,255 for Potsdam (8-bit) and 240,361 (metres) for Vaihingen.
    eroded
        Labels whose boundaries between classes are unknown (_noBoundary).
    tile_px
        Width and height of a tile.
    overlap_px
        Pixels that neighbouring tiles have in common.
    validation
        Share of the training images, taken whole, that are for validation.
    seed
        Of the choice of these.
    off_palette
        Label colours of no class: refuse them and say where they are, take the nearest class's, or class 0 (compat, as
        the original of MiB-CD).
    colour_tolerance
        Distance in red, green and blue up to which nearest takes a colour for another; unknown beyond it.
    crs
        Reference system of world files; by default EPSG:32633 for Potsdam and EPSG:32632 for Vaihingen.
    compat_grid
        Tiles where the original of MiB-CD cuts them: parts of Vaihingen's images are in none.
    workers
        Processes.
    overwrite
        Cut again into a folder whose tiles were cut otherwise; those are removed.
    json
        Print the counts as JSON.
    """
    from aftermap.data.readers.isprs import TILING, IsprsOptions, prepare_isprs
    from aftermap.errors import InputError

    limits = None if dsm_range is None else numbers("--dsm-range", dsm_range, "240,361")
    if limits is not None and (len(limits) != 2 or not dsm):
        raise InputError(f"--dsm-range {dsm_range} needs two numbers such as 240,361, and --dsm beside it")
    options = IsprsOptions(
        city=city,
        channels=channels,
        dsm=dsm,
        dsm_range=None if limits is None else (limits[0], limits[1]),
        eroded=eroded,
        validation=validation,
        seed=seed,
        crs=crs,
    )
    tiling = tiling_of(
        tile_px=tile_px,
        overlap_px=overlap_px,
        mostly_unknown=TILING.mostly_unknown,
        compat_grid="isprs" if compat_grid else "none",
    )
    with progress_bar("cutting", quiet=json) as progress:
        manifest = prepare_isprs(
            source,
            out,
            options,
            tiling=tiling,
            off_palette=off_palette,
            tolerance=colour_tolerance,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    show_prepared(manifest, out, json=json)


def isaid(
    source: Path,
    *,
    out: OutFolder,
    tile_px: int = 512,
    overlap_px: int = 64,
    valid_is: Literal["test", "validation"] = "test",
    validation: float = 0.1,
    seed: int = 0,
    skip: str = "P1527,P1530",
    off_palette: OffPaletteName = "refuse",
    colour_tolerance: float = 32,
    compat_grid: Annotated[bool, Switch] = False,
    compat_squash: Annotated[bool, Switch] = False,
    workers: Workers = 1,
    overwrite: Annotated[bool, Switch] = False,
    json: JsonFlag = False,
) -> None:
    """Prepare iSAID: aerial images of any size with coloured masks of objects, cut into tiles.

    Images smaller than a tile are one tile of their own size.

    Example: aftermap data prepare isaid ~/iSAID -o isaid --tile-px 512 --overlap-px 64

    Parameters
    ----------
    source
        Folder with train/ and valid/ (or val/), each with P0000.png and P0000_instance_color_RGB.png in folders below it.
    out
        Folder for images, masks and the manifest.
    tile_px
        Width and height of a tile.
    overlap_px
        Pixels that neighbouring tiles have in common.
    valid_is
        What the official validation set is used as; the labels of the official test set are not published.
    validation
        With --valid-is test: share of the training images, taken whole, that are for validation.
    seed
        Of the choice of these.
    skip
        Names of images to leave out; by default those that the development kit leaves out.
    off_palette
        Label colours of no class: refuse them and say where they are, take the nearest class's, or class 0 (compat, as
        the original of MiB-CD).
    colour_tolerance
        Distance in red, green and blue up to which nearest takes a colour for another; unknown beyond it.
    compat_grid
        Tiles where the development kit cuts them; the last two of a row may nearly agree.
    compat_squash
        Resize an image that is no larger than a tile in one direction to a tile, whatever its shape.
    workers
        Processes.
    overwrite
        Cut again into a folder whose tiles were cut otherwise; those are removed.
    json
        Print the counts as JSON.
    """
    from aftermap.data.readers.isaid import prepare_isaid

    tiling = tiling_of(
        tile_px=tile_px,
        overlap_px=overlap_px,
        compat_grid="isaid" if compat_grid else "none",
        compat_squash=compat_squash,
    )
    with progress_bar("cutting", quiet=json) as progress:
        manifest = prepare_isaid(
            source,
            out,
            tiling=tiling,
            valid_is=valid_is,
            validation=validation,
            seed=seed,
            skip=[name.strip() for name in skip.split(",") if name.strip()],
            off_palette=off_palette,
            tolerance=colour_tolerance,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    show_prepared(manifest, out, json=json)


def agrivision(
    source: Path,
    *,
    out: OutFolder,
    val_is: Literal["validation", "test"] = "validation",
    validation: float = 0.1,
    seed: int = 0,
    workers: Workers = 1,
    overwrite: Annotated[bool, Switch] = False,
    json: JsonFlag = False,
) -> None:
    """Prepare Agriculture-Vision: farmland in red, green, blue and infrared, with masks of anomalies.

    Images stay where they are. Pixels outside of a field or without data are unknown, storm damage is background.

    Example: aftermap data prepare agrivision ~/Agriculture-Vision-2021 -o agrivision

    Parameters
    ----------
    source
        Folder with train/, val/ and, without labels, test/, each with images/rgb, images/nir and either gt/ or labels/,
        boundaries/ and masks/.
    out
        Folder for masks and the manifest.
    val_is
        What the official validation set is used as.
    validation
        With --val-is test: share of the training fields that are for validation.
    seed
        Of the choice of these.
    workers
        Processes.
    overwrite
        Write into a folder that holds other things.
    json
        Print the counts as JSON.
    """
    from aftermap.data.readers.agrivision import prepare_agrivision

    with progress_bar("preparing", quiet=json) as progress:
        manifest = prepare_agrivision(
            source,
            out,
            val_is=val_is,
            validation=validation,
            seed=seed,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    show_prepared(manifest, out, json=json)
