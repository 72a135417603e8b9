"""`aftermap export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_dataset, check_model, check_place
from aftermap.cli.options import Flag, Json, Out
from aftermap.cli.output import print_json, say

if TYPE_CHECKING:
    from aftermap.workflows.export.run import ExportResult


def export(
    model: str,
    *,
    to: Literal["onnx", "openvino"],
    out: Out,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    normalise: Literal["inside", "outside"] = "inside",
    calibrate: Path | None = None,
    windows: Annotated[int, Parameter(validator=Number(gte=1))] = 96,
    int8: list[str] | None = None,
    tiles: Path | None = None,
    scenes: Annotated[int, Parameter(validator=Number(gte=0))] = 24,
    budget: list[str] | None = None,
    execution: Literal["f32", "bf16"] = "f32",
    overwrite: Flag = False,
    json_output: Json = False,
) -> int:
    """Write a model as a graph that runs without PyTorch, if it decides like the original.

        aftermap export box --to openvino -o box-openvino

    The exported folder, or the bare .onnx or .xml in it, is a model for map, predict and evaluate. Batch, height and
    width are free. An ensemble becomes one graph.

    Both are compared on scenes before anything is written to OUT: beyond the budget the export is refused, exit code
    1, and the class that fell is named. 8 bits need scenes of yours to measure ranges on:

        aftermap export model --to openvino --precision int8 --calibrate xbd-prepared --tiles xbd-prepared -o int8

    Args:
        model: A model folder, an ensemble folder, hf://owner/name, or box.
        to: Format: onnx for ONNX Runtime, TensorRT and others; openvino for processors.
        out: The folder of the exported model.
        precision: Of the weights; int8 computes in 8 bits too.
        normalise: Inside takes raw 8-bit values and does the rest in the graph; outside wants normalised values.
        calibrate: Prepared dataset for int8, of which the training scenes are taken, else all.
        windows: Of these scenes.
        int8: How to quantise, as key=value: ranges=percentile, keep_first=true, keep_costliest=3 and others.
        tiles: Prepared dataset to compare on, of which the test scenes are taken, else those of validation, else all;
            labels are used where there are any. By default synthetic scenes.
        scenes: At most so many of them, spread evenly; 0 takes all.
        budget: What may differ, as key=value: f1_loss=0.01, agreement=0.99 and others; by default what the precision
            is allowed.
        execution: Arithmetic of OpenVINO; bf16 is faster on processors that have it.
        overwrite: Replace an exported model.
        json_output: Print the report as JSON.
    """
    from aftermap.extras import Extra, needs

    wanted: tuple[Extra, ...] = ("train",) if to == "openvino" else ("train", "onnx", "export")
    needs(f"aftermap export --to {to}", *wanted)
    if precision == "int8":
        needs("aftermap export --precision int8", "export")
    check_model(model, whole=True)
    for data in (calibrate, tiles):
        if data is not None:
            check_dataset(data, whole=True)
    check_place(out)

    from rich.console import Console

    from aftermap.artefacts.graphs.quantise import Quantisation
    from aftermap.config import build_config
    from aftermap.inference.parity import Budget
    from aftermap.workflows.export.run import ExportOptions, default_budget, export_model

    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    allowed = None
    if budget:
        usual = default_budget(precision, execution).model_dump()
        allowed = build_config(Budget, usual, budget, source="--budget")
    options = ExportOptions(
        to=to,
        precision=precision,
        inside=normalise == "inside",
        calibrate=calibrate,
        windows=windows,
        quantisation=build_config(Quantisation, {}, int8, source="--int8") if int8 else None,
        tiles=tiles,
        scenes=scenes,
        budget=allowed,
        execution=execution,
    )
    with console.status("") as status:

        def show(stage: str) -> None:
            status.update(stage)
            if not console.is_terminal:
                console.print(stage)

        result = export_model(model, out, options, overwrite=overwrite, on_stage=show)
    if json_output:
        print_json(result.as_dict())
    else:
        _show(result)
    if not result.parity.passed:
        console.print(f"aftermap: not exported, {result.parity.reason}", markup=False)
        return 1
    return 0


def _show(result: "ExportResult") -> None:
    """The comparison class by class, and what was written."""
    from rich.table import Table

    report, graph = result.parity.report, result.card.graph
    classes: dict[str, dict[str, Any]] = report.get("classes", {})
    if classes:
        table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        table.add_column("class", no_wrap=True)
        for title in ("F1 original", "exported", "change", "against original"):
            table.add_column(title, justify="right")
        for name, row in classes.items():
            values = [row[key] for key in ("f1_original", "f1_exported", "f1_change", "f1_against_original")]
            formats = ("{:.4f}", "{:.4f}", "{:+.4f}", "{:.4f}")
            table.add_row(
                name, *("-" if v is None else f.format(v) for v, f in zip(values, formats, strict=True))
            )
        say(table)
    say(
        f"{graph.parameters / 1e6:.2f} M parameters, {graph.gmacs:.1f} GMACs at 1024 px, {graph.bytes / 1e6:.1f} MB"
    )
    if result.folder is not None:
        say(f"{result.parity.reason}: {result.folder / graph.file}")
