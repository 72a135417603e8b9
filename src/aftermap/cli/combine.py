"""`aftermap combine`: one building map out of those of several runs."""

from pathlib import Path

from aftermap.cli.checks import check_place
from aftermap.cli.options import Flag, Json, Out
from aftermap.cli.output import plural, print_json, say
from aftermap.cli.progress import progress_bar


def combine(
    *folders: Path,
    out: Out,
    threshold: float | None = None,
    pattern: str = "*",
    compat: Flag = False,
    overwrite: bool = False,
    json_output: Json = False,
) -> None:
    """Average building probability maps over runs: any models, sizes of view or augmentations.

        aftermap combine runs/b1/maps runs/b2/maps -o combined --threshold 0.54

    Each folder is one run, and all hold maps of the same names: GeoTIFF or PNG, floats from 0 to 1 or 8 or 16 bits. What
    lies on the ground stays there. An interrupted command goes on where it stopped.

    Args:
        folders: One per run; one that is given twice counts twice.
        out: A new folder for the maps and for combine.json, which says what they are made of.
        threshold: Write buildings (1) from this probability on, instead of probabilities.
        pattern: Which files of the folders, such as '*_building.tif'.
        compat: Combine as the third place of Open Cities did, which cut at 0.54: averaged at half the size; where no
            pixel is sure the run that spreads least is left out; 8 bits, buildings as 255.
        overwrite: Replace an earlier result at -o.
        json_output: Print JSON.
    """
    from aftermap.errors import DataError
    from aftermap.workflows.mapping.combine import combine_folders

    if not folders:
        raise DataError("no folder of maps was given: aftermap combine runs/b1/maps runs/b2/maps -o combined")
    check_place(out)
    with progress_bar("combining") as show:
        result = combine_folders(
            folders,
            out,
            pattern=pattern,
            threshold=threshold,
            compat=compat,
            overwrite=overwrite,
            progress=show,
        )
    if json_output:
        print_json(result.as_dict())
    else:
        say(f"{plural(result.files, 'map')} of {plural(len(folders), 'run')}: {result.folder}")
