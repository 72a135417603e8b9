"""JSON from the values that results are made of, and back."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aftermap.errors import AftermapError, InputError
from aftermap.files.whole import write_text


def write_json(path: Path, tree: Any, *, parents: bool = False, sync: bool = True) -> Path:
    """Write plain values, dataclasses, paths and numpy values as indented JSON; NaN becomes null.

    Raises:
        OutputError: the file cannot be written; an older one stays.
        TypeError: a value has no place in JSON.
    """
    text = json.dumps(to_plain(tree), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n", parents=parents, sync=sync)


def read_json(path: Path, *, error: type[AftermapError] = InputError) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        error: what is raised.

    Raises:
        AftermapError: of the class given: it is missing, cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror or cause}") from None
    except RecursionError:
        raise error(f"{path} cannot be understood: it is nested too deeply") from None
    except ValueError as cause:
        raise error(f"{path} is not JSON: {cause}") from None


def to_plain(value: Any) -> Any:
    """A tree of values that JSON can hold; numbers that are not finite become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):  # of numpy
        return to_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"{type(value).__name__} has no place in JSON")
