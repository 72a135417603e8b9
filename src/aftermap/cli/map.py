"""`aftermap map`: two dates to a map of damaged buildings, one to its buildings or classes; `aftermap demo`: a town."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from aftermap.cli.checks import check_crs, check_images, check_model, check_outlines, check_pair, check_place
from aftermap.cli.ending import resumable
from aftermap.cli.options import IMAGES, OBJECTS, RESULT, RUNNING, Flag, Json, Out
from aftermap.cli.output import print_json, say
from aftermap.cli.progress import progress
from aftermap.cli.running import AS_IT_IS, BackendName, Running, percentiles, say_choices, whole_numbers
from aftermap.errors import InputError
from aftermap.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from aftermap.workflows.mapping.inputs.memory import Imagery, Vectors
    from aftermap.workflows.mapping.run import Progress
    from aftermap.workflows.mapping.settings import MapOptions

NOTHING_TO_SAY = ("MIT", "Apache-2.0", "CC0-1.0", "CC BY 4.0", "not stated")
"""Licences that ask nothing of who uses a map."""


def map_command(
    pre: Path | None = None,
    post: Path | None = None,
    *,
    out: Out,
    pair: str | None = None,
    task: Literal["damage", "buildings", "classes", "post-only", "pre-only"] | None = None,
    model: Annotated[str, Parameter(name=["-m", "--model"])] = "box",
    footprints: Path | None = None,
    aoi: Path | None = None,
    align: Annotated[Literal["auto", "local", "off"], IMAGES] = "auto",
    bands: Annotated[str | None, IMAGES] = None,
    stretch: Annotated[str | None, IMAGES] = None,
    crs: Annotated[str | None, IMAGES] = None,
    resolution: Annotated[float | None, IMAGES] = None,
    cloud_mask: Annotated[Path | None, IMAGES] = None,
    nodata: Annotated[str | None, IMAGES] = None,
    min_area: Annotated[float | None, OBJECTS] = None,
    part_touching: Annotated[bool | None, OBJECTS] = None,
    keep_outside: Annotated[Flag, OBJECTS] = False,
    align_footprints: Annotated[Flag, OBJECTS] = False,
    features: Annotated[Flag, OBJECTS] = False,
    title: Annotated[str | None, RESULT] = None,
    pre_date: Annotated[str | None, RESULT] = None,
    post_date: Annotated[str | None, RESULT] = None,
    overwrite: Annotated[Flag, RESULT] = False,
    resume: Annotated[Flag, RESULT] = False,
    running: Running = AS_IT_IS,
    window: Annotated[int | None, RUNNING] = None,
    json: Annotated[Json, RESULT] = False,
) -> None:
    """Map the damage to every building between two dates, or the buildings or the classes of one.

    Writes a folder with rasters (damage.tif and probabilities.tif; classes.tif and building.tif or confidence.tif for
    one date), the buildings (or the regions of each class) as GeoPackage, GeoJSON and CSV, summary.json,
    provenance.json, overview.png and map.html, which opens in any browser without a network. An interrupted run leaves
    OUT.work beside the output folder; --resume continues it.

    Example: aftermap map pre/ post/ --footprints buildings.geojson -o joplin

    Example: aftermap map https://HOST/pre.tif s3://BUCKET/post.tif --aoi area.geojson -o town

    Example: aftermap map drone.tif --task buildings -o town

    Example: aftermap map aerial.tif -m runs/potsdam/steps/5/model -o cover

    Example: aftermap map --post after.tif -m runs/field/model -o destroyed

    Args:
        pre: Image from before, a folder of tiles (and folders in it), a zip archive of them or a plain VRT; any
            reference system and resolution. With one date the image. An address (https://, s3://, gs://, az://) of an
            image or of a STAC item is read online: of a COG what --aoi touches, else all of it.
        post: Image from after, or a folder of tiles; it is brought onto the grid of the first date. Without the first it
            is mapped alone (--task post-only).
        out: Folder to make.
        pair: In place of both images: a pair that 'aftermap find -o pairs.json' proposed, such as pairs.json:1, by its
            rank or its id. It is read online; its area is mapped where there is no --aoi.
        task: damage: what happened to each building between two dates. buildings: where they are on one image. classes:
        task: damage: what happened to each building between two dates. buildings: where they are on one image. classes:
            what every pixel shows, by the classes that the model tells of one image or of two. post-only: which
            buildings are destroyed, from the image after alone. pre-only: the buildings of the image before, none
            assessed. These two want a model whose card says that it was trained for them. By default classes where the
            model has a legend of classes for so many images, post-only where --post alone is given, else damage.
        model: Model folder, ensemble folder, exported model, or "box" for the model in the package. With --task
            buildings a model of two dates is shown the image as both, and one of classes needs a class called building.
        footprints: Buildings to judge, any vector file, or FILE:LAYER; their ids and columns are kept. By default they
            are traced from what the model sees.
        aoi: Polygons that bound the map, any vector file, or FILE:LAYER.
        align: Whether a measured shift between the dates is taken out where that brings them closer. local: what is left
            of it from place to place is taken out as well, by the same rule; for hills and slanted views.
        bands: Bands to use, counted from 1, in the order of the model's card: 3,2,1 for an image in blue, green, red;
            1,2,3,4 for a model that also looks at near infrared.
        stretch: Percentiles brought to 0 and 255, such as 2,98, for pixels that are not 8-bit.
        crs: Reference system of the map, such as EPSG:32615; the first date's by default.
        resolution: Pixel size of the map in metres (degrees where the reference system is geographic).
        cloud_mask: Raster that is not 0 where the ground is hidden; buildings there are not assessed.
        nodata: Value of pixels that show no ground, such as 0, in place of what the images say. "declared": believe the
            images and guess nothing. "none": every pixel is ground. By default the images are believed, and a large
            black or white rest up to an image's edge is guessed to be no ground, which is warned about.
        min_area: Smallest building, or region of a class, that becomes a polygon, in square metres; 10 by default.
        part_touching: Tell touching houses apart when they are traced, by a watershed; the default,
            --no-part-touching turns it off.
        keep_outside: Keep footprints that do not touch the map in the layers, not assessed; by default they are only
            counted.
        align_footprints: Move footprints that lie beside their houses onto them, block by block, where the edges in the
            image before surely say so; else they stay. As given they are kept in footprints-given.gpkg.
        features: Keep what every building looks like on both dates (features.npz), for aftermap learn; maps of damage
            only.
        title: Heading of page and picture; by default the name of the output folder.
        pre_date: When the first or only image was taken, such as 2011-05-24; by default what its files say.
        post_date: The same of the image from after.
        overwrite: Replace an earlier result.
        resume: Continue an interrupted run with the same options.
        running: How the model is run.
        window: Side of the model's windows in pixels; smaller takes less memory.
        json: Print the summary as JSON.
    """
    chosen = None if bands is None else whole_numbers("--bands", bands, "3,2,1")
    limits = percentiles(stretch)

    given = pre is not None or post is not None
    if given == (pair is not None):
        raise InputError("pass the images, or in their place --pair with a pair of 'aftermap find'")
    check_images(pre, post, cloud_mask)
    check_outlines(footprints, aoi)
    if pair is not None:
        check_pair(pair)
    check_model(model)
    check_crs(crs)
    check_place(out)

    from aftermap import api
    from aftermap.geo.ground import parse_nodata

    optional = {"window_px": window, "min_area_m2": min_area, "part_touching": part_touching}
    options: MapOptions = {
        "bands": chosen,
        "stretch": limits,
        "crs": crs,
        "resolution": resolution,
        "cloud_mask": cloud_mask,
        "nodata": None if nodata is None else parse_nodata(nodata),
        "keep_outside": keep_outside,
        "align_footprints": align_footprints,
        "features": features,
        "title": title,
        "pre_date": _day("--pre-date", pre_date),
        "post_date": _day("--post-date", post_date),
        "overwrite": overwrite,
        "resume": resume,
        **asdict(running.options()),  # type: ignore[typeddict-item]  # its fields are some of the keywords
        **{name: value for name, value in optional.items() if value is not None},
    }
    first, second, area = (pre, post, aoi) if pair is None else _pair(pair, aoi)
    with resumable(out), _progress() as report:
        result = api.map(
            first,
            second,
            out,
            task=task,
            model=model,
            footprints=footprints,
            aoi=area,
            align=align,
            progress=report,
            **options,
        )
    if json:
        tree = {
            "output": result.folder,
            "map": result.folder / "map.html",
            "summary": result.summary,
            "warnings": result.warnings,
            "seconds": round(result.seconds, 1),
            "megapixels": round(result.megapixels, 3),
            "resumed_rows": result.resumed_rows,
            "stages": {stage: round(seconds, 2) for stage, seconds in result.stages.items()},
            "gate": result.gate,
        }
        print_json(tree)
        return
    table = {"buildings": _grades, "classes": _areas}.get(result.task, counts_table)
    say(table(result.summary), markup=True)
    rate = result.seconds / max(result.megapixels, 1e-9)
    say(f"{result.megapixels:.1f} megapixels in {result.seconds:.0f} s ({rate:.2f} s per megapixel)")
    if result.gate is not None:
        say(
            f"gate {result.gate['model']}: {result.gate['skipped']} of {counted(result.gate['windows'], 'window')} taken "
            "as empty and not looked at further"
        )
    if align_footprints:
        say(*_about_footprints(result.folder))
    say(*_about_model(model, result.folder), f"open {result.folder / 'map.html'}")


def _about_footprints(out: Path) -> Iterator[str]:
    """How far footprints were moved, or why they were not."""
    from aftermap.files import read_json

    notes = read_json(out / "provenance.json")["notes"]
    yield from (
        note for note in notes if note.split(" ")[0] == "footprints" or " footprints moved onto " in note
    )


def _pair(pair: str, aoi: Path | None) -> "tuple[Imagery, Imagery | None, Vectors | None]":
    """Both dates of `FILE:RANK`, and the area that is mapped."""
    from geopandas import GeoSeries

    from aftermap.workflows.catalogues.pairs_file import part_rank, read_pair

    chosen = read_pair(*part_rank(pair))
    return chosen.before, chosen.after, GeoSeries([chosen.area], crs=4326) if aoi is None else aoi


def _about_model(model: str, out: Path) -> Iterator[str]:
    """Under which licence a model may be used that is not free, and that there is one trained on real disasters."""
    from importlib.util import find_spec

    from aftermap.artefacts.store import BOX
    from aftermap.files import read_json

    if model == BOX:
        is_here = find_spec("aftermap_field") is not None  # its entry point would cost 0.05 s to look for
        how = "take it by -m field" if is_here else "install packages/aftermap-field and pass -m field"
        yield f"the model in the box is free; one trained on real disasters, for non-commercial use, is 'field': {how}"
        return
    licence = read_json(out / "provenance.json")["model"]["licence"]
    if licence not in NOTHING_TO_SAY:
        yield f"model {model}: licence {licence}, which holds for what is made with it; see its card"


def demo(
    *,
    out: Out = Path("demo"),
    seed: int = 0,
    model: str = "box",
    backend: BackendName = "auto",
    json: Json = False,
) -> None:
    """Synthesise a town that no model has seen, strike it, map it, and score the map against the truth.

    Example: aftermap demo -o demo --seed 7

    Args:
        out: Folder to make: town/ holds images, labels and truth, map/ the map. An earlier demo there is replaced.
        seed: Which town; the same seed gives the same town.
        model: Model folder, or "box" for the model in the package.
        backend: What runs the network. auto: the exported form that lies in the model's folder, else the fastest.
        json: Print the scores as JSON.
    """
    from aftermap.products.score_table import score_tables
    from aftermap.workflows.mapping.demo import run_demo

    check_model(model, whole=True)
    check_place(out)
    say_choices()
    with _progress() as report:
        result = run_demo(out, seed=seed, model=model, backend=backend, progress=report)
    if json:
        print_json(result.as_dict())
        return
    truth = ", ".join(f"{count:,} {level}" for level, count in result.scene.polygons.items())
    say(
        f"{result.scene.event}, a town of {counted(sum(result.scene.polygons.values()), 'building')}: {truth}"
    )
    say(counts_table(result.map.summary), markup=True)
    say(score_tables(result.scores.as_dict()), f"open {result.map.folder / 'map.html'}")


@contextmanager
def _progress() -> Iterator["Progress"]:
    """Megapixels of each stage on standard error, with the time left."""
    with progress("Mpx") as show:
        yield lambda stage, done, total: show(stage, done / 1e6, total / 1e6)


def counts_table(summary: dict[str, Any]) -> "Table":
    """Buildings per class."""
    from rich.table import Table

    from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, NOT_ASSESSED, NOT_ASSESSED_COLOUR

    one_date = f", {summary['mode']}" if "mode" in summary else ""
    table = Table(title=f"{counted(summary['buildings'], 'building')}{one_date}", title_justify="left")
    for heading in ("damage", "buildings", "share", "area m2", "mean confidence"):
        table.add_column(heading, justify="left" if heading == "damage" else "right")

    def row(colour: str, name: str, found: dict[str, Any], share: float | None) -> None:
        area, confidence = found["area_m2"], found.get("mean_confidence")
        table.add_row(
            f"[{colour}]■[/] {name}",
            f"{found['buildings']:,}",
            "" if share is None else f"{share:.1%}",
            "" if area is None else f"{area:,.0f}",
            "" if confidence is None else f"{confidence:.2f}",
        )

    scheme = DESTROYED_OR_NOT if one_date else DAMAGE
    for name, colour in zip(scheme.names[1:], scheme.colours[1:], strict=True):
        row(colour, name, summary["classes"][name], summary["classes"][name]["share"])
    missed = summary["not_assessed"]
    if missed["buildings"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in missed["reasons"].items())
        row(NOT_ASSESSED_COLOUR, f"{NOT_ASSESSED} ({reasons})", missed, None)
    return _with_outside(table, summary)


def _grades(summary: dict[str, Any]) -> "Table":
    """Buildings of a single date by their confidence."""
    from rich.table import Table

    from aftermap.products.summary import GRADES

    area = summary["area_m2"]
    title = f"{counted(summary['buildings'], 'building')}" + ("" if area is None else f" on {area:,.0f} m2")
    table = Table(title=title, title_justify="left")
    for heading in ("confidence", "from", "buildings"):
        table.add_column(heading, justify="left" if heading == "confidence" else "right")
    for name, least, colour in GRADES:
        table.add_row(f"[{colour}]■[/] {name}", f"{least:.1f}", f"{summary['grades'][name]['buildings']:,}")
    return _with_outside(table, summary)


def _with_outside(table: "Table", summary: dict[str, Any]) -> "Table":
    """The table over what is told of its confidence and of footprints that do not touch the map."""
    notes = [f"confidence is {summary['confidence']}"] if summary.get("confidence") else []
    left_out = summary.get("footprints_outside", {}).get("left_out", 0)
    if left_out:
        notes.append(f"{left_out:,} footprints outside of the map were left out (--keep-outside keeps them)")
    if notes:
        table.caption, table.caption_justify = "; ".join(notes), "left"
    return table


def _areas(summary: dict[str, Any]) -> "Table":
    """Ground by class."""
    from rich.markup import escape
    from rich.table import Table

    area = summary["area_ha"]
    title = f"{summary['assessed_px']:,} pixels" if area is None else f"{area:,.1f} ha"
    table = Table(title=f"{title} in {counted(summary['regions'], 'region')}", title_justify="left")
    for heading in ("class", "area ha", "share", "regions", "mean confidence"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name, found in summary["classes"].items():
        confidence = found["mean_confidence"]
        table.add_row(
            f"[{found['colour']}]■[/] {escape(name)}",
            "" if found["area_ha"] is None else f"{found['area_ha']:,.2f}",
            "" if found["share"] is None else f"{found['share']:.1%}",
            "" if name == summary["background"] else f"{found['regions']:,}",
            "" if confidence is None else f"{confidence:.2f}",
        )
    missed = summary["not_assessed"]
    if missed["pixels"]:
        reasons = ", ".join(f"{pixels:,} px {reason}" for reason, pixels in missed["reasons"].items())
        table.caption = f"not assessed: {missed['share_of_all']:.1%} ({reasons})"
    return table


def _day(option: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} {text} is no day: pass one such as 2011-05-24") from None
