"""A GeoTIFF at an address, opened by GDAL through our own reader of ranges, and read by windows."""

import io
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import rasterio
from rasterio.abc import FileContainer

from aftermap.errors import AftermapError, RasterError, RemoteError
from aftermap.geo.grid import Window, quiet_without_georeference
from aftermap.geo.opening.limits import GDAL_ERRORS, GDAL_OPTIONS, check_header, image_format, one_line
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


@contextmanager
def opened_remote(reader: RangeReader) -> Iterator[rasterio.DatasetReader]:
    """A GeoTIFF at an address, checked and open for as long as it is read.

    Raises:
        RasterError: it is no GeoTIFF, or its header promises what cannot be.
        RemoteError: it cannot be read.
    """
    name = reader.name
    if image_format(reader.read(0, 16), name) != "TIFF":
        raise RasterError(f"{name} is no GeoTIFF: only those are read by windows")
    try:
        with (
            rasterio.Env(**GDAL_OPTIONS),
            quiet_without_georeference(),
            rasterio.open("image.tif", driver="GTiff", opener=_OneFile(reader)) as dataset,
        ):
            check_header(dataset, name, reader.stat.size)
            yield dataset
    except GDAL_ERRORS as error:
        if reader.failure is not None:
            raise reader.failure from None
        raise RasterError(f"{name} starts like a TIFF but is damaged: {one_line(error)}") from None


def blocks_of(dataset: rasterio.DatasetReader, window: Window) -> list[tuple[int, int]]:
    """Start and length in the file of the blocks of all bands that a window touches; those left out are not listed."""
    high, wide = dataset.block_shapes[0]
    apart = dataset.interleaving is not None and dataset.interleaving.value == "BAND"
    found = []
    for band in range(1, dataset.count + 1) if apart else (1,):
        for y in range(window.row // high, -(-(window.row + window.height) // high)):
            for x in range(window.col // wide, -(-(window.col + window.width) // wide)):
                start, length = (
                    dataset.get_tag_item(f"BLOCK_{what}_{x}_{y}", "TIFF", bidx=band)
                    for what in ("OFFSET", "SIZE")
                )
                if start is not None and length is not None:
                    found.append((int(start), int(length)))
    return found


class _OneFile(FileContainer):  # type: ignore[misc]
    """What GDAL is shown: one file, nothing beside it."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader

    def open(self, path: str, *_: object, **__: object) -> "_File":
        if not self.isfile(path):
            raise FileNotFoundError(path)
        return _File(self._reader)

    def isfile(self, path: str) -> bool:
        return path.rpartition("/")[2] == "image.tif"

    def isdir(self, path: str) -> bool:
        return False

    def ls(self, path: str) -> list[str]:
        return []

    def mtime(self, path: str) -> int:
        return 0

    def size(self, path: str) -> int:
        return self._reader.stat.size if self.isfile(path) else 0

    def rm(self, path: str) -> None:
        raise PermissionError(path)


class _File(io.RawIOBase):
    """The file as GDAL reads it: by seek and read."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader, self._at = reader, 0

    def read(self, size: int = -1) -> bytes:
        length = self._reader.stat.size - self._at if size < 0 else size
        try:
            data = self._reader.read(self._at, length)
        except AftermapError as error:
            self._reader.failure = error
            raise OSError(str(error)) from None
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._reader.stat.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)
