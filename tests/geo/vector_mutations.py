"""Damages vector files of every format and reads them: `python vector_mutations.py SEED TRIES`.

Each try must end well or with one line. It runs as a process of its own, so that a crash of a library is seen as one.
"""

import random
import sys
import tempfile
import warnings
from pathlib import Path

from test_read_vectors import FORMATS, GRID, store

from aftermap.errors import AftermapError
from aftermap.geo.vectors import read_area_of_interest, read_buildings

WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"null", b"1e99", b"[[[[", b"<!--", b"\r\n")


def originals(folder: Path) -> dict[str, dict[str, bytes]]:
    """The files of each format, by name."""
    found = {}
    for number, suffix in enumerate(FORMATS):
        place = folder / str(number)
        place.mkdir()
        store(place / f"f{suffix}", {"osm_id": [1, None, 3], "name": ["a", None, "c"]})
        found[suffix] = {path.name: path.read_bytes() for path in place.iterdir()}
    return found


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A file with some bytes changed, left out, repeated or put in."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        if not data:
            break
        at, kind = chance.randrange(len(data)), chance.randrange(5)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            data[at : at + 4] = chance.choice(WORDS)
        elif kind == 2:
            del data[at : at + chance.randrange(1, 40)]
        elif kind == 3:
            data[at:at] = data[max(0, at - 30) : at]
        else:
            data[at] ^= 1 << chance.randrange(8)
    return bytes(data)


def main(seed: int, tries: int) -> None:
    chance = random.Random(seed)
    warnings.simplefilter("ignore")
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        known = originals(Path(folder))
        for _ in range(tries):
            suffix = chance.choice(FORMATS)
            with tempfile.TemporaryDirectory(dir=folder) as place:
                for name, content in known[suffix].items():
                    whole = len(known[suffix]) > 1 and chance.random() < 0.5
                    (Path(place) / name).write_bytes(content if whole else damaged(content, chance))
                for read in (read_buildings, read_area_of_interest):
                    try:
                        read(Path(place) / f"f{suffix}", grid=GRID)
                    except AftermapError as error:
                        refused += 1
                        assert "\n" not in str(error), error
    sys.stdout.write(f"{refused} of {2 * tries} refused\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
