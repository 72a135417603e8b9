"""Files changed by chance: any bytes, or one part of what their format is made of."""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

import yaml

from odd_trees import GONE, ODD, places, with_value

WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"null", b"1e99", b"[[[[", b"<!--", b"\r\n")
TEXTS = (
    "", "null", "nan", "-1", "0", "1e999", "9" * 30, "true", "x", "a,b", '"', "'", "&a", "*a", "${HOME}", "../x", "/x",
    "\0", "\ud800", "<", "&x;", "[" * 9000, "{" * 9000, "(" * 9000, "x" * 9000, "\u202e", "\n", "\t", "- - -", "!!set",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 255, 256, 65535, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
NAMES = ("", ".", "..", "../x.tif", "/x.tif", "a\\b.tif", "x" * 300 + ".tif", "C:x.tif", "é.tif", "x.tif/")
_HEAD = 400
Mutation = Callable[[bytes, random.Random], bytes]


def mutated(name: str, data: bytes, chance: random.Random) -> bytes:
    """The content of a file, changed: half the time by its structure, where its kind has one and is whole."""
    known = STRUCTURED.get(name.rpartition(".")[2].lower())
    if known is not None and chance.random() < 0.6:
        try:
            return known(data, chance)
        except (ValueError, KeyError, IndexError, struct.error, zipfile.BadZipFile, RecursionError):
            pass  # it is no longer of its kind
    return any_bytes(data, chance)


def any_bytes(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, left out, repeated or put in; half the time near the beginning."""
    found = bytearray(data)
    reach = _HEAD if chance.random() < 0.5 else len(found)
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        if not found:
            break
        at, kind = chance.randrange(min(reach, len(found)) or 1), chance.randrange(6)
        if kind == 0:
            found[at] = chance.randrange(256)
        elif kind == 1:
            found[at : at + 4] = chance.choice(WORDS)
        elif kind == 2:
            del found[at : at + chance.randrange(1, 40)]
        elif kind == 3:
            found[at:at] = found[max(0, at - 30) : at]
        elif kind == 4 and chance.random() < 0.2:
            del found[at:]
        else:
            found[at] ^= 1 << chance.randrange(8)
    return bytes(found)


def odd_tree(tree: object, chance: random.Random) -> object:
    """A tree of plain values with one to three places changed."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        path = chance.choice(list(places(tree)))
        value = chance.choice((*ODD, GONE, *TEXTS)) if path else chance.choice(ODD)
        if value != "\ud800":
            tree = with_value(tree, path, value)
    return tree


def odd_json(data: bytes, chance: random.Random) -> bytes:
    """JSON with values that do not belong there."""
    return json.dumps(odd_tree(json.loads(data), chance)).encode()


def odd_yaml(data: bytes, chance: random.Random) -> bytes:
    """YAML with values that do not belong there."""
    return yaml.safe_dump(odd_tree(yaml.safe_load(data), chance), sort_keys=False).encode()


def odd_words(data: bytes, chance: random.Random) -> bytes:
    """A text with words, or whole lines, put for others, repeated or left out."""
    text = data.decode()
    for _ in range(chance.choice((1, 1, 2, 4))):
        start = chance.randrange(len(text) + 1)
        stops = [i for i in range(start, min(len(text), start + 200)) if not text[i].isalnum()]
        stop = chance.choice(stops) if stops else len(text)
        text = text[:start] + chance.choice((*TEXTS, text[start:stop] * 2)) + text[stop:]
    return text.encode("utf-8", "surrogatepass")


def odd_tiff(data: bytes, chance: random.Random) -> bytes:
    """A classic little-endian TIFF with entries of its first directory changed."""
    if data[:4] != b"II*\0":
        raise ValueError("another kind of TIFF")
    found = bytearray(data)
    (start,) = struct.unpack_from("<I", found, 4)
    (count,) = struct.unpack_from("<H", found, start)
    for _ in range(chance.choice((1, 1, 2))):
        entry = start + 2 + 12 * chance.randrange(count)
        at, form = chance.choice(((0, "<H"), (2, "<H"), (4, "<I"), (8, "<I"), (8, "<I"), (8, "<H")))
        limit = 1 << 8 * struct.calcsize(form)
        (old,) = struct.unpack_from(form, found, entry + at)
        value = chance.choice((*NUMBERS, old + 1, old - 1, old * 2, chance.randrange(limit)))
        struct.pack_into(form, found, entry + at, value % limit)
    return bytes(found)


def odd_png(data: bytes, chance: random.Random) -> bytes:
    """A PNG with one chunk changed, left out or repeated; its checksum is right."""
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    number, kind = chance.randrange(len(chunks)), chance.randrange(4)
    name, content = chunks[number]
    if kind == 0:
        del chunks[number]
    elif kind == 1:
        chunks.insert(chance.randrange(len(chunks) + 1), chunks[number])
    else:
        chunks[number] = (name, any_bytes(content, chance))
    parts = [
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c) & 0xFFFFFFFF)
        for n, c in chunks
    ]
    return data[:8] + b"".join(parts)


def odd_zip(data: bytes, chance: random.Random) -> bytes:
    """An archive with one member changed, renamed or left out."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    number, kind, out = chance.randrange(len(members)), chance.randrange(4), io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for index, (info, content) in enumerate(members):
            name = info.filename
            if index == number and kind == 0:
                continue
            if index == number and kind == 1:
                name = chance.choice(NAMES) or "x"
            if index == number and kind > 1:
                content = mutated(name, content, chance)
            archive.writestr(zipfile.ZipInfo(name, info.date_time), content, info.compress_type)
    return out.getvalue()


def odd_safetensors(data: bytes, chance: random.Random) -> bytes:
    """A safetensors file whose header says something else; its length is right."""
    (length,) = struct.unpack_from("<Q", data)
    head = odd_json(data[8 : 8 + length], chance)
    return struct.pack("<Q", len(head)) + head + data[8 + length :]


STRUCTURED: dict[str, Mutation] = {
    **dict.fromkeys(("json", "geojson"), odd_json),
    **dict.fromkeys(("yaml", "yml"), odd_yaml),
    **dict.fromkeys(("csv", "xml", "vrt", "kml", "geojsonl", "tfw", "prj"), odd_words),
    **dict.fromkeys(("tif", "tiff"), odd_tiff),
    **dict.fromkeys(("zip", "pth"), odd_zip),
    "png": odd_png,
    "safetensors": odd_safetensors,
}
