"""The bytes of a remote file: asked for in few large ranges, held for a while, and shown as a file to libraries."""

import io
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from aftermap.errors import AftermapError, RemoteError
from aftermap.remote import Address, Online, Stat

HEADER_BYTES = 64 << 10
"""Asked for first: the headers of a COG stand at its beginning."""

_HELD_BYTES = 192 << 20
_SPAN_BYTES = 8 << 20
_AT_ONCE = 8


class RangeReader:
    """The bytes of a remote file, asked for in few large ranges and held for a while; safe to share between threads.

    Attributes:
        stat: size and version of the file.
        failure: the error that a read ended in, which GDAL cannot pass on.
    """

    def __init__(self, address: Address, online: Online) -> None:
        self.stat: Stat = online.stat(address)
        self.failure: AftermapError | None = None
        self._online = online
        self._spans: OrderedDict[int, bytes] = OrderedDict()
        self._starts: list[int] = []
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """The file, as messages show it."""
        return self.stat.address.shown

    def read(self, start: int, length: int) -> bytes:
        """Some bytes, fewer at the end of the file.

        Raises:
            RemoteError: they cannot be read.
        """
        stop = min(start + length, self.stat.size)
        parts = []
        while start < stop:
            held = self._held(start)
            if held is None:
                wanted = min(self.stat.size, max(stop, start + HEADER_BYTES))
                self._fetch(start, self._free_until(start, wanted))
                held = self._held(start)
            if not held:
                raise RemoteError(f"cannot read {self.name}: it became shorter while it was read")
            parts.append(held[: stop - start])
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def prefetch(self, blocks: Sequence[tuple[int, int]]) -> None:
        """Ask for many parts (start, length) in few ranges side by side; they are held until they are read.

        Raises:
            RemoteError: they cannot be read.
        """
        spans: list[tuple[int, int]] = []
        for start, length in sorted(blocks):
            if self._held(start) is not None:
                continue
            stop = min(start + length, self.stat.size)
            near = spans and start <= spans[-1][1] + HEADER_BYTES // 4
            if near and stop - spans[-1][0] <= _SPAN_BYTES:
                spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
            elif stop > start:
                spans.append((start, stop))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(self._fetch, *span) for span in spans]:
                done.result()

    def _fetch(self, start: int, stop: int) -> None:
        data = self._online.read_range(self.stat.address, start, stop - start)
        with self._lock:
            self._spans[start] = data
            while len(self._spans) > 1 and sum(map(len, self._spans.values())) > _HELD_BYTES:
                self._spans.popitem(last=False)
            self._starts = sorted(self._spans)

    def _held(self, start: int) -> bytes | None:
        """What is held from a byte on."""
        with self._lock:
            index = bisect_right(self._starts, start) - 1
            if index < 0:
                return None
            first = self._starts[index]
            span = self._spans[first]
            if start >= first + len(span):
                return None
            self._spans.move_to_end(first)
            return span[start - first :] if start > first else span

    def _free_until(self, start: int, stop: int) -> int:
        """Where what is held begins again."""
        with self._lock:
            index = bisect_right(self._starts, start)
            return min(stop, self._starts[index]) if index < len(self._starts) else stop


class RemoteFile(io.RawIOBase):
    """A remote file as libraries read it: by seek and read."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader, self._at = reader, 0

    @property
    def failure(self) -> AftermapError | None:
        """The error that a read ended in, which libraries cannot pass on."""
        return self._reader.failure

    def read(self, size: int = -1) -> bytes:
        """Bytes from here on."""
        length = self._reader.stat.size - self._at if size < 0 else size
        try:
            data = self._reader.read(self._at, length)
        except AftermapError as error:
            self._reader.failure = error
            raise OSError(str(error)) from None
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._reader.stat.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where it stands."""
        return self._at

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True
