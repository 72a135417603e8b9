"""What commands print is what the user's files say, whatever that looks like."""

import pytest
from rich.table import Table

from aftermap.cli.output import say, wide_console

ODD = ("[/x]", "[red]A", "b :x: c", "[1]")


@pytest.mark.parametrize("show", [say, lambda table: wide_console().print(table)])
def test_names_in_tables_are_neither_markup_nor_signs(show, capsys):
    table = Table("name")
    for name in ODD:
        table.add_row(name)
    show(table)
    printed = capsys.readouterr().out
    assert all(name in printed for name in ODD)


def test_a_line_is_printed_as_it_is(capsys):
    say("no column nope:x: [/b]", error=True)
    assert capsys.readouterr().err == "no column nope:x: [/b]\n"
