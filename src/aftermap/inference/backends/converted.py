"""Model folders as graphs for runtimes other than PyTorch, converted once and kept in the cache."""

import hashlib
import importlib.metadata
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import torch

import aftermap.models
from aftermap import __version__
from aftermap.artefacts.store import LoadedModel
from aftermap.errors import AftermapError, ModelError
from aftermap.inference.backends.base import GraphFile
from aftermap.inference.backends.cache import digest, kept_graph
from aftermap.models.build import CustomConfig

_NAMES = {"onnxruntime": "model.onnx", "openvino": "model.xml"}
_PACKAGES = ("torch", "timm", "segmentation-models-pytorch", "openvino", "onnxruntime", "onnx", "onnxscript")


def convert(loaded: LoadedModel, runtime: Literal["onnxruntime", "openvino"]) -> GraphFile:
    """The graph of a model for a runtime, in float32 with normalisation outside; from the cache where it is there.

    Raises:
        ModelError: the model cannot be converted, or a package that it takes is not installed.
        OutputError: there is no room for the graph.
    """

    def make(folder: Path) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of tracers, about what does not change here
                _WRITERS[runtime](loaded, folder / _NAMES[runtime])
        except (AftermapError, OSError):
            raise
        except Exception as error:  # whatever converters raise
            reason = (str(error).strip().splitlines() or [""])[0][:120]
            raise ModelError(
                f"{loaded.card.name} cannot be converted for {runtime} ({type(error).__name__}: {reason}): "
                "use --backend torch"
            ) from None

    card = loaded.card
    # the code of a user's own model may change while its weights stay
    lasting = not isinstance(card.model, CustomConfig)
    key = digest(runtime, loaded.sha256, card.model.model_dump(mode="json"), made_by())
    path = kept_graph(key, _NAMES[runtime], make, lasting=lasting)
    return GraphFile(path=path, card=card, sha256=loaded.sha256, multiple=loaded.model.stride)


@cache
def made_by() -> dict[str, str | None]:
    """Everything besides the model that decides what a graph looks like."""
    found: dict[str, str | None] = {"aftermap": __version__, "models": _code_of_models()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _code_of_models() -> str:
    """Checksum of the architectures' source, which may change between two versions."""
    folder = Path(aftermap.models.__path__[0])
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(text).hexdigest()


def _write_openvino(loaded: LoadedModel, path: Path) -> None:
    import openvino

    dates, bands, side = loaded.card.dates, len(loaded.card.bands), 2 * loaded.model.stride
    example = torch.zeros(2, dates, bands, side, side + loaded.model.stride)
    free = openvino.PartialShape([-1, dates, bands, -1, -1])
    model = openvino.convert_model(loaded.model.eval(), example_input=example, input=[free])
    openvino.save_model(model, path, compress_to_fp16=False)


_WRITERS: dict[str, Callable[[LoadedModel, Path], None]] = {"openvino": _write_openvino}
