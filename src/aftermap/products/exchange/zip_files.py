"""Zip archives whose bytes depend on nothing but what is in them."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

_DATE = (2000, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16


def write_zip(path: Path, members: Mapping[str, bytes | Path]) -> None:
    """Write an archive of some files, in their order.

    Args:
        path: the archive.
        members: content, or the file that holds it, by name.

    Raises:
        OSError: it cannot be written.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, _PLAIN_FILE, 3
            with archive.open(info, "w", force_zip64=_is_large(content)) as member:
                if isinstance(content, bytes):
                    member.write(content)
                    continue
                with content.open("rb") as source:
                    while block := source.read(1 << 20):
                        member.write(block)


def _is_large(content: bytes | Path) -> bool:
    return isinstance(content, Path) and content.stat().st_size >= 2**31
