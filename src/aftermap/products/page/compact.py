"""A table of buildings in few bytes: whole numbers in as few bytes as they need, outlines as steps, all of it deflated.

What `pack` gives is base64 of a zlib stream of:

    4 bytes     length of the header, little-endian
    header      JSON: `count`, `columns` and `arrays`
    arrays      one after the other; each holds the first bytes of all its numbers, then the second ones, and so on

A column is told by its `kind`. `numbers`: array of round(value * 10**decimals) - low + 1, 0 where there is none.
`words`: array of indices into `words`. `same`: one `value` for all. `serial`: 1, 2, ... as text. `values`: as they are.
"""

import base64
import json
import zlib
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from aftermap.products.vectors import is_text

DECIMALS = {"lon": 6, "lat": 6, "area_m2": 1}
"""Of a column, at most; of others 4, which is what the layers keep."""

_MOST_WORDS = 4096
_STEPS_PER_PX = 10


def pack(frame: gpd.GeoDataFrame, shapes: np.ndarray, kinds: np.ndarray) -> str:
    """Attributes and outlines of buildings.

    Args:
        frame: attributes.
        shapes: (n,) polygons and multipolygons in pixels.
        kinds: (n,) index of the class of each.
    """
    arrays: dict[str, np.ndarray] = {"kinds": kinds.astype(np.uint8), **_outlines(shapes)}
    table = frame.drop(columns=frame.geometry.name)
    columns = {str(name): _column(table[name], str(name), arrays) for name in table.columns}
    packed = {name: _narrow(array) for name, array in arrays.items()}
    header = {
        "count": len(frame),
        "columns": columns,
        "arrays": [[name, array.itemsize, len(array)] for name, array in packed.items()],
    }
    text = json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    body = b"".join(_planes(array) for array in packed.values())
    data = zlib.compress(len(text).to_bytes(4, "little") + text + body, 6)
    return base64.b64encode(data).decode("ascii")


def _column(values: "pd.Series[Any]", name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """How a column is told; its numbers go to `arrays`."""
    here = values.notna().to_numpy()
    known = values[here]
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and len(known):
        decimals = 0 if pd.api.types.is_integer_dtype(values) else DECIMALS.get(name, 4)
        whole = np.rint(known.to_numpy(np.float64) * 10**decimals)
        if np.isfinite(whole).all() and np.ptp(whole) < 2**32 - 1 and np.abs(whole).max() < 2**53:
            low, codes = int(whole.min()), np.zeros(len(values), np.uint32)
            codes[here] = (whole - low + 1).astype(np.uint32)
            arrays[f"column {name}"] = codes
            return {"kind": "numbers", "decimals": decimals, "low": low}
    plain = values.tolist()
    if not is_text(values):
        plain = [_plain(value) if seen else None for value, seen in zip(plain, here.tolist(), strict=True)]
    if plain and plain.count(plain[0]) == len(plain):
        return {"kind": "same", "value": plain[0]}
    if plain[-1:] == [str(len(plain))] and plain == [str(number) for number in range(1, len(plain) + 1)]:
        return {"kind": "serial"}
    words = list(dict.fromkeys(plain))
    if len(words) <= _MOST_WORDS and len(words) < len(plain):
        index = {word: number for number, word in enumerate(words)}
        arrays[f"column {name}"] = np.array([index[value] for value in plain], np.uint32)
        return {"kind": "words", "words": words}
    return {"kind": "values", "values": plain}


def _outlines(shapes: np.ndarray) -> dict[str, np.ndarray]:
    """Rings of each building and points of each ring, and steps between points in tenths of a pixel, zigzag.

    A ring's first point is a step from the first point of the ring before; it leaves out its closing point. Shells come
    before their holes.
    """
    if not len(shapes):
        return {name: np.zeros(0, np.uint8) for name in ("rings", "points", "across", "down")}
    parts, owners = shapely.get_parts(shapes, return_index=True)
    multi = shapely.multipolygons(parts, indices=owners)
    _, points, (ring_ends, polygon_ends, shape_ends) = shapely.to_ragged_array(multi)
    tenths = np.rint(points * _STEPS_PER_PX).astype(np.int64)
    open_ = np.delete(tenths, ring_ends[1:] - 1, axis=0)
    points_of = np.diff(ring_ends) - 1
    firsts = np.concatenate([[0], np.cumsum(points_of)[:-1]])
    before = np.roll(open_, 1, axis=0)
    before[firsts[1:]] = open_[firsts[:-1]]
    before[0] = 0
    steps = open_ - before
    zigzag = np.where(steps >= 0, 2 * steps, -2 * steps - 1)
    rings_of = np.diff(polygon_ends[shape_ends])
    return {"rings": rings_of, "points": points_of, "across": zigzag[:, 0], "down": zigzag[:, 1]}


def _narrow(array: np.ndarray) -> np.ndarray:
    """The same numbers in as few bytes as the largest needs."""
    most = int(array.max()) if len(array) else 0
    narrowest = np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.uint32
    narrow: np.ndarray = array.astype(narrowest)
    return narrow


def _planes(array: np.ndarray) -> bytes:
    """First bytes of all numbers, then the second ones, and so on: alike bytes side by side deflate well."""
    little = array.astype(array.dtype.newbyteorder("<"))
    return np.frombuffer(little.tobytes(), np.uint8).reshape(-1, array.itemsize).T.tobytes()


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    return value if isinstance(value, (str, int, float, bool)) else str(value)
