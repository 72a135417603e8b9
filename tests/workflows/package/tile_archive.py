"""A reader of PMTiles and of the attributes of vector tiles, by their specifications.

Source: PMTiles specification 3; Mapbox Vector Tile specification 2.1.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of base 128, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def zoom_of(tile: int) -> int:
    """Zoom level of a tile by its number: those of all levels before come first."""
    zoom, before = 0, 0
    while before + 4**zoom <= tile:
        before, zoom = before + 4**zoom, zoom + 1
    return zoom


def tiles_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Zoom level and content of each tile."""
    data = path.read_bytes()
    assert data[:8] == b"PMTiles\x03"
    root, root_size, _, _, leaves, _, start = (
        int.from_bytes(data[8 + 8 * n : 16 + 8 * n], "little") for n in range(7)
    )

    def directory(at: int, size: int) -> Iterator[tuple[int, int, int, int]]:
        raw = gzip.decompress(data[at : at + size]) if data[97] == 2 else data[at : at + size]
        count, place = varint(raw, 0)
        columns = []
        for _ in range(4):
            column = []
            for _ in range(count):
                value, place = varint(raw, place)
                column.append(value)
            columns.append(column)
        tile = before = 0
        for step, run, length, offset in zip(*columns, strict=True):
            tile += step
            before = offset - 1 if offset else before
            yield tile, run, length, before
            before += length

    def entries(at: int, size: int) -> Iterator[tuple[int, int, int]]:
        for tile, run, length, offset in directory(at, size):
            if run == 0:
                yield from entries(leaves + offset, length)
            else:
                yield from ((number, length, offset) for number in range(tile, tile + run))

    for tile, length, offset in entries(root, root_size):
        content = data[start + offset : start + offset + length]
        yield zoom_of(tile), gzip.decompress(content) if data[98] == 2 else content


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
            yield key >> 3, value
        else:
            size, at = {1: (8, at), 5: (4, at)}.get(key & 7) or varint(data, at)
            yield key >> 3, data[at : at + size]
            at += size


def attributes(tile: bytes) -> Iterator[dict[str, bytes | int]]:
    """The attributes of each feature: texts as bytes, other values as they are coded."""
    for number, layer in fields(tile):
        assert number == 3
        parts = list(fields(layer))
        keys = [value.decode() for number, value in parts if number == 3]
        values = [next(iter(fields(value)))[1] for number, value in parts if number == 4]
        for number, feature in parts:
            if number != 2:
                continue
            packed = next((value for number, value in fields(feature) if number == 2), b"")
            tags, at = [], 0
            while at < len(packed):
                tag, at = varint(packed, at)
                tags.append(tag)
            yield {keys[key]: values[value] for key, value in zip(tags[::2], tags[1::2], strict=True)}
