"""Export: a model or an ensemble as a graph that runs without PyTorch, let out only if it decides like its original."""

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.artefacts.card import GIVEN_BANDS, BaseCard
from aftermap.artefacts.ensemble import is_ensemble, load_ensemble
from aftermap.artefacts.exported import (
    EXPORTED_NAME,
    GRAPH_NAMES,
    Execution,
    ExportedCard,
    GraphFormat,
    Precision,
    is_exported,
    seal,
)
from aftermap.artefacts.folder import replacing_model
from aftermap.artefacts.graphs.calibration import calibration_windows, normalised
from aftermap.artefacts.graphs.graph_modules import Exportable, graph_module
from aftermap.artefacts.graphs.quantise import Quantisation, quantise_onnx, quantise_openvino
from aftermap.artefacts.graphs.write import save_openvino, to_onnx, to_openvino
from aftermap.artefacts.store import load_card, model_folder
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import BackendWarning, DataError, InputError, ModelError, OutputError
from aftermap.inference.agreement import lookup_between
from aftermap.inference.backends.base import Execution as RunExecution
from aftermap.inference.backends.base import GraphNetwork
from aftermap.inference.backends.runtimes import open_exported
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.parity import Budget, Parity, Tile, compare
from aftermap.inference.predictor import Predictor
from aftermap.models.configs import AnyModelConfig, CustomConfig
from aftermap.synthetic import KINDS, make_pair
from aftermap.wording import counted
from aftermap.workflows.weights.counting import measure

SYNTHETIC_SEED = 3_000_000
"""No recipe trains on synthetic towns from here on."""

_SYNTHETIC_SCENES, _SYNTHETIC_PX = 4, 512
_WINDOW_PX = 512


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported, and on what it is judged.

    Attributes:
        to: `onnx` or `openvino`.
        precision: of the weights; int8 computes in 8 bits too.
        inside: raw uint8 values in; the graph orders bands and normalises.
        calibrate: a prepared dataset on whose scenes int8 ranges are measured.
        windows: of these scenes.
        quantisation: how int8 ranges are measured, and what stays in float.
        tiles: a prepared dataset to compare on, labelled or not; None takes synthetic scenes.
        scenes: at most so many of them; 0 takes all.
        budget: what the exported model may differ by; None takes what the precision is allowed by default.
        execution: arithmetic of OpenVINO on the processor; bf16 is faster where the processor has it.
    """

    to: GraphFormat
    precision: Precision = "fp32"
    inside: bool = True
    calibrate: Path | None = None
    windows: int = 96
    quantisation: Quantisation | None = None
    tiles: Path | None = None
    scenes: int = 24
    budget: Budget | None = None
    execution: Execution = "f32"


@dataclass(frozen=True, slots=True)
class ExportResult:
    """An export that passed, or did not.

    Attributes:
        folder: of the exported model; None where it was refused, and then nothing was written.
        card: of the exported model.
        parity: what the comparison found.
    """

    folder: Path | None
    card: ExportedCard
    parity: Parity

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        graph = self.card.graph.model_dump(mode="json", exclude={"parity"})
        return {
            "folder": str(self.folder) if self.folder else None,
            "model": self.card.name,
            "graph": graph,
            "parity": self.parity.report,
        }


def export_model(
    name: str | Path,
    out: Path,
    options: ExportOptions,
    *,
    overwrite: bool = False,
    on_stage: Callable[[str], None] | None = None,
) -> ExportResult:
    """Write a model folder, an ensemble or the model in the box as an exported model, and compare the two.

    Nothing is at `out` before the comparison has passed.

    Args:
        name: a model folder, an ensemble folder, `hf://owner/name` or `box`.
        out: the folder of the exported model.
        options: what is exported and how it is judged.
        overwrite: replace an exported model at `out`.
        on_stage: called with what is done next.

    Raises:
        ModelError: the model cannot be used or exported.
        DataError: scenes to compare on or to measure ranges on are missing.
        InputError: a count makes no sense.

    Warns:
        BackendWarning: the gate of an ensemble is left out.
        OutputError: `out` exists, or cannot be written.
    """
    tell = on_stage or (lambda _: None)
    _check_request(name, out, options, overwrite=overwrite)
    tiles = _tiles(options)
    calibration = _calibration_scenes(options, tiles)
    if is_ensemble(name) and load_ensemble(name).gate is not None:
        warnings.warn(
            f"the gate of {name} is no part of the graph: all members see every window",
            BackendWarning,
            stacklevel=2,
        )
    tell("reading the model")
    exportable = graph_module(
        name, inside=options.inside, graph_format=options.to, precision=options.precision
    )
    if exportable.card.given_bands != GIVEN_BANDS and not tiles:
        raise ModelError(
            f"{exportable.card.name} wants the bands {', '.join(exportable.card.bands)}, and synthetic scenes to "
            "compare on are in red, green and blue: pass --tiles with a prepared dataset that has these bands"
        )
    if exportable.card.given_bands != GIVEN_BANDS and options.precision == "int8":
        raise ModelError(
            f"{exportable.card.name} wants the bands {', '.join(exportable.card.bands)}, and 8-bit ranges are measured "
            "on red, green and blue only: export it in fp16"
        )
    try:
        with replacing_model(out) as part:
            tell(f"writing {GRAPH_NAMES[options.to]}")
            _write_graph(exportable, part, options, calibration, tell)
            changes = {"gmacs": round(gmacs_of(name), 3), "execution": options.execution}
            card = seal(part, _with_graph(exportable.card, **changes))
            network = open_exported(part, RunExecution())
            assert isinstance(network, GraphNetwork)
            card = seal(part, _with_graph(card, answer=network.answers()))
            del network
            del exportable  # its weights are in the file now, and in the original that comes next
            tell(f"comparing on {counted(len(tiles), 'scene')}" if tiles else "comparing on synthetic scenes")
            parity = _compare(name, part, options, tiles)
            if not parity.passed:
                raise _NotAlikeError
            card = seal(part, _with_graph(card, parity=parity.report | {"on": _scenes_named(options)}))
    except _NotAlikeError:
        return ExportResult(None, card, parity)
    return ExportResult(out, card, parity)


def default_budget(precision: Precision, execution: Execution) -> Budget:
    """What an exported model may differ by; 32-bit weights multiplied in 16 bits are allowed what 16-bit ones are."""
    return Budget.of("fp16" if (precision, execution) == ("fp32", "bf16") else precision)


def gmacs_of(name: str | Path) -> float:
    """Multiply-accumulates in 1e9 of one image or pair of 1024 px through a model, or through all members."""
    folder = model_folder(name)
    if is_ensemble(name):
        return sum(_gmacs(load_card(folder / m.folder).model) for m in load_ensemble(name).members)
    return _gmacs(load_card(folder).model)


def synthetic_tiles(count: int = _SYNTHETIC_SCENES, *, size_px: int = _SYNTHETIC_PX) -> Iterator[Tile]:
    """Labelled scenes made up on the spot, one disaster after another; always the same ones."""
    for index in range(count):
        pair = make_pair(SYNTHETIC_SEED + index, size_px=size_px, kind=KINDS[index % len(KINDS)])
        images = np.stack([pair.pre, pair.post])
        yield Tile(f"synthetic-{pair.kind}-{index}", images, pair.building_mask, pair.damage_mask)


class _NotAlikeError(Exception):
    """The graph does not decide like its original."""


def _check_request(name: str | Path, out: Path, options: ExportOptions, *, overwrite: bool) -> None:
    if is_exported(name):
        raise ModelError(f"{name} is exported already: give the model folder that it was made from")
    if out.exists():
        if not overwrite:
            raise OutputError(
                f"{out} exists: pass --overwrite to replace it, or choose another output folder"
            )
        if not (out / EXPORTED_NAME).is_file() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{out} is no exported model, so --overwrite leaves it: choose another folder")
    if options.windows < 1:
        raise InputError(f"--windows {options.windows}: expected 1 or more")
    if options.scenes < 0:
        raise InputError(f"--scenes {options.scenes}: expected 0 (all) or more")
    if options.precision == "int8" and options.calibrate is None:
        raise DataError("int8 needs scenes to measure ranges on: pass --calibrate with a prepared dataset")
    if options.execution == "bf16" and options.to != "openvino":
        raise ModelError("bf16 on the processor is for OpenVINO only: pass --to openvino")


def _tiles(options: ExportOptions) -> list[Scene]:
    """Scenes to compare on: those for testing, else those for validation, else all; spread evenly where too many."""
    if options.tiles is None:
        return []
    manifest = Manifest.load(options.tiles)
    scenes = manifest.select("test") or manifest.select("validation") or list(manifest.scenes)
    if not scenes:
        raise DataError(f"{options.tiles} holds no scenes to compare on")
    if options.scenes and len(scenes) > options.scenes:
        scenes = [scenes[index * len(scenes) // options.scenes] for index in range(options.scenes)]
    return scenes


def _calibration_scenes(options: ExportOptions, tiles: Sequence[Scene]) -> list[Scene]:
    """Scenes to measure ranges on: those for training, else all; never one that the result is judged on."""
    if options.precision != "int8" or options.calibrate is None:
        return []
    manifest = Manifest.load(options.calibrate)
    judged = {scene.pre for scene in tiles}
    scenes = manifest.select("train") or list(manifest.scenes)
    left = [scene for scene in scenes if scene.pre not in judged]
    if scenes and not left:
        raise DataError(
            f"all scenes of {options.calibrate} are those of --tiles that the result is judged on: give others to "
            "--calibrate, or split the dataset with 'aftermap data split'"
        )
    return left


def _write_graph(
    exportable: Exportable,
    folder: Path,
    options: ExportOptions,
    calibration: Sequence[Scene],
    tell: Callable[[str], None],
) -> None:
    module, card = exportable.module, exportable.card
    path, half = folder / GRAPH_NAMES[options.to], options.precision == "fp16"
    samples: list[np.ndarray] = []
    if options.precision == "int8":
        side = max(module.least_px, module.multiple * max(1, _WINDOW_PX // module.multiple))
        windows = calibration_windows(calibration, card.dates, size_px=side, count=options.windows)
        samples = [
            w if options.inside else normalised(w, card.normalisation, card.band_order) for w in windows
        ]
    if options.to == "openvino":
        model = to_openvino(module)
        if samples:
            tell(f"measuring ranges on {counted(len(samples), 'window')}")
            model = quantise_openvino(
                model, samples, options=options.quantisation, activation=card.activation
            )
        save_openvino(model, path, half=half)
        return
    if not samples:
        to_onnx(module, path, half=half)
        return
    with tempfile.TemporaryDirectory(prefix="aftermap-export-") as name:
        source = to_onnx(module, Path(name) / "float.onnx")
        tell(f"measuring ranges on {counted(len(samples), 'window')}")
        quantise_onnx(source, path, samples, options=options.quantisation, activation=card.activation)


def _compare(name: str | Path, folder: Path, options: ExportOptions, tiles: Sequence[Scene]) -> Parity:
    """Both models over the same scenes: the original on PyTorch in 32 bits, the exported one as it will be run."""
    original = open_predictor(name, Options(backend="torch", precision="f32"))
    exported = open_predictor(folder)
    assert isinstance(exported, Predictor)
    found = exported.network.precision
    if options.execution == "bf16" and found != "bf16":
        raise ModelError(
            f"this processor computes in {found}, so that a graph for bf16 cannot be checked here: leave --execution out"
        )
    budget = options.budget or default_budget(options.precision, options.execution)
    return compare(
        original, exported, tiles or synthetic_tiles(), budget, lookup=_lookup(original.card, options)
    )


def _lookup(card: BaseCard, options: ExportOptions) -> np.ndarray | None:
    """The model's class of each class of the dataset that is compared on; None where one of them has no legend."""
    if card.legend is None or options.tiles is None:
        return None
    legend = Manifest.load(options.tiles).legend
    return None if legend is None else lookup_between(legend.scheme, card.classes)


def _scenes_named(options: ExportOptions) -> str:
    return "synthetic scenes" if options.tiles is None else options.tiles.resolve().name


def _with_graph(card: ExportedCard, **changes: object) -> ExportedCard:
    return card.model_copy(update={"graph": card.graph.model_copy(update=changes)})


def _gmacs(config: AnyModelConfig) -> float:
    try:
        return measure(config).gmacs
    except (RuntimeError, NotImplementedError, ValueError):
        if isinstance(config, CustomConfig):  # a user's own code need not run without memory
            return 0.0
        raise
