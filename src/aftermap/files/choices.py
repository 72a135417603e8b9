"""What was measured on this computer and is not measured again: small facts by what they depend on.

All of it can be deleted at any time and comes back when it is needed.
"""

import contextlib
import hashlib
import json
import platform
from functools import cache
from pathlib import Path
from typing import Any

from aftermap.errors import OutputError
from aftermap.files.cache import cache_folder
from aftermap.files.whole import replacing


def digest(*parts: Any) -> str:
    """A name for what these parts (anything that JSON holds) determine."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def recall(key: str, *, kind: str = "choices") -> dict[str, Any] | None:
    """What `remember` was last told under a key; `kind` is the folder of the cache."""
    try:
        found = json.loads(_place(key, kind).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def remember(key: str, facts: dict[str, Any], *, kind: str = "choices") -> None:
    """Keep facts for the next program; nothing happens where they cannot be written."""
    path = _place(key, kind)
    with contextlib.suppress(OutputError), replacing(path, parents=True, sync=False, shared=True) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n")


def _place(key: str, kind: str) -> Path:
    return cache_folder() / kind / f"{key}.json"


@cache
def processor() -> str:
    """What the processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))]
    return found[0] if found else platform.machine()
