"""`aftermap bench`: models timed against each other."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_dataset, check_model, check_place
from aftermap.cli.running import TTA_HELP, TtaName

SplitName = Literal["train", "validation", "test", "unassigned", "all"]


def bench(
    *models: str,
    backend: str = "auto",
    size: Annotated[int, Parameter(validator=Number(gte=1))] = 1024,
    batch: str = "1",
    threads: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    device: str = "cpu",
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto",
    tta: Annotated[TtaName, Parameter(help=TTA_HELP)] = "none",
    data: Path | None = None,
    split: SplitName = "test",
    seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 180.0,
    out: Annotated[Path | None, Parameter(name=["-o", "--out"])] = None,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
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
    import json
    import sys

    from aftermap.extras import needs

    needs("aftermap bench", "train")
    for model in models:
        if not model.startswith("reference:"):
            check_model(model.partition("+")[0])
    if data is not None:
        check_dataset(data)
    check_place(out)

    from rich.console import Console

    from aftermap.workflows.bench.report import begin_report, write_report
    from aftermap.workflows.bench.run import Settings
    from aftermap.workflows.bench.run import bench as measure

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    settings = Settings(
        backends=_backends(backend),
        batches=_batches(batch),
        size_px=size,
        threads=threads,
        device=device,
        precision=precision,
        tta=tta,
        seconds=seconds,
        data=data,
        split=split,
    )
    if out is not None:
        begin_report(out)
    report = measure(models, settings, on_progress=lambda line: errors.print(line, markup=False, style="dim"))
    files = [] if out is None else write_report(report, out)
    if json_output:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    else:
        _show(report, files)
    if report["ended"] == "interrupted":
        return 130
    return 1 if report["failures"] else 0


def _show(report: dict[str, Any], files: list[Path]) -> None:
    from rich.console import Console

    from aftermap.products.timing_table import timing_tables

    console = Console(highlight=False)
    console.print(timing_tables(report))
    for path in files:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


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


def _batches(text: str) -> tuple[int, ...]:
    from aftermap.errors import InputError

    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--batch {text} is not a list of whole numbers: pass one such as 1,4") from None
