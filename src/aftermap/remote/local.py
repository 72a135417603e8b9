"""Files of this machine by address, written whole or not at all, as a store writes objects."""

import os
import threading
from pathlib import Path

from aftermap.files import replacing, writing

_CHUNK = 8 << 20


def write_file(path: Path, data: bytes | Path, *, create: bool) -> bool:
    """Put a file; see `Online.write`.

    Raises:
        OutputError: it cannot be written.
    """
    if create:
        if path.exists():
            return False
        part = path.with_name(f".part-{os.getpid()}-{threading.get_ident()}-{path.name}")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(data if isinstance(data, bytes) else data.read_bytes())
                os.link(part, path)  # fails where there is one, in one step
            except FileExistsError:
                return False
            finally:
                part.unlink(missing_ok=True)
        return True
    with replacing(path, parents=True, shared=True) as part:
        if isinstance(data, bytes):
            part.write_bytes(data)
        else:
            with data.open("rb") as source, part.open("wb") as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
    return True
