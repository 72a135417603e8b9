"""`aftermap bench`: models timed against each other."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_dataset, check_model, check_place
from aftermap.cli.options import Json, MaybeOut, SplitName
from aftermap.cli.output import print_json, say, say_written
from aftermap.cli.running import MOST_THREADS, TTA_HELP, TtaName, whole_numbers


def bench(
    *models: str,
    backend: str = "auto",
    size: Annotated[int, Parameter(validator=Number(gte=1))] = 1024,
    batch: str = "1",
    threads: Annotated[int, Parameter(validator=Number(gte=0, lte=MOST_THREADS))] = 0,
    device: str = "cpu",
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto",
    tta: Annotated[TtaName, Parameter(help=TTA_HELP)] = "none",
    data: Path | None = None,
    split: SplitName = "test",
    seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 180.0,
    out: MaybeOut = None,
    json_output: Json = False,
) -> int:
    """Time models against each other on this machine: seconds, memory, start, arithmetic, and score against time.

    Every model runs in a process of its own. They take turns, in an order shuffled for every round, until the medians
    are known to 2 % or the time is spent; ratios are to the first model. Timed is the whole prediction from raw pixels
    to probabilities.

        aftermap bench reference:xview2-resnet34-damage+torch box --threads 2 -o bench

        aftermap bench reference:xview2-resnet34-damage+torch+flips+3seeds student+openvino student+torch --seconds 600

    Exits with 1 where a model could not be measured.

    Args:
        models: Model folders, ensemble folders, exported models, 'box' for the model in the box, or reference:NAME for
            an architecture of 'aftermap models' with random weights, its name ending in -localization or -damage.
            Words after plus signs are for one model: its backend, its views (+flips), +3seeds for a reference
            as an ensemble of three.
        backend: One of auto, torch, onnxruntime and openvino, or several of them as torch,openvino.
        size: Height and width of the images in pixels.
        batch: Images or pairs per call, or several such numbers as 1,4.
        threads: Of the processor; 0 takes all.
        device: cpu, cuda or cuda:n.
        precision: Of the arithmetic; auto is what an exported model says, f16 on a GPU and f32 everywhere else.
        tta: Views that are averaged.
        data: Prepared data to score every model on; without it the scores that the models' cards tell are shown.
        split: Of the data; 'all' takes every scene.
        seconds: To spend on timing at most; one round is always finished.
        out: Folder for bench.json, bench.md and score-time.png.
        json_output: Print the results as JSON.
    """
    for model in models:
        if not model.startswith("reference:"):
            check_model(model.partition("+")[0])
    if data is not None:
        check_dataset(data, whole=True)
    check_place(out)

    from aftermap.inference.backends.base import known_device
    from aftermap.products.timing_table import timing_tables
    from aftermap.workflows.bench.candidates import parse_candidates
    from aftermap.workflows.bench.run import Settings
    from aftermap.workflows.bench.run import bench as measure

    settings = Settings(
        backends=_backends(backend),
        batches=tuple(dict.fromkeys(whole_numbers("--batch", batch, "1,4"))),
        size_px=size,
        threads=threads,
        device=device,
        precision=precision,
        tta=tta,
        seconds=seconds,
        data=data,
        split=split,
    )
    known_device(device)
    parse_candidates(models, backends=settings.backends, batches=settings.batches, tta=tta)

    from aftermap.workflows.bench.report import begin_report, write_report  # which brings matplotlib

    if out is not None:
        begin_report(out)
    report = measure(models, settings, on_progress=lambda line: say(line, error=True))
    files = [] if out is None else write_report(report, out)
    if json_output:
        print_json(report)
    else:
        say(timing_tables(report))
        say_written(files)
    if report["ended"] == "interrupted":
        return 130
    return 1 if report["failures"] else 0


def _backends(text: str) -> tuple[Any, ...]:
    from typing import get_args

    from aftermap.errors import InputError
    from aftermap.inference.backends.base import Backend

    names = [name.strip() for name in text.split(",")]
    wrong = [name for name in names if name not in get_args(Backend)]
    if wrong:
        raise InputError(
            f"--backend {wrong[0]!r}: expected some of {', '.join(get_args(Backend))}, such as torch,openvino"
        )
    return tuple(dict.fromkeys(names))
