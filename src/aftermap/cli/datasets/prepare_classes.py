"""`aftermap data prepare isprs`, `isaid`, `agrivision` and `photographs`: published datasets of many classes."""

from pathlib import Path
from typing import Literal

from aftermap.cli.datasets.dataset_output import AS_LISTED, BY_DEFAULT, Colours, Preparing, tiling_of
from aftermap.cli.options import Flag
from aftermap.cli.running import numbers


def isprs(
    source: Path,
    *,
    city: Literal["potsdam", "vaihingen"],
    channels: Literal["rgb", "rgbir", "irrg"] | None = None,
    dsm: Flag = False,
    dsm_range: str | None = None,
    eroded: Flag = False,
    tile_px: int = 512,
    overlap_px: int = 112,
    validation: float = 0.1,
    seed: int = 0,
    crs: str | None = None,
    compat_grid: Flag = False,
    colours: Colours = AS_LISTED,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare ISPRS Potsdam or Vaihingen: large images with coloured labels, cut into tiles, in the official split.

    Files are known by their names, anywhere below SOURCE. Tiles cover every pixel and keep the georeference; those of the
    training images that are at least three quarters unknown are left out.

    Example: aftermap data prepare isprs ~/Potsdam -o potsdam --city potsdam --channels rgbir

    Args:
        source: The unpacked release, such as 2_Ortho_RGB, 4_Ortho_RGBIR, 5_Labels_all and 1_DSM_normalisation in one
            folder.
        city: Which of the two.
        channels: Bands; by default rgbir of Potsdam, and irrg, which is all there is, of Vaihingen.
        dsm: Add the surface model as a band called dsm.
        dsm_range: Its values that become 0 and 255; by default 0,255 for Potsdam (8-bit) and 240,361 (metres) for
            Vaihingen.
        eroded: Labels whose boundaries between classes are unknown (_noBoundary).
        tile_px: Width and height of a tile.
        overlap_px: Pixels that neighbouring tiles have in common.
        validation: Share of the training images, taken whole, that are for validation.
        seed: Of the choice of these.
        crs: Reference system of world files; by default EPSG:32633 for Potsdam and EPSG:32632 for Vaihingen.
        compat_grid: Tiles where the original of MiB-CD cuts them: parts of Vaihingen's images are in none.
        colours: What becomes of label colours.
        preparing: Where and how the dataset is prepared.
    """
    from aftermap.data.readers.isprs import TILING, IsprsOptions
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
    preparing.prepare("isprs", source, options=options, tiling=tiling, **colours.keywords())


def isaid(
    source: Path,
    *,
    tile_px: int = 512,
    overlap_px: int = 64,
    valid_is: Literal["test", "validation"] = "test",
    validation: float = 0.1,
    seed: int = 0,
    skip: str = "P1527,P1530",
    compat_grid: Flag = False,
    compat_squash: Flag = False,
    colours: Colours = AS_LISTED,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare iSAID: aerial images of any size with coloured masks of objects, cut into tiles.

    Images smaller than a tile are one tile of their own size.

    Example: aftermap data prepare isaid ~/iSAID -o isaid --tile-px 512 --overlap-px 64

    Args:
        source: Folder with train/ and valid/ (or val/), each with P0000.png and P0000_instance_color_RGB.png in folders
            below it.
        tile_px: Width and height of a tile.
        overlap_px: Pixels that neighbouring tiles have in common.
        valid_is: What the official validation set is used as; the labels of the official test set are not published.
        validation: With --valid-is test: share of the training images, taken whole, that are for validation.
        seed: Of the choice of these.
        skip: Names of images to leave out; by default those that the development kit leaves out.
        compat_grid: Tiles where the development kit cuts them; the last two of a row may nearly agree.
        compat_squash: Resize an image that is no larger than a tile in one direction to a tile, whatever its shape.
        colours: What becomes of label colours.
        preparing: Where and how the dataset is prepared.
    """
    tiling = tiling_of(
        tile_px=tile_px,
        overlap_px=overlap_px,
        compat_grid="isaid" if compat_grid else "none",
        compat_squash=compat_squash,
    )
    preparing.prepare(
        "isaid",
        source,
        tiling=tiling,
        valid_is=valid_is,
        validation=validation,
        seed=seed,
        skip=[name.strip() for name in skip.split(",") if name.strip()],
        **colours.keywords(),
    )


def agrivision(
    source: Path,
    *,
    val_is: Literal["validation", "test"] = "validation",
    validation: float = 0.1,
    seed: int = 0,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare Agriculture-Vision: farmland in red, green, blue and infrared, with masks of anomalies.

    Images stay where they are. Pixels outside of a field or without data are unknown, storm damage is background.

    Example: aftermap data prepare agrivision ~/Agriculture-Vision-2021 -o agrivision

    Args:
        source: Folder with train/, val/ and, without labels, test/, each with images/rgb, images/nir and either gt/ or
            labels/, boundaries/ and masks/.
        val_is: What the official validation set is used as.
        validation: With --val-is test: share of the training fields that are for validation.
        seed: Of the choice of these.
        preparing: Where and how the dataset is prepared.
    """
    preparing.prepare("agrivision", source, val_is=val_is, validation=validation, seed=seed)


def photographs(
    source: Path,
    *,
    release: Literal["voc", "ade20k", "cityscapes"],
    augmented: Flag = True,
    val_is: Literal["validation", "test"] = "test",
    validation: float = 0.0,
    seed: int = 0,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare Pascal VOC, ADE20K or Cityscapes, on which methods for learning classes step by step are compared.

    Images are taken whole, in the official split. Of Cityscapes every city is an event.

    Example: aftermap data prepare photographs ~/VOCdevkit/VOC2012 -o voc --release voc

    Args:
        source: The unpacked release: VOC with JPEGImages/, ADE20K with annotations/, Cityscapes with leftImg8bit/ and
            gtFine/.
        release: Which of the three.
        augmented: Of VOC: train on SegmentationClassAug/ and train_aug.txt where they are.
        val_is: What the official validation set is used as; labels of the official test sets are not published.
        validation: With --val-is test: share of the training images that are for validation.
        seed: Of the choice of these.
        preparing: Where and how the dataset is prepared.
    """
    preparing.prepare(
        "photographs",
        source,
        release=release,
        augmented=augmented,
        val_is=val_is,
        validation=validation,
        seed=seed,
    )
