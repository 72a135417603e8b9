"""`aftermap data prepare folder`: plain folders of images with masks."""

from pathlib import Path
from typing import Literal

from aftermap.cli.datasets.dataset_output import AS_LISTED, BY_DEFAULT, Colours, Preparing, tiling_of
from aftermap.cli.running import percentiles


def folder(
    source: Path,
    *,
    labels: Literal["auto", "building", "damage", "soft"] = "auto",
    footprints: Path | None = None,
    missing_mask: Literal["unlabelled", "background"] | None = None,
    event: str | None = None,
    group_zoom: int | None = None,
    legend: str | None = None,
    images: str | None = None,
    masks: str | None = None,
    bands: str | None = None,
    tile_px: int | None = None,
    overlap_px: int = 0,
    stretch: str | None = None,
    first_value: int | None = None,
    event_pattern: str | None = None,
    colours: Colours = AS_LISTED,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare images with masks, or with one vector file for all of them.

    Images stay where they are, unless they are cut or stretched. An interrupted preparation goes on where it stopped
    when it is started again.

    Example: aftermap data prepare folder town -o town-prepared

    Example: aftermap data prepare folder ggaba --footprints labels.geojson --group-zoom 19 -o ggaba-prepared

    Example: aftermap data prepare folder dubai --legend dubai-landcover --tile-px 256 --event-pattern 'tile[0-9]+'

    Args:
        source: Folder with images/ and masks/ (one date), pre/, post/ and masks/ (pairs with the same file names), or a
            tree of images with their masks beside them as NAME_mask.png or NAME_target.png.
        labels: Whether masks hold buildings (0/1 or 0/255), damage classes (0 to 4), or a probability of buildings in
            grey (soft: kept as soft labels, and as a mask where it is below 0.4 or above 0.6); auto looks at all of
            them, never for soft.
        footprints: Buildings as GeoJSON, GeoPackage, Shapefile or FlatGeobuf in any reference system, in SOURCE or
            anywhere; images are GeoTIFFs, or named by their web-mercator tile, such as OAM-1238424-1046544-21.png.
        missing_mask: What an image without mask is: unlabelled, or all background. By default unlabelled, with --legend
            refused.
        event: Name of the event; by default the source's name, or in a tree that of the image's folder.
        group_zoom: Images are named by their web-mercator tile, and those of one parent tile of this zoom are one event.
        legend: Masks hold many classes: a legend that comes along (isprs, isaid, agrivision, loveda, zurich-summer,
            dubai-landcover), or a YAML or JSON file of names and colours. Masks are coloured or hold class numbers.
        images: With --legend: folder of the images below SOURCE; by default images, img_dir, images_png or sat.
        masks: With --legend: folder of the masks below SOURCE; by default masks, masks_index, masks_rgb, labels, ann_dir
            or gt.
        bands: With --legend: names of the images' bands in their order, such as red,green,blue,nir; - leaves a band out.
        tile_px: With --legend: cut the images into tiles of this size; by default they stay whole.
        overlap_px: Pixels that neighbouring tiles have in common.
        stretch: With --legend: percentiles that become 0 and 255; by default 2,98 for images that are not 8-bit.
        first_value: Number of the legend's first class in masks of class numbers; lower numbers are unknown.
        event_pattern: With --legend: a regular expression; what it (or its first group) matches in an image's name is
            its event.
        colours: What becomes of label colours.
        preparing: Where and how the dataset is prepared.
    """
    given: dict[str, object] = {
        "--images": images,
        "--masks": masks,
        "--bands": bands,
        "--tile-px": tile_px,
        "--overlap-px": overlap_px or None,
        "--stretch": stretch,
        "--off-palette": None if colours.off_palette == "refuse" else colours.off_palette,
        "--colour-tolerance": colours.colour_tolerance,
        "--first-value": first_value,
        "--event-pattern": event_pattern,
    }
    others: dict[str, object] = {
        "--labels": None if labels == "auto" else labels,
        "--footprints": footprints,
        "--group-zoom": group_zoom,
    }
    _refuse(given if legend is None else others, legend)
    if legend is None:
        preparing.prepare(
            "folder",
            source,
            labels=labels,
            footprints=footprints,
            missing_mask=missing_mask or "unlabelled",
            event=event,
            group_zoom=group_zoom,
        )
        return
    from aftermap.data.readers.class_folder import FolderLayout

    layout = FolderLayout(
        images=images,
        masks=masks,
        bands=None if bands is None else tuple(name.strip() for name in bands.split(",")),
        event=event,
        event_pattern=event_pattern,
        missing_mask=missing_mask,
    )
    preparing.prepare(
        "class_folder",
        source,
        legend=legend,
        layout=layout,
        tiling=tiling_of(tile_px=tile_px, overlap_px=overlap_px),
        first_value=first_value,
        stretch=percentiles(stretch),
        **colours.keywords(),
    )


def _refuse(options: dict[str, object], legend: str | None) -> None:
    """Refuse options of the other kind of masks."""
    from aftermap.errors import InputError

    taken = [name for name, value in options.items() if value is not None]
    if taken and legend is None:
        raise InputError(f"{taken[0]} is for masks of many classes: name them with --legend, or leave it out")
    if taken:
        raise InputError(
            f"{taken[0]} is for masks of buildings, and --legend {legend} for many classes: leave one out"
        )
