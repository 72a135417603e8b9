"""The drawings of docs/how-it-works.md are those that bench/drawings.py makes, with the numbers of the code."""

import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from document_commands import ROOT


@pytest.fixture(scope="module")
def drawings():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "bench")
        import drawings

        yield drawings
    del sys.modules["drawings"]


def test_the_drawings_are_those_of_the_script(drawings):
    page = (ROOT / "docs" / "how-it-works.md").read_text()
    for make in drawings.DRAWINGS:
        drawing = make()
        assert f"images/{drawing.name}.svg" in page
        kept = (drawings.OUT / f"{drawing.name}.svg").read_text()
        assert kept == drawing.svg(), "run python bench/drawings.py"
        ElementTree.fromstring(kept)


def test_the_row_of_the_worked_building_is_the_mean_of_its_pixels(drawings):
    levels, _ = drawings.worked_building()
    assert levels.sum(0) == pytest.approx(np.ones((4, 6)))
    # half of the columns say minor 0.1 and major 0.7, half minor 0.6 and major 0.2
    assert levels.mean((1, 2)) == pytest.approx([0.1, 0.35, 0.45, 0.1])
