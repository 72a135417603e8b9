"""What 8 bits cost and gain: NNCF with OpenVINO against ONNX Runtime's static quantisation, on a model and its scenes.

    OMP_NUM_THREADS=1 python bench/int8.py box --data prepared

Ranges are measured on scenes for training, probabilities and scores compared with PyTorch's on scenes for testing.
Seconds are medians over rounds in which every graph runs once on the same window, so that a busy machine slows all of
them; read them as ratios.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.artefacts.exported import GRAPH_NAMES, GraphFormat, seal
from aftermap.artefacts.graphs.calibration import calibration_windows
from aftermap.artefacts.graphs.graph_modules import Exportable, graph_module
from aftermap.artefacts.graphs.quantise import Quantisation, quantise_onnx, quantise_openvino
from aftermap.artefacts.graphs.write import save_openvino, to_onnx, to_openvino
from aftermap.data.scene import Manifest, Scene, read_images
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.parity import Budget, compare
from aftermap.inference.predictor import AnyPredictor

VARIANTS: dict[str, tuple[GraphFormat, dict[str, Any] | None]] = {
    "OpenVINO fp32": ("openvino", None),
    "OpenVINO int8": ("openvino", {}),
    "OpenVINO int8, ends in float": ("openvino", {"keep_first": True, "keep_last": True}),
    "OpenVINO int8, head in float": ("openvino", {"keep_last": True}),
    "OpenVINO int8, biases corrected": ("openvino", {"bias_correction": "fast"}),
    "OpenVINO int8, symmetric": ("openvino", {"symmetric": True}),
    "OpenVINO int8, 99.99 % of the values": ("openvino", {"ranges": "percentile"}),
    "OpenVINO int8, 4 costliest in float": ("openvino", {"keep_costliest": 4}),
    "ONNX Runtime fp32": ("onnx", None),
    "ONNX Runtime int8": ("onnx", {}),
    "ONNX Runtime int8, first in float": ("onnx", {"keep_first": True}),
    "ONNX Runtime int8, 99.999 % of the values": ("onnx", {"ranges": "percentile", "percentile": 99.999}),
    "ONNX Runtime int8, 4 costliest in float": ("onnx", {"keep_costliest": 4}),
}


class Remembered(AnyPredictor):
    """A predictor that answers what it was asked before from memory."""

    def __init__(self, predictor: AnyPredictor) -> None:
        """Wrap a predictor."""
        self.card, self.sha256, self.multiple = predictor.card, predictor.sha256, predictor.multiple
        self._predictor = predictor
        self._answers: dict[bytes, np.ndarray] = {}

    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Class probabilities of a batch of windows."""
        key = hashlib.sha256(images.tobytes()).digest()
        if key not in self._answers:
            self._answers[key] = self._predictor.predict(images, valid)
        return self._answers[key]


def main() -> None:
    """Quantise, compare, time and print a table in Markdown; every row also goes to a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True, help="a prepared dataset with splits")
    parser.add_argument("--scenes", type=int, default=12, help="scenes to compare on")
    parser.add_argument("--windows", type=int, default=48, help="windows to measure ranges on")
    parser.add_argument("--size", type=int, default=256, help="their height and width")
    parser.add_argument("--timed", type=int, default=512, help="height and width of the window that is timed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help="their names, or parts of them")
    parser.add_argument("--out", type=Path, default=Path("int8.jsonl"))
    words = parser.parse_args()
    manifest = Manifest.load(words.data)
    original = Remembered(open_predictor(words.model, Options(backend="torch", threads=words.threads)))
    windows = list(
        calibration_windows(manifest.select("train"), original.dates, size_px=words.size, count=words.windows)
    )
    scenes = rich(manifest.select("test"), words.scenes)
    whole = [word for word in words.variants if word in VARIANTS]
    parts = [word for word in words.variants if word not in VARIANTS]
    wanted = [name for name in VARIANTS if name in whole or any(part in name for part in parts)]
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        predictors = {}
        for name in wanted:
            made = Path(folder) / str(len(rows))
            started = time.process_time()
            write(words.model, made, name, windows)
            cpu = time.process_time() - started
            predictors[name] = open_predictor(made, Options(backend="auto", threads=words.threads))
            report = compare(original, predictors[name], scenes, Budget.of("int8")).report
            size = sum(p.stat().st_size for p in made.glob("model.*")) / 1e6
            rows[name] = {"variant": name, "mb": size, "cpu_s": cpu, **report}
            print(f"{name}: {report['reason']}", flush=True)
        picture = read_images(scenes[0], dates=original.dates)[None, ..., : words.timed, : words.timed]
        for name, seconds in timed(predictors, np.ascontiguousarray(picture), words.rounds).items():
            rows[name]["seconds"] = seconds
    with words.out.open("a") as file:
        file.writelines(json.dumps({"model": words.model, **row}) + "\n" for row in rows.values())
    print(table(rows))


def rich(scenes: list[Scene], count: int) -> list[Scene]:
    """In turn the scene with most pixels of each class, the rarest class first, so that all can be judged."""
    left, chosen = list(scenes), []
    rarest = np.argsort(np.sum([scene.class_pixels[1:] for scene in scenes], axis=0)) + 1
    while left and len(chosen) < count:
        kind = int(rarest[len(chosen) % len(rarest)])
        chosen.append(max(left, key=lambda scene: scene.class_pixels[kind]))
        left.remove(chosen[-1])
    return chosen


def write(model: str, folder: Path, name: str, windows: list[np.ndarray]) -> None:
    """An exported model folder of one variant."""
    kind, changes = VARIANTS[name]
    precision = "fp32" if changes is None else "int8"
    made: Exportable = graph_module(model, inside=True, graph_format=kind, precision=precision)
    folder.mkdir()
    path, activation = folder / GRAPH_NAMES[kind], made.card.activation
    options = Quantisation(**(changes or {}))
    if kind == "openvino":
        graph = to_openvino(made.module)
        if changes is not None:
            graph = quantise_openvino(graph, windows, options=options, activation=activation)
        save_openvino(graph, path)
    elif changes is None:
        to_onnx(made.module, path)
    else:
        source = to_onnx(made.module, folder / "float.onnx")
        quantise_onnx(source, path, windows, options=options, activation=activation)
        source.unlink()
    seal(folder, made.card)


def timed(predictors: dict[str, AnyPredictor], picture: np.ndarray, rounds: int) -> dict[str, float]:
    """Median seconds per window, each predictor once per round; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(rounds + 1):
        for name, predictor in predictors.items():
            started = time.perf_counter()
            predictor.predict(picture)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown: differences, agreement, F1 changes in points, file size, and time as a ratio to the first row."""
    first = next(iter(rows.values()))
    classes = list(first["classes"])
    titles = ["graph", "mean dp", "99.9 % dp", "agreement", "on buildings", *classes, "gate", "MB", "time"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    original = [f"{_f1(first['classes'][c]['f1_original'])}" for c in classes]
    lines.append(f"| F1 of the original | | | | | {' | '.join(original)} | | | |")
    for name, row in rows.items():
        changes = [_points(row["classes"][c]["f1_change"]) for c in classes]
        cells = [
            name,
            f"{row['difference']['mean']:.5f}",
            f"{row['difference']['quantile']:.3f}",
            f"{row['agreement']:.4f}",
            f"{row['building_agreement']:.3f}",
            *changes,
            "passed" if row["passed"] else "refused",
            f"{row['mb']:.1f}",
            f"{row['seconds'] / first['seconds']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _f1(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f}"


if __name__ == "__main__":
    main()
