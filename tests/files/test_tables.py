"""CSV that a spreadsheet shows and never runs."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftermap.files import are_safe, csv_text, safe_cell

RUN = [
    "=1+1",
    "=HYPERLINK(1)",
    "+49 89 1",
    "-x",
    "@SUM(1)",
    "\t=1",
    "\rx",
    "\n=1",
    "  =1",
    "＝1+1",
    "－x",
    "-1+2",
    "=",
    "-",
]


@pytest.mark.parametrize("text", RUN)
def test_text_that_would_run_gets_an_apostrophe(text):
    assert safe_cell(text) == "'" + text.replace("\r", "\n")


@pytest.mark.parametrize(
    "value", ["", "a=1", "x", "'=1", "-5", "+3.2", "-1.5e-3", "-.5", "1,5", -5, 1.5, None, True, "é"]
)
def test_numbers_and_other_text_stay(value):
    assert safe_cell(value) is value


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=4
    )
)
def test_any_text_comes_back_and_no_cell_begins_as_a_formula(cells):
    (row,) = csv.reader(io.StringIO(csv_text([cells]), newline=""))
    wanted = [cell.replace("\r\n", "\n").replace("\r", "\n") for cell in cells]
    assert [cell.removeprefix("'") for cell in row] == [cell.removeprefix("'") for cell in wanted]
    for cell in row:
        start = cell.lstrip()[:1]
        try:
            float(cell.replace(",", "."))
        except ValueError:
            assert start not in ("=", "+", "-", "@") and cell[:1] not in ("\t", "\r", "\n")


def test_a_carriage_return_begins_no_row():
    assert csv_text([["a\r=1", "b\r\nc"]]) == '"a\n=1","b\nc"\n'


@given(st.lists(st.text(st.sampled_from("a=+-@\t\r\n \0 1.＝"), max_size=4), max_size=4))
def test_words_that_are_safe_together_are_safe_each(words):
    if are_safe(words):
        assert [safe_cell(word) for word in words] == words


def test_words_are_looked_at_together():
    assert are_safe(["a", "b c", "", "x-1"]) and not any(are_safe(["a", text]) for text in RUN)
