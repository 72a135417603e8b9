"""`aftermap data prepare`: one command per kind of dataset."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App

from aftermap.cli.dataset_output import JsonFlag, Out, Switch, progress_bar, show_prepared

app = App(
    help="Turn a dataset into masks and a manifest that 'train', 'check' and 'split' read.\n\n"
    "Example: aftermap data prepare xbd ~/xview2 -o xview2-prepared"
)
Overwrite = Annotated[bool, Switch]


@app.command
def xbd(
    source: Path,
    *,
    out: Out = None,
    unclassified: Literal["no-damage", "ignore", "drop"] = "no-damage",
    geotransforms: Path | None = None,
    workers: int = 1,
    overwrite: Overwrite = False,
    json: JsonFlag = False,
) -> None:
    """Prepare xBD and xView2 data: pairs of images with JSON labels or target masks.

    Images stay where they are. An interrupted preparation goes on where it stopped when it is started again.

    Example: aftermap data prepare xbd ~/xview2 -o xview2-prepared --workers 8

    Parameters
    ----------
    source
        images and labels (or targets), in this folder, in train, tier3, test and hold, or one folder per event.
    out
        Folder for the manifest and the masks; by default the source's name with -prepared, here.
    unclassified
        What un-classified buildings become: class 1 as in the published systems, unknown, or background.
    geotransforms
        JSON of image name -> [six GDAL numbers, WKT or EPSG code]; without it the labels give the georeference.
    workers
        Processes.
    overwrite
        Write into a folder that holds other things.
    json
        Print the counts as JSON.
    """
    from aftermap.data.xbd import prepare_xbd

    target = _target(source, out)
    with progress_bar("preparing", quiet=json) as progress:
        manifest = prepare_xbd(
            source,
            target,
            unclassified=unclassified,
            geotransforms=geotransforms,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    show_prepared(manifest, target, json=json)


@app.command
def folder(
    source: Path,
    *,
    out: Out = None,
    labels: Literal["auto", "building", "damage", "soft"] = "auto",
    footprints: Path | None = None,
    missing_mask: Literal["unlabelled", "background"] = "unlabelled",
    event: str | None = None,
    group_zoom: int | None = None,
    workers: int = 1,
    overwrite: Overwrite = False,
    json: JsonFlag = False,
) -> None:
    """Prepare images with masks, or with one vector file for all of them.

    Images stay where they are. An interrupted preparation goes on where it stopped when it is started again.

    Example: aftermap data prepare folder town -o town-prepared

    Example: aftermap data prepare folder ggaba --footprints labels.geojson --group-zoom 19 -o ggaba-prepared

    Parameters
    ----------
    source
        images/ and masks/ (one date), pre/, post/ and masks/ (pairs with the same file names), or a folder or tree of
        images with their masks beside them as NAME_mask.png or NAME_target.png.
    out
        Folder for the manifest and the masks; by default the source's name with -prepared, here.
    labels
        Whether masks hold buildings (0/1 or 0/255), damage classes (0 to 4), or a probability of buildings in grey (soft:
        kept as soft labels, and as a mask where it is below 0.4 or above 0.6); auto looks at all of them, never for soft.
    footprints
        Buildings as GeoJSON, GeoPackage, Shapefile or FlatGeobuf in any reference system, in SOURCE or anywhere; images
        are GeoTIFFs, or named by their web-mercator tile, such as OAM-1238424-1046544-21.png.
    missing_mask
        What an image without mask is: unlabelled, or all background.
    event
        Name of the event; by default the source's name, or in a tree that of the image's folder.
    group_zoom
        Images are named by their web-mercator tile, and those of one parent tile of this zoom are one event.
    workers
        Processes.
    overwrite
        Write into a folder that holds other things.
    json
        Print the counts as JSON.
    """
    from aftermap.data.folder import prepare_folder

    target = _target(source, out)
    with progress_bar("preparing", quiet=json) as progress:
        manifest = prepare_folder(
            source,
            target,
            labels=labels,
            footprints=footprints,
            missing_mask=missing_mask,
            event=event,
            group_zoom=group_zoom,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    show_prepared(manifest, target, json=json)


def _target(source: Path, out: Path | None) -> Path:
    return out if out is not None else Path(f"{source.resolve().name}-prepared")
