"""Figures that are looked at before they are files."""

import pytest
from matplotlib.figure import Figure

from aftermap.products.figures import sheet


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The matplotlib figures that are drawn on a blank sheet."""
    made: list[Figure] = []

    class Kept(Figure):
        def __init__(self, *words: object, **named: object) -> None:
            super().__init__(*words, **named)
            made.append(self)

    monkeypatch.setattr(sheet, "Figure", Kept)
    return made
