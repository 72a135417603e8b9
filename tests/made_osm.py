"""A small extract of OpenStreetMap in its binary form (PBF), written by hand.

Source: wiki.openstreetmap.org/wiki/PBF_Format.
"""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence


def osm_pbf(
    nodes: Mapping[int, tuple[float, float]],
    ways: Sequence[tuple[int, Sequence[int], Mapping[str, str], int]],
) -> bytes:
    """An extract.

    Args:
        nodes: longitude and latitude by id.
        ways: id, ids of nodes, tags and the time of the last change in seconds.
    """
    words = [b""]

    def word(text: str) -> int:
        data = text.encode()
        if data not in words:
            words.append(data)
        return words.index(data)

    ids = sorted(nodes)
    dense = _message(1, _packed(_zigzag(d) for d in _deltas(ids)))
    dense += _message(8, _packed(_zigzag(d) for d in _deltas([round(nodes[i][1] * 1e7) for i in ids])))
    dense += _message(9, _packed(_zigzag(d) for d in _deltas([round(nodes[i][0] * 1e7) for i in ids])))
    groups = _message(2, _message(2, dense))
    drawn = b""
    for way, refs, tags, when in ways:
        body = _number(1, way)
        body += _message(2, _packed(word(key) for key in tags))
        body += _message(3, _packed(word(value) for value in tags.values()))
        body += _message(4, _number(1, 1) + _number(2, when))
        body += _message(8, _packed(_zigzag(d) for d in _deltas(refs)))
        drawn += _message(3, body)
    groups += _message(2, drawn)
    table = _message(1, b"".join(_message(1, each) for each in words))
    header = _message(4, b"OsmSchema-V0.6") + _message(4, b"DenseNodes")
    return _blob(b"OSMHeader", header) + _blob(b"OSMData", table + groups)


def _blob(kind: bytes, data: bytes) -> bytes:
    body = _number(2, len(data)) + _message(3, zlib.compress(data))
    head = _message(1, kind) + _number(3, len(body))
    return struct.pack(">I", len(head)) + head + body


def _varint(value: int) -> bytes:
    found = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        found.append(low | (0x80 if value else 0))
        if not value:
            return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _packed(values: Iterable[int]) -> bytes:
    return b"".join(map(_varint, values))


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _deltas(values: Sequence[int]) -> list[int]:
    return [value - before for value, before in zip(values, [0, *values], strict=False)]
