"""`aftermap data from-footprints`: training tiles from any raster and any vector file."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from aftermap.cli.checks import check_images, check_outlines, check_place
from aftermap.cli.datasets.dataset_output import AS_THEY_ARE, Tiles
from aftermap.cli.options import COMPATIBLE, RESULT, TILES, Flag, Json, Out
from aftermap.cli.output import facts_table, print_json, say
from aftermap.cli.progress import progress_bar
from aftermap.cli.running import numbers

if TYPE_CHECKING:
    from aftermap.data.checking.footprint_shift import FootprintShift
    from aftermap.data.preparing.footprint_tiles import CutResult


def from_footprints(
    image: Path,
    footprints: Path,
    *,
    out: Out,
    by: Literal["building", "grid", "empty"] = "grid",
    size: int = 512,
    overlap: Annotated[int, TILES] = 0,
    padding: Annotated[int | None, TILES] = None,
    jitter: Annotated[int, TILES] = 0,
    margin: Annotated[int, TILES] = 16,
    max_tiles: Annotated[int | None, TILES] = None,
    max_empty_ratio: Annotated[float | None, TILES] = None,
    min_valid: Annotated[float, TILES] = 0.5,
    min_building: Annotated[float, TILES] = 0.0,
    nodata: Annotated[str | None, TILES] = None,
    event: Annotated[str | None, RESULT] = None,
    seed: Annotated[int, TILES] = 0,
    compat_every_building: Annotated[Flag, COMPATIBLE] = False,
    compat_scales: Annotated[str, COMPATIBLE] = "1,2,0.5",
    compat_top_left: Annotated[Flag, COMPATIBLE] = False,
    tiles: Tiles = AS_THEY_ARE,
    overwrite: Annotated[Flag, RESULT] = False,
    json: Annotated[Json, RESULT] = False,
) -> None:
    """Make training data of any image and the buildings on it: tiles, masks, and a picture to check that both fit.

    The image is read window by window, whatever its size. An interrupted run goes on where it stopped when it is
    started again. Look at alignment.png in the folder before you train.

    Example: aftermap data from-footprints drone.tif buildings.geojson -o tiles --resolutions 0.1,0.2

    Args:
        image: A GeoTIFF or COG, or a folder of tiles that make one mosaic; or the address (https://, s3://, gs://, az://)
            of one image, of which a copy is made.
        footprints: Building outlines (GeoPackage, GeoJSON, Shapefile, FlatGeobuf) in any reference system, or their
            address.
        out: Folder for images, masks, manifest and alignment.png.
        by: grid: tiles side by side. building: tiles in which every building lies whole. empty: ground without
            buildings.
        size: Width and height of a tile in pixels.
        overlap: grid: pixels that neighbours share.
        padding: building: pixels of ground around each building, where there is room.
        jitter: building: move windows at random by up to so many pixels.
        margin: empty: no building is nearer than so many pixels.
        max_tiles: At most so many per resolution, drawn at random.
        max_empty_ratio: At most so many tiles without building per tile with buildings.
        min_valid: Leave out tiles of which a smaller share holds data.
        min_building: Leave out tiles with buildings on a smaller share of their pixels.
        nodata: Value of pixels that show no ground, "declared" or "none", as for 'aftermap map'.
        event: Name of the event; by default the image's.
        seed: Of everything that is drawn.
        compat_every_building: One window of 1536 px around every building, as the third place of Open Cities cut them.
        compat_scales: With it: pixels of the image per pixel of a tile, in place of --resolutions.
        compat_top_left: With it: keep only the upper left part of the given size.
        tiles: How they are cut.
        overwrite: Cut again into a folder whose tiles were cut otherwise; those are removed.
        json: Print the counts as JSON.
    """
    check_images(image)
    check_outlines(footprints)
    check_place(out)

    from aftermap.data.checking.footprint_shift import measure_shifts
    from aftermap.data.preparing.footprint_tiles import from_footprints as cut
    from aftermap.geo.ground import parse_nodata
    from aftermap.workflows.mapping.inputs.elsewhere import Elsewhere

    config = tiles.config(
        by=by,
        size_px=size,
        overlap_px=overlap,
        padding_px=padding,
        jitter_px=jitter,
        margin_px=margin,
        max_tiles=max_tiles,
        max_empty_ratio=max_empty_ratio,
        min_valid=min_valid,
        min_building=min_building,
        seed=seed,
        compat_every_building=compat_every_building,
        compat_scales=numbers("--compat-scales", compat_scales, "1,2,0.5"),
        compat_top_left=compat_top_left,
    )
    with Elsewhere.of(image, footprints) as elsewhere, progress_bar("cutting") as progress:
        image, outlines = elsewhere.path(image, None), elsewhere.vectors(footprints)
        assert outlines is not None
        result = cut(
            image,
            outlines,
            out,
            config,
            event=event,
            bands=tiles.band_numbers,
            nodata=None if nodata is None else parse_nodata(nodata),
            stretch=tiles.percentiles,
            jpeg_quality=tiles.quality,
            overwrite=overwrite,
            progress=progress,
        )
    shifts = measure_shifts(result.manifest.scenes)
    picture = _draw(result, shifts, out, image)
    _show(result, shifts, picture, out, json=json)


def _draw(result: "CutResult", shifts: "list[FootprintShift]", out: Path, image: Path) -> Path | None:
    """The picture, where there is a building to draw, and a warning where the outlines lie beside the buildings."""
    import warnings

    from aftermap.errors import AlignmentWarning
    from aftermap.products.figures.alignment_figure import describe_shift, draw_alignment

    for shift in shifts:
        if shift.is_clear:
            warnings.warn(describe_shift(shift), AlignmentWarning, stacklevel=2)
    if not any(any(scene.class_pixels[1:]) for scene in result.manifest.scenes):
        return None
    title = f"Footprints on {image.name}"
    return draw_alignment(out / "alignment.png", result.manifest.scenes, shifts, title=title)


def _show(
    result: "CutResult", shifts: "list[FootprintShift]", picture: Path | None, out: Path, *, json: bool
) -> None:
    from dataclasses import asdict

    from aftermap.products.figures.alignment_figure import describe_shift

    scenes = result.manifest.scenes
    empty = sum(not any(scene.class_pixels[1:]) for scene in scenes)
    pixels = [sum(column) for column in zip(*(scene.class_pixels for scene in scenes), strict=True)]
    if json:
        print_json(
            {
                "manifest": out / "manifest.json",
                "tiles": len(scenes),
                "tiles_without_buildings": empty,
                "buildings": result.buildings,
                "building_share": pixels[1] / max(1, sum(pixels)),
                "windows": result.windows,
                "dropped": dict(result.dropped),
                "alignment": [asdict(shift) | {"clear": shift.is_clear} for shift in shifts],
                "picture": picture,
            }
        )
        return
    table = facts_table()
    table.add_row("tiles", f"{len(scenes)} ({empty} without buildings)")
    counts = Counter(f"{scene.resolution_m:.2g} m" for scene in scenes if scene.resolution_m is not None)
    for resolution, number in counts.items():
        table.add_row(f"  {resolution} per pixel", str(number))
    table.add_row("buildings on the image", str(result.buildings))
    table.add_row("building pixels", f"{pixels[1] / max(1, sum(pixels)):.1%}")
    for reason, number in result.dropped.items():
        table.add_row(f"left out, {reason}", str(number))
    say(table, *(describe_shift(shift) for shift in shifts))
    if picture is not None:
        say(f"picture: {picture}")
    say(f"manifest: {out / 'manifest.json'}")
