"""`aftermap map-many`: a list of pairs as one map."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_crs, check_model, check_outlines, check_place
from aftermap.cli.ending import resumable
from aftermap.cli.options import IMAGES, OBJECTS, RESULT, RUNNING, EngineName, Flag, Json, Out, Several
from aftermap.cli.output import print_json, say
from aftermap.cli.progress import progress
from aftermap.cli.running import AS_IT_IS, Running, percentiles, whole_numbers
from aftermap.remote import is_address
from aftermap.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from aftermap.workflows.many.run import ManyResult, Progress
    from aftermap.workflows.mapping.settings import MapOptions

WORKERS = Parameter(group=Group("Who does the work", sort_key=3))
_SHOWN = 12


def map_many(
    pairs: Path,
    *,
    out: Out,
    model: Annotated[str, Parameter(name=["-m", "--model"])] = "box",
    footprints: Path | None = None,
    aoi: Path | None = None,
    engine: Annotated[EngineName, WORKERS] = "processes",
    address: Annotated[str | None, WORKERS] = None,
    workers: Annotated[int, Parameter(validator=Number(gte=0)), WORKERS] = 0,
    retries: Annotated[int, Parameter(validator=Number(gte=0)), WORKERS] = 1,
    memory: Annotated[float | None, Parameter(validator=Number(gt=0)), WORKERS] = None,
    timeout: Annotated[float | None, Parameter(validator=Number(gt=0)), WORKERS] = None,
    block: Annotated[float | None, Parameter(validator=Number(gt=0)), WORKERS] = None,
    align: Annotated[Literal["auto", "local", "off"], IMAGES] = "auto",
    bands: Annotated[str | None, IMAGES] = None,
    stretch: Annotated[str | None, IMAGES] = None,
    crs: Annotated[str | None, IMAGES] = None,
    resolution: Annotated[float | None, IMAGES] = None,
    nodata: Annotated[str | None, IMAGES] = None,
    min_area: Annotated[float | None, OBJECTS] = None,
    part_touching: Annotated[bool | None, OBJECTS] = None,
    merge_crs: Annotated[str | None, RESULT] = None,
    format_: Annotated[Several, Parameter(name="--format"), RESULT] = None,
    h3: Annotated[int | None, Parameter(validator=Number(gte=0, lte=15)), RESULT] = None,
    grid: Annotated[float | None, Parameter(validator=Number(gte=10)), RESULT] = None,
    title: Annotated[str | None, RESULT] = None,
    overwrite: Annotated[Flag, RESULT] = False,
    resume: Annotated[Flag, RESULT] = False,
    keep: Annotated[Flag, RESULT] = False,
    take_over: Annotated[Flag, RESULT] = False,
    running: Running = AS_IT_IS,
    window: Annotated[int | None, RUNNING] = None,
    json: Annotated[Json, RESULT] = False,
) -> int:
    """Map many pairs of images, and put them together as one map of damage.

    PAIRS is a CSV with the columns pre and post, and name, footprints, cloud_mask, pre_date and post_date where they are
    wanted; or the same as JSON; or a STAC collection whose items have the assets pre and post. Every scene is mapped as
    aftermap map would. Where scenes overlap a building counts once. The result is a folder like that of aftermap map,
    with jobs.csv (state, seconds and reason of every scene) and jobs.log beside the rest.

    A scene that cannot be mapped does not stop the others: it is named, the map is made of the rest, and the exit code is
    1. OUT.work keeps what was done; --resume goes on, with a list that was corrected or has grown, too.

    Example: aftermap map-many pairs.csv -o event

    Example: aftermap map-many pairs.csv -o event --engine ray --address auto --memory 4

    Args:
        pairs: The list. Paths in it are relative to it.
        out: Folder to make.
        model: Model folder, ensemble folder, exported model, or "box" for the model in the package.
        footprints: Buildings to judge where the list names none, any vector file, or FILE:LAYER.
        aoi: Polygons that bound the map, any vector file, or FILE:LAYER.
        engine: processes: of this machine. ray: actors of a Ray cluster, or of Ray on this machine.
        address: Of the Ray cluster: auto, or ray://host:10001.
        workers: How many; 0: one per core.
        retries: How often a scene is begun again whose worker died.
        memory: Memory of a worker in GB; a scene that needs more fails, and its worker is replaced.
        timeout: Seconds that a scene may take.
        block: Scenes of more than so many megapixels are mapped in blocks of rows, each a job of its own; for a few very
            large ones. Not with --aoi.
        align: Whether a measured shift between the dates is taken out; see aftermap map.
        bands: Bands to use, counted from 1, such as 3,2,1.
        stretch: Percentiles brought to 0 and 255, such as 2,98, for pixels that are not 8-bit.
        crs: Reference system in which every scene is mapped; its first image's by default.
        resolution: Pixel size at which every scene is mapped, in metres.
        nodata: Value of pixels that show no ground; see aftermap map.
        min_area: Smallest building in square metres; 10 by default.
        part_touching: Tell touching houses apart when they are traced; the default.
        merge_crs: Reference system of the map of all scenes; by default the one that most of them have.
        format_: Further format of the buildings, as aftermap package writes them; may be given several times, geoparquet
            and pmtiles by default, none for none.
        h3: Resolution of H3 cells to count by.
        grid: Side of squares to count by, in metres.
        title: Heading of page and picture; by default the name of the output folder.
        overwrite: Replace an earlier result, and start again.
        resume: Go on with an interrupted run, or with one in which scenes failed. A map that is complete stays.
        keep: Keep OUT.work, for a list that grows.
        take_over: Go on in a bucket although another command seems to write there, such as one that died elsewhere.
        running: How the model is run.
        window: Side of the model's windows in pixels; smaller takes less memory.
        json: Print everything as JSON.
    """
    chosen = None if bands is None else whole_numbers("--bands", bands, "3,2,1")
    limits = percentiles(stretch)
    check_outlines(footprints, aoi)
    check_model(model)
    check_crs(crs)
    check_crs(merge_crs, "--merge-crs")
    if not is_address(out):
        check_place(out)

    from aftermap import api
    from aftermap.geo.ground import parse_nodata
    from aftermap.workflows.many.run import FORMATS

    optional = {"window_px": window, "min_area_m2": min_area, "part_touching": part_touching}
    options: MapOptions = {
        "bands": chosen,
        "stretch": limits,
        "crs": crs,
        "resolution": resolution,
        "nodata": None if nodata is None else parse_nodata(nodata),
        "title": title,
        "overwrite": overwrite,
        "resume": resume,
        **asdict(running.options()),  # type: ignore[typeddict-item]  # its fields are some of the keywords
        **{name: value for name, value in optional.items() if value is not None},
    }
    formats = FORMATS if format_ is None else [each for each in format_ if each != "none"]
    with _told_how_to_go_on(out), _progress() as report:
        result = api.map_many(
            pairs,
            out,
            model=model,
            footprints=footprints,
            aoi=aoi,
            align=align,
            engine=engine,
            address=address,
            workers=workers,
            retries=retries,
            memory_gb=memory,
            timeout_s=timeout,
            formats=formats,
            h3=h3,
            squares_m=grid,
            merge_crs=merge_crs,
            block_mpx=block,
            keep=keep,
            take_over=take_over,
            progress=report,
            **options,
        )
    if json:
        print_json(result.as_dict())
    else:
        _tell(result)
    return 1 if result.failed else 0


@contextmanager
def _told_how_to_go_on(out: Path) -> Iterator[None]:
    """Tell it after Ctrl-C, of a bucket too."""
    if not is_address(out):
        with resumable(out):
            yield
        return
    try:
        yield
    except KeyboardInterrupt:
        from aftermap.remote import Address

        say(f"{Address.parse(out).shown} keeps finished scenes: pass --resume to continue", error=True)
        raise


def _tell(result: "ManyResult") -> None:
    if result.was_complete:
        say(f"{result.folder} is complete: all {counted(len(result.jobs), 'scene')} were mapped before")
        return
    done = len(result.jobs) - len(result.failed)
    words = f"{done} of {counted(len(result.jobs), 'scene')} mapped in {result.seconds:.0f} s"
    if result.reused:
        words += f", {result.reused} of them before"
    if result.merged is not None:
        from aftermap.cli.map import counts_table

        say(counts_table(result.summary), markup=True)
        words += f"; {counted(result.merged.doubles, 'double')} left out where scenes overlap"
    say(words)
    if result.failed:
        say(_failures(result))
    if result.folder is not None:
        place = result.folder.rstrip("/")
        say(f"the map is in {place}" if is_address(place) else f"open {place}/map.html")
        if result.failed:
            say(
                "the scenes that are missing are mapped by the same command with --resume, once their cause is mended"
            )
    else:
        say(f"no map: see {result.work}")


def _failures(result: "ManyResult") -> "Table":
    from rich.table import Table

    table = Table("scene", "attempts", "why", title=f"{counted(len(result.failed), 'scene')} failed")
    table.title_justify = "left"
    for job in result.failed[:_SHOWN]:
        table.add_row(job.name, str(job.attempts), job.reason)
    if len(result.failed) > _SHOWN:
        table.caption = f"and {len(result.failed) - _SHOWN:,} more in jobs.csv"
    return table


@contextmanager
def _progress() -> Iterator["Progress"]:
    with progress() as show:
        yield lambda stage, done, total, note: show(stage, done, total, note)
