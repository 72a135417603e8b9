"""Checkpoints of other programs, read without running anything that they may hold."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aftermap.errors import ModelError
from aftermap.files import sha256_of
from aftermap.wording import counted

Format = Literal["torch", "torch-legacy", "safetensors"]

_STATES = ("state_dict", "model_state_dict", "model_state", "model")
_PREFIX = "module."
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_SCALAR: Any = np.float64(0).__reduce__()[0]
_ALLOWED: list[Any] = [
    np.dtype,
    type(np.dtype(np.float64)),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
"""What a checkpoint may name beside torch's own list: the numpy scalar that `best_score` is, old and new."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights of a checkpoint file, and what else it says.

    Attributes:
        path: the file.
        sha256: of the file.
        format: how it was written.
        state: weights by their names, without the `module.` that data-parallel training leaves.
        prefixed: whether that prefix was there.
        epoch: epochs that were trained, if the file says so.
        best_score: the score that its own training kept, if the file says so.
        ignored: entries that are no weights, such as an optimizer's or apex' state.
    """

    path: Path
    sha256: str
    format: Format
    state: dict[str, Tensor]
    prefixed: bool
    epoch: int | None
    best_score: float | None
    ignored: tuple[str, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint: torch's zip or older format, or safetensors; a dictionary of weights or one that holds it.

    Beside a bare dictionary of weights a `metadata.json` with `best_score` and `trained_epochs` is read.

    Raises:
        ModelError: not a checkpoint, cut short, without weights, or it names code to run, which is never run.
    """
    kind = _format(path)
    tree: Any = _safetensors(path) if kind == "safetensors" else _unpickle(path)
    if not isinstance(tree, Mapping):
        raise ModelError(f"{path} holds a {type(tree).__name__}, expected a dictionary of weights")
    name = next((key for key in _STATES if isinstance(tree.get(key), Mapping)), None)
    state: Mapping[Any, Any] = tree if name is None else tree[name]
    ignored = [] if name is None else [str(key) for key in tree if key not in (name, "epoch", "best_score")]
    ignored += [
        f"{name}.{key}" if name else str(key) for key, value in state.items() if not _is_weight(value)
    ]
    weights = {str(key): value for key, value in state.items() if _is_weight(value)}
    if not weights:
        raise ModelError(f"{path} holds no weights: its entries are {_listed([str(k) for k in tree])}")
    facts: Mapping[str, Any] = tree if name else _metadata(path)
    epoch, score = _number(facts.get("epoch", facts.get("trained_epochs"))), _number(facts.get("best_score"))
    return Checkpoint(
        path=path,
        sha256=sha256_of(path),
        format=kind,
        state=_without_prefix(path, weights),
        prefixed=any(key.startswith(_PREFIX) for key in weights),
        epoch=None if epoch is None else int(epoch),
        best_score=score,
        ignored=tuple(ignored),
    )


def _format(path: Path) -> Format:
    """How a file was written, from its first bytes."""
    if path.is_dir():
        raise ModelError(f"{path} is a folder, expected a checkpoint file: --all imports a folder of them")
    try:
        with path.open("rb") as file:
            start = file.read(16)
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"cannot read checkpoint {path}: {error.strerror or error}") from None
    if size == 0:
        raise ModelError(f"{path} is empty: get it again")
    if start.startswith(b"PK"):
        _check_archive(path, size)
        return "torch"
    if start.startswith(b"\x80"):  # any pickle: torch says what is wrong with it, without running it
        return "torch-legacy"
    if len(start) > 8 and start[8:9] == b"{":
        return "safetensors"
    if len(start) < 16 and _LEGACY_START.startswith(start):
        raise ModelError(f"{path} is cut short after {size:,} bytes: get it again")
    said = start.decode("ascii", "replace").strip()
    raise ModelError(
        f"{path} is not a checkpoint: it starts with {said!r}, expected a torch or safetensors file"
    )


def _check_archive(path: Path, size: int) -> None:
    """Torch's own zip files hold a `data.pkl`."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        raise ModelError(f"{path} is cut short or damaged ({size:,} bytes): get it again") from None
    if any(name.endswith("/constants.pkl") for name in names):
        raise ModelError(f"{path} is a TorchScript program, expected weights: it is not run")
    if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        files = [Path(name).name for name in names if not name.endswith("/")]
        raise ModelError(
            f"{path} is an archive of {counted(len(files), 'file')} ({_listed(files)}): unpack it, and import the folder "
            "with --all or one file of it"
        )


def _unpickle(path: Path) -> Any:
    """The content of a torch file by torch's weights-only unpickler, which knows a fixed list of types."""
    try:
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on pickle protocols: what counts is an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = _GLOBAL.search(str(error))
        if named:
            wanted = named.group(1).rstrip(".,")
            raise ModelError(
                f"{path} asks for {wanted}, which weights never need: nothing of it was run or loaded"
            ) from None
        raise ModelError(f"{path} is damaged, or no checkpoint of weights: {_reason(error)}") from None
    except Exception as error:  # damaged pickles fail in any way; none may pass as a success or a traceback
        raise ModelError(f"{path} is cut short or damaged, or no checkpoint: {_reason(error)}") from None


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is cut short or damaged: {_reason(error)}") from None
    return state


def _is_weight(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _without_prefix(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    stripped: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        while name.startswith(_PREFIX):
            name = name.removeprefix(_PREFIX)
        if name in stripped:
            raise ModelError(f"{path} holds {name} twice, with and without {_PREFIX}")
        stripped[name] = value.detach()
    return stripped


def _metadata(path: Path) -> dict[str, Any]:
    """What MetaDamageNet writes beside `model.pth`; nothing where there is no such file."""
    file = path.with_name("metadata.json")
    if not file.is_file():
        return {}
    try:
        tree = json.loads(file.read_bytes())
    except ValueError:
        raise ModelError(f"{file} beside the checkpoint is not JSON: correct or remove it") from None
    return tree if isinstance(tree, dict) else {}


def _number(value: object) -> float | None:
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    return float(value) if isinstance(value, (int, float, np.number)) else None


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"


def _reason(error: Exception) -> str:
    text = str(error).rpartition("WeightsUnpickler error: ")[
        2
    ]  # before it stands how to load the file unsafely
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]
