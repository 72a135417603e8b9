"""The table of the published systems' quirks says something about every one of them, and names every switch."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = (ROOT / "docs" / "quirks.md").read_text()


@pytest.mark.parametrize(("letter", "count"), [("Q", 32), ("K", 18), ("M", 24), ("O", 21), ("I", 42)])
def test_every_quirk_has_its_row(letter, count):
    rows = {int(n) for n in re.findall(rf"^\| {letter}(\d+) \|", TABLE, re.MULTILINE)}
    assert rows == set(range(1, count + 1))


def test_every_switch_is_in_the_table():
    sources = (file.read_text() for file in (ROOT / "src").rglob("*.py"))
    switches = {name for text in sources for name in re.findall(r"\bcompat_[a-z0-9_]+\b", text)}
    assert sorted(name for name in switches if name not in TABLE) == []


def test_every_row_says_what_became_of_the_quirk():
    rows = [line for line in TABLE.splitlines() if re.match(r"\| [QKMOI–]", line)]
    assert all(
        len(cells) == 4 and all(cells)
        for cells in ([c.strip() for c in r.strip("|").split(" | ")] for r in rows)
    )
