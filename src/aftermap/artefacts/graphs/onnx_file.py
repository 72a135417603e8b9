"""ONNX files read as the protobuf messages that they are: metadata in and out, and what a file refers to outside.

Neither the package `onnx` nor a runtime is needed, and a runtime never gets to see a file that names others.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aftermap.files import replacing

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _METADATA, _FUNCTIONS = 7, 14, 25  # of a ModelProto
_FUNCTION_NODE = 7
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15  # of a GraphProto
_ATTRIBUTE = 5  # of a NodeProto
_TENSOR, _ATTRIBUTE_GRAPH, _TENSORS, _GRAPHS = 5, 6, 10, 11  # of an AttributeProto
_SPARSE_TENSOR, _SPARSE_TENSORS = 22, 23
_EXTERNAL_DATA, _LOCATION = 13, 14  # of a TensorProto; location 1 is another file
_MOST_NESTED = 32


class Field(NamedTuple):
    """A field of a message: its number, where it begins with its tag, and where its content is."""

    number: int
    begin: int
    start: int
    end: int
    value: int


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata (`metadata_props`) of an ONNX file.

    Raises:
        ValueError: the file is cut short or is no ONNX file.
    """
    with _Mapped(path) as data:
        return dict(_entry(data, field) for field in _fields(data) if field.number == _METADATA)


def write_metadata(path: Path, key: str, value: str) -> None:
    """Set one entry of the metadata, in a new file that takes the place of the old one.

    Raises:
        ValueError: the file is cut short or is no ONNX file.
    """
    entry = _packed(1, key.encode()) + _packed(2, value.encode())
    with replacing(path, sync=False) as part, _Mapped(path) as data, part.open("wb") as file:
        for field in _fields(data):
            if field.number != _METADATA or _entry(data, field)[0] != key:
                file.write(memoryview(data)[field.begin : field.end])
        file.write(_packed(_METADATA, entry))


def external_tensor(path: Path) -> str | None:
    """The name of a file that some tensor of the model is kept in, or None where all of it is in this file.

    Raises:
        ValueError: the file is cut short or is no ONNX file.
    """
    with _Mapped(path) as data:
        fields = list(_fields(data))
        if not any(field.number == _GRAPH for field in fields):
            raise ValueError("it holds no graph")
        for field in fields:
            if field.number == _GRAPH:
                found = _external_in_graph(data, field, 0)
            elif field.number == _FUNCTIONS:
                found = _first(_external_in_node(data, n, 0) for n in _of(data, field, _FUNCTION_NODE))
            else:
                found = None
            if found is not None:
                return found
    return None


class _Mapped:
    """A file as bytes, without reading it into memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> bytes:
        with self._path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("it is empty")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map  # type: ignore[return-value]  # indexes and slices as bytes do

    def __exit__(self, *_: object) -> None:
        self._map.close()


def _fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message that lies in these bytes."""
    end = len(data) if end is None else end
    while start < end:
        begin = start
        tag, start = _varint(data, start, end)
        wire, value = tag & 7, 0
        if wire == _VARINT:
            content = start
            value, start = _varint(data, start, end)
        elif wire == _BYTES:
            length, content = _varint(data, start, end)
            start = content + length
        elif wire in (_FIXED32, _FIXED64):
            content, start = start, start + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError("it is no ONNX file")
        if start > end or not tag >> 3:
            raise ValueError("it is cut short or no ONNX file")
        yield Field(tag >> 3, begin, content, start, value)


def _varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if start >= end:
            break
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError("it is cut short or no ONNX file")


def _of(data: bytes, message: Field, *numbers: int) -> Iterator[Field]:
    return (f for f in _fields(data, message.start, message.end) if f.number in numbers)


def _entry(data: bytes, field: Field) -> tuple[str, str]:
    found = {f.number: data[f.start : f.end].decode() for f in _fields(data, field.start, field.end)}
    return found.get(1, ""), found.get(2, "")


def _packed(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _first(found: Iterator[str | None]) -> str | None:
    return next((name for name in found if name is not None), None)


def _external_in_graph(data: bytes, graph: Field, depth: int) -> str | None:
    if depth > _MOST_NESTED:
        raise ValueError(f"its graphs are nested more than {_MOST_NESTED} deep")
    for field in _of(data, graph, _NODE, _INITIALIZER, _SPARSE):
        if field.number == _NODE:
            found = _external_in_node(data, field, depth)
        else:
            found = _external_tensor(data, field, sparse=field.number == _SPARSE)
        if found is not None:
            return found
    return None


def _external_in_node(data: bytes, node: Field, depth: int) -> str | None:
    kept = (_TENSOR, _TENSORS, _SPARSE_TENSOR, _SPARSE_TENSORS)
    for attribute in _of(data, node, _ATTRIBUTE):
        for field in _of(data, attribute, *kept, _ATTRIBUTE_GRAPH, _GRAPHS):
            if field.number in (_ATTRIBUTE_GRAPH, _GRAPHS):
                found = _external_in_graph(data, field, depth + 1)
            else:
                sparse = field.number in (_SPARSE_TENSOR, _SPARSE_TENSORS)
                found = _external_tensor(data, field, sparse=sparse)
            if found is not None:
                return found
    return None


def _external_tensor(data: bytes, tensor: Field, *, sparse: bool) -> str | None:
    if sparse:  # values and indices, tensors both
        return _first(_external_tensor(data, part, sparse=False) for part in _of(data, tensor, 1, 2))
    name, outside = "another file", False
    for field in _of(data, tensor, _EXTERNAL_DATA, _LOCATION):
        outside |= field.number == _EXTERNAL_DATA or field.value == 1
        if field.number == _EXTERNAL_DATA and _entry(data, field)[0] == "location":
            name = _entry(data, field)[1]
    return name if outside else None
