"""Reads what `products.page.compact` packs, as the page does."""

import base64
import json
import zlib
from typing import Any

import numpy as np


def unpacked(text: str) -> tuple[dict[str, list[Any]], list[list[np.ndarray]], list[int]]:
    """Columns, rings (points (n, 2) in pixels) of each building, and kinds."""
    data = zlib.decompress(base64.b64decode(text))
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    arrays, at = {}, 4 + length
    for name, size, items in header["arrays"]:
        planes = np.frombuffer(data[at : at + size * items], np.uint8).reshape(size, items)
        arrays[name] = (planes.astype(np.int64) * 256 ** np.arange(size)[:, None]).sum(axis=0)
        at += size * items
    assert at == len(data)
    columns = {name: _column(name, told, arrays, header["count"]) for name, told in header["columns"].items()}
    steps = np.stack([arrays["across"], arrays["down"]], axis=1)
    steps = np.where(steps % 2, -(steps + 1) // 2, steps // 2)
    rings, first, at = [], np.zeros(2, np.int64), 0
    for number in arrays["points"].tolist():
        ring = first + np.cumsum(steps[at : at + number], axis=0)
        first, at = ring[0], at + number
        rings.append(ring / 10)
    ends = np.cumsum(arrays["rings"]).tolist()
    outlines = [rings[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    return columns, outlines, arrays["kinds"].tolist()


def _column(name: str, told: dict[str, Any], arrays: dict[str, np.ndarray], count: int) -> list[Any]:
    kind = told["kind"]
    if kind == "same":
        return [told["value"]] * count
    if kind == "serial":
        return [str(number + 1) for number in range(count)]
    if kind == "values":
        return list(told["values"])
    codes = arrays[f"column {name}"].tolist()
    if kind == "words":
        return [told["words"][code] for code in codes]
    return [(code - 1 + told["low"]) / 10 ** told["decimals"] if code else None for code in codes]
