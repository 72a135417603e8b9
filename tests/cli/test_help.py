"""Every page of help: paragraphs flow, every option is described in sentences, and the examples are commands."""

import itertools
import re
import shlex

import pytest
from cyclopts import App

from aftermap.cli.app import app
from aftermap.cli.help import flowing


def pages(parent: App, words: tuple[str, ...] = ()):
    """Commands with a function, by the words that name them."""
    if parent.default_command is not None:
        yield words, parent
    for name in parent:
        if not name.startswith("-"):
            yield from pages(parent[name], (*words, name))


PAGES = dict(pages(app))
every_page = pytest.mark.parametrize("words", PAGES, ids=" ".join)


def examples(doc):
    for line in doc.split("\n"):
        found = re.match(r"(?:Example: |\s+)(aftermap .*)", line)
        if found:
            yield found[1]


@every_page
def test_no_sentence_is_broken_by_the_source(words):
    """Each line of prose is a paragraph: a blank line, a heading or an example stands on either side."""
    prose = PAGES[words].default_command.__doc__.split("\nArgs:")[0]
    lines = prose.split("\n")
    broken = [line for line, after in itertools.pairwise(lines) if line and after and line[0] != " "]
    assert broken == [] and lines[0].endswith(".")


@every_page
def test_every_option_is_described_in_a_sentence(words):
    arguments = PAGES[words].assemble_argument_collection(parse_docstring=True)
    told = {argument.name: argument.parameter.help or "" for argument in arguments if argument.show}
    assert [name for name, text in told.items() if not text.strip() or "\n" in text] == []
    choice = re.compile(r"[\w'-]+( \w+)?[:,] |cpu|none |dotted\.")
    assert [text for text in told.values() if text[0].islower() and not choice.match(text)] == []
    assert [text for text in told.values() if not text.rstrip().endswith((".", ")"))] == []


@every_page
def test_the_examples_are_commands(words):
    for example in examples(PAGES[words].default_command.__doc__):
        tokens = shlex.split(example)[1:]
        command, _, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
        assert command in {page.default_command for page in PAGES.values()}


def test_what_matters_first_stands_first(capsys):
    app(["map", "--help"], result_action="return_value")
    page = capsys.readouterr().out
    headings = [
        "Parameters",
        "Images and their ground",
        "Buildings and regions",
        "How the model is run",
        "What is written",
    ]
    places = [page.index(f"─ {heading} ─") for heading in headings]
    assert places == sorted(places)
    first = page[: places[1]]
    assert {"--out", "--task", "--model", "--footprints", "--aoi"} <= set(re.findall(r"--[a-z-]+", first))
    assert "--tta" not in first and "--crs" not in first


def test_paragraphs_examples_and_parameters_flow():
    source = """What it does.

One sentence that goes
on. Another.

    aftermap map a b -o c
        --resume
    aftermap map d -o e

Example: aftermap score a
    b

Args:
    one: The first thing
        that is given.
    two: The second.
"""
    assert flowing(source).split("\n") == [
        "What it does.",
        "",
        "One sentence that goes on. Another.",
        "",
        "    aftermap map a b -o c --resume",
        "    aftermap map d -o e",
        "",
        "Example: aftermap score a b",
        "",
        "Args:",
        "    one: The first thing that is given.",
        "    two: The second.",
        "",
    ]
