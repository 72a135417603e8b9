"""Where files of this machine were copied from, as long as the process lives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_origins: dict[Path, Mapping[str, Any]] = {}


def note_origin(path: Path, told: Mapping[str, Any]) -> None:
    """Keep what records say of where a file was copied from: `address` and what else is known of it."""
    _origins[path] = told


def origin_of(path: Path) -> Mapping[str, Any]:
    """What was noted of a file; nothing where it was here all along."""
    return _origins.get(path, {})
