"""`aftermap data prepare`: one command per kind of dataset."""

from pathlib import Path
from typing import Literal

from cyclopts import App

from aftermap.cli.datasets import prepare_classes, prepare_folder, prepare_published, prepare_samples
from aftermap.cli.datasets.dataset_output import AS_THEY_ARE, BY_DEFAULT, Preparing, Tiles
from aftermap.cli.options import Flag, Several
from aftermap.cli.running import whole_numbers

app = App(
    help="Turn a dataset into masks and a manifest that 'train', 'check' and 'split' read.\n\n"
    "Example: aftermap data prepare xbd ~/xview2 -o xview2-prepared"
)
app.command(prepare_folder.folder, name="folder")
for command in (
    prepare_classes.isprs,
    prepare_classes.isaid,
    prepare_classes.agrivision,
    prepare_classes.photographs,
    prepare_samples.huggingface,
    prepare_samples.torchgeo,
    prepare_published.published,
    prepare_published.auto,
):
    app.command(command)
Crop = Literal["building", "grid", "empty"]


@app.command
def xbd(
    source: Path,
    *,
    unclassified: Literal["no-damage", "ignore", "drop"] = "no-damage",
    geotransforms: Path | None = None,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare xBD and xView2 data: pairs of images with JSON labels or target masks.

    Images stay where they are. An interrupted preparation goes on where it stopped when it is started again.

    Example: aftermap data prepare xbd ~/xview2 -o xview2-prepared --workers 8

    Args:
        source: Folder with images and labels (or targets), at its top, in train, tier3, test and hold, or in a folder
            per event.
        unclassified: What un-classified buildings become: class 1 as in the published systems, unknown, or background.
        geotransforms: JSON of image name -> [six GDAL numbers, WKT or EPSG code]; without it the labels give the
            georeference.
        preparing: Where and how the dataset is prepared.
    """
    preparing.prepare("xbd", source, unclassified=unclassified, geotransforms=geotransforms)


@app.command
def opencities(
    source: Path,
    *,
    crop: Crop = "building",
    size: int = 1024,
    tier: str | None = None,
    area: Several = None,
    max_tiles: int | None = None,
    max_empty_ratio: float | None = None,
    seed: int = 0,
    compat_every_building: Flag = False,
    tiles: Tiles = AS_THEY_ARE,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare the Open Cities AI Challenge: large drone images with GeoJSON footprints, cut into tiles.

    Reads train_metadata.csv (img_uri, label_uri) or the STAC catalogue (catalog.json). Images are read window by window;
    an interrupted preparation goes on where it stopped when it is started again. Every image is an event.

    Example: aftermap data prepare opencities ~/opencities -o tiles --tier 1 --resolutions 0.1,0.2

    Args:
        source: The folder with train_metadata.csv or catalog.json (in it or in its folders), or one of these files.
        crop: building: tiles in which every building lies whole. grid: tiles side by side. empty: ground without
            buildings.
        size: Width and height of a tile in pixels.
        tier: Training tiers, 1 or 2 or 1,2; by default both and the unlabelled test images.
        area: An area such as acc; may be given several times, all by default.
        max_tiles: At most so many per image and resolution, drawn at random.
        max_empty_ratio: At most so many tiles without building per tile with buildings.
        seed: Of everything that is drawn.
        compat_every_building: One window of 1536 px around every building, as the third place of the challenge cut them.
        tiles: How they are cut.
        preparing: Where and how the dataset is prepared.
    """
    config = tiles.config(
        by=crop,
        size_px=size,
        max_tiles=max_tiles,
        max_empty_ratio=max_empty_ratio,
        seed=seed,
        compat_every_building=compat_every_building,
    )
    preparing.prepare(
        "opencities",
        source,
        config=config,
        tiers=() if tier is None else whole_numbers("--tier", tier, "1,2"),
        areas=area or (),
        bands=tiles.band_numbers,
        stretch=tiles.percentiles,
        jpeg_quality=tiles.quality,
    )


@app.command
def spacenet(
    source: Path,
    *,
    images: str | None = None,
    labels: str | None = None,
    image_prefix: str = "",
    label_prefix: str = "",
    missing_labels: Literal["unlabelled", "background"] = "unlabelled",
    event: str | None = None,
    size: int = 1024,
    crop: Crop = "grid",
    compat_stretch: Flag = False,
    tiles: Tiles = AS_THEY_ARE,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare SpaceNet's buildings: 16-bit satellite tiles, each with its GeoJSON, as 8-bit tiles with masks.

    Knows off-nadir Atlanta (Pan-Sharpen), Rio de Janeiro (3band) and the four cities (RGB-PanSharpen); other folders by
    --images and --labels. Tiles of one place seen from several angles share ground: split by block or by group.

    Example: aftermap data prepare spacenet ~/Atlanta_nadir16_catid_1030010002649200 -o atlanta

    Args:
        source: The folder of the dataset, with images and GeoJSON labels somewhere below it.
        images: Folder of the images, below the source.
        labels: Folder of the GeoJSON files, below the source.
        image_prefix: With --images: the part of an image's name that --label-prefix takes the place of in its label's.
        label_prefix: See there.
        missing_labels: What a tile without GeoJSON is: unlabelled, or all background.
        event: Name of the event; by default the source's.
        size: Tiles are cut to this size, smaller ones stay whole.
        crop: grid: tiles side by side. building: tiles in which every building lies whole. empty: ground without
            buildings.
        compat_stretch: As the third place of Open Cities: empty pixels count, fractions are dropped, 8-bit images are
            stretched too.
        tiles: How they are cut.
        preparing: Where and how the dataset is prepared.
    """
    from aftermap.data.readers.spacenet import BANDS

    preparing.prepare(
        "spacenet",
        source,
        config=tiles.config(by=crop, size_px=size),
        images=images,
        labels=labels,
        image_prefix=image_prefix,
        label_prefix=label_prefix,
        missing_labels=missing_labels,
        event=event,
        bands=tiles.band_numbers or BANDS,
        stretch=tiles.percentiles,
        compat_stretch=compat_stretch,
        jpeg_quality=tiles.quality,
    )
