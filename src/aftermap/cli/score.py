"""`aftermap score`: predicted masks against the truth; `aftermap combine`: one building map out of several runs'."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_masks, check_place
from aftermap.cli.options import Flag, Json, MaybeOut, Out
from aftermap.cli.output import print_json, say, say_written
from aftermap.cli.progress import progress_bar
from aftermap.wording import counted


def score(
    prediction: Path,
    target: Path,
    *,
    json: Json = False,
    out: MaybeOut = None,
    events: Path | None = None,
    bootstrap: Annotated[int, Parameter(validator=Number(gte=0, lte=100_000))] = 1000,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    iou: Annotated[float, Parameter(validator=Number(gt=0, lt=1))] = 0.5,
) -> None:
    """Score predicted masks: the official xView2 score and its companions.

    Prints the official score, the same over the classes that are present,
    95 % intervals from a bootstrap over scenes, scores by event and scores
    per building.

    Example: aftermap score predictions targets -o score

    Args:
        prediction: Folder of predicted masks: test_localization_00000_prediction.png (0/1) and
            test_damage_00000_prediction.png (0 to 4), or damage masks named as the targets are.
        target: Folder of target masks, ..._target.png in the same naming; 255 marks unknown pixels.
        json: Print the scores as JSON.
        out: Folder for score.json and score.png.
        events: CSV (scene,event) or JSON object that names the event of each scene; by default the names tell it.
        bootstrap: Resamples of the scenes for the intervals; 0 leaves them out.
        seed: Seed of the resamples.
        iou: Overlap above which a predicted and a target outline are the same building.
    """
    check_masks(prediction, "predicted")
    check_masks(target, "target")
    check_place(out)

    from aftermap import api
    from aftermap.products.score_table import score_tables
    from aftermap.workflows.scoring.score import write_report

    with progress_bar("scoring") as show:
        report = api.score(
            prediction,
            target,
            events=events,
            bootstrap=bootstrap,
            seed=seed,
            iou=iou,
            progress=show,
        ).as_dict()
    files = [] if out is None else write_report(report, out)
    if json:
        print_json(report)
        return
    say(score_tables(report))
    say_written(files)


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
        say(f"{counted(result.files, 'map')} of {counted(len(folders), 'run')}: {result.folder}")
