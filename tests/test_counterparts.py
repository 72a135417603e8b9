"""The table of the originals' scripts names nothing that is not there."""

import re
from pathlib import Path

import pytest

from aftermap.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
TABLE = (ROOT / "docs" / "counterparts.md").read_text()
ROWS = [
    line
    for line in TABLE.splitlines()
    if line.startswith("| ") and not line.startswith(("| script", "| ---"))
]


def expanded(name):
    """The names of a pattern with braces."""
    found = re.search(r"\{([^}]*)\}", name)
    return [name] if not found else [name.replace(found[0], part, 1) for part in found[1].split(",")]


def test_every_row_says_what_does_the_same():
    assert len(ROWS) > 80
    assert all(len([cell for cell in row.strip("|").split(" | ") if cell.strip()]) == 2 for row in ROWS)


@pytest.mark.parametrize("pattern", sorted(set(re.findall(r"`(recipes/[^`]+)`", TABLE))))
def test_recipes_are_there(pattern):
    assert all(list(ROOT.glob(name)) for name in expanded(pattern))


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`aftermap ([a-z][^`]*)`", TABLE))))
def test_commands_and_their_options_are_there(named):
    here, options = app, []
    for word in named.split():
        if word.startswith("-"):
            options.append(word)
        elif not options and re.fullmatch(r"[a-z-]+", word):
            here = here[word]
    known = {name for argument in here.assemble_argument_collection() for name in argument.names}
    assert set(options) <= known
