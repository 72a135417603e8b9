"""What is known of a file elsewhere before it is read."""

import zlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from aftermap.errors import RemoteError
from aftermap.remote.addresses import Address
from aftermap.remote.reach import amount

if TYPE_CHECKING:
    from aftermap.remote.web import Answer


@dataclass(frozen=True)
class Stat:
    """What is known of a file elsewhere.

    Attributes:
        address: where it lies.
        size: in bytes.
        etag: the store's mark of this version of it, or None.
        modified: when it was written last, or None.
        media_type: as the server says, or None.
    """

    address: Address
    size: int
    etag: str | None = None
    modified: datetime | None = None
    media_type: str | None = None


def stat_of_answer(answer: "Answer", place: Address) -> Stat:
    """What the answer to a range says of its file.

    Raises:
        RemoteError: the server does not send parts of files.
    """
    headers = answer.headers
    total = headers.get("content-range", "").rpartition("/")[2]
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RemoteError(
            f"cannot read {place.shown}: its server packs what it sends, so parts of it mean nothing"
        )
    if answer.status == 416 and total == "0":
        raise RemoteError(f"cannot read {place.shown}: it is empty (0 bytes)")
    if answer.status != 206 or not total.isdecimal():
        raise RemoteError(
            f"cannot read {place.shown}: its server does not send parts of files (HTTP ranges): download it first"
        )
    modified = None
    with suppress(TypeError, ValueError):
        modified = parsedate_to_datetime(headers["last-modified"]) if "last-modified" in headers else None
    return Stat(place, int(total), headers.get("etag"), modified, headers.get("content-type"))


def unpacked(data: bytes, encoding: str, place: Address, most_bytes: int) -> bytes:
    """The content of an answer that was sent packed, as files that lie packed in a bucket are, whoever asks.

    Raises:
        RemoteError: it is packed in another way, damaged, or larger than `most_bytes`.
    """
    if encoding.lower() in ("", "identity"):
        return data
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        if encoding.lower() not in ("gzip", "x-gzip"):
            raise zlib.error(f"encoding {encoding}")
        content = unpacker.decompress(data, most_bytes + 1)
    except zlib.error as error:
        raise RemoteError(f"cannot read {place.shown}: what was sent cannot be unpacked ({error})") from None
    if len(content) > most_bytes:
        raise RemoteError(
            f"{place.shown} is larger than the {amount(most_bytes)} that are read of such a file"
        )
    if not unpacker.eof:
        raise RemoteError(f"cannot read {place.shown}: what was sent is cut short")
    return content


def stat_of_object(meta: Any, place: Address) -> Stat:
    """What a store says of an object."""
    modified = meta["last_modified"]
    return Stat(place, meta["size"], meta["e_tag"], modified.astimezone(UTC) if modified else None)
