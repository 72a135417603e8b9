"""`aftermap benchmark`: models and recipes compared on folds that do not leak."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_dataset, check_model, check_place
from aftermap.cli.ending import resumable
from aftermap.cli.options import Flag, Json, Out, Several
from aftermap.cli.output import print_json, say
from aftermap.cli.progress import progress
from aftermap.cli.running import AS_IT_IS, Running, whole_numbers


def benchmark(
    data: Path,
    *,
    model: Annotated[list[str] | None, Parameter(name=["-m", "--model"], negative="")] = None,
    recipe: Annotated[list[str] | None, Parameter(name=["-r", "--recipe"], negative="")] = None,
    out: Out,
    protocol: str = "leave-one-event-out",
    shots: str = "0,1,5,10",
    adapt: Several = None,
    event: Several = None,
    tested: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    informed: Flag = False,
    seeds: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    include: Several = None,
    bootstrap: Annotated[int, Parameter(validator=Number(gte=0))] = 1000,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    resume: Flag = False,
    overwrite: Flag = False,
    running: Running = AS_IT_IS,
    json_output: Json = False,
) -> None:
    """Compare models, and recipes that are trained for it, on one protocol.

        aftermap benchmark xbd-prepared -m box -m 'mine=runs/mine-{fold}/model' -o compared

        aftermap benchmark xbd-prepared -m box --protocol few-shot --shots 0,1,5 -o few

    Every scene is read once and shown to all. The result is a page (leaderboard.html) with figures by pixel and by
    building, their intervals over scenes and events, calibration, risk-coverage curves and speed; the same as JSON and
    CSV; and the folds as a file (protocol.json) by which others can compare their models with yours.

    Args:
        data: A prepared dataset with two dates and labels of damage.
        model: A model, as PATH or NAME=PATH; once for each. {fold} in it stands for the name of the fold, so that each
            event is scored by a model that has not seen it. The first is what the others are compared with.
        recipe: A recipe or a plan of several, as PATH or NAME=PATH; it is trained for every fold and seed on what the
            protocol allows, beside the output (OUT-runs). Finished runs are taken as they are.
        out: Folder to make.
        protocol: By which scenes: leave-one-event-out, few-shot (every model is also adapted with a few scenes of the
            event), block, split (the dataset's own), or the protocol.json of another benchmark.
        shots: With few-shot, with how many labelled scenes of the event.
        adapt: With few-shot, a setting of the adaptation as key=value, such as steps=40; once for each.
        event: An event that is tested, where an event is; once for each. All are by default.
        tested: With few-shot, at most so many scenes of each event are tested; 0 takes all.
        informed: With few-shot, scenes to adapt with are drawn as 'aftermap adapt' does, to show every kind of damage,
            and not by hash.
        seeds: Runs of each recipe and fold.
        set_: A setting of the recipes as key=value, such as steps=500, and each.steps=500 for those of a plan; once for
            each. {fold} in it stands for the name of the fold.
        include: The benchmark.json of others by the same protocol, whose rows are shown too.
        bootstrap: Resamples for the intervals; 0 leaves them out.
        seed: Of a protocol that is made here.
        resume: Go on with an interrupted benchmark.
        overwrite: Replace a finished one.
        running: How models are run.
        json_output: Print JSON.
    """
    from aftermap.errors import InputError
    from aftermap.extras import needs

    check_dataset(data, whole=True)
    check_place(out)
    if not model and not recipe:
        raise InputError("nothing to compare: pass a model with -m, or a recipe with -r")
    if recipe:
        needs("aftermap benchmark --recipe", "train")
    if protocol == "few-shot":
        needs("aftermap benchmark --protocol few-shot", "train")
    counts = whole_numbers("--shots", shots, "0,1,5,10")
    for word in model or ():
        path = word.partition("=")[2] or word
        if "{fold}" not in path:
            check_model(path)

    from aftermap import api
    from aftermap.files import work_path
    from aftermap.products.score_table import benchmark_table

    try:
        with resumable(out), progress() as show:
            result = api.benchmark(
                data,
                out,
                models=model or (),
                recipes=recipe or (),
                protocol=protocol,
                shots=counts,
                events=event or (),
                tested=tested,
                informed=informed,
                adapt=adapt or (),
                seeds=seeds,
                seed=seed,
                overrides=set_ or (),
                include=include or (),
                bootstrap=bootstrap,
                running=running.options(),
                resume=resume,
                overwrite=overwrite,
                progress=show,
            )
    except KeyboardInterrupt:
        runs = out.with_name(f"{out.name}-runs")
        if runs.is_dir() and not work_path(out).exists():
            say(f"{runs} keeps what was trained: the same command goes on", error=True)
        raise
    if json_output:
        print_json(result.report)
        return
    say(benchmark_table(result.report))
    for entrant in result.report["entrants"]:
        if entrant.get("leaks"):
            say(f"{entrant['name']} {entrant['leak']}: its figures flatter", error=True)
    say(f"leaderboard: {result.page}")
