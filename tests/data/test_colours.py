import numpy as np
import pytest

from aftermap.classes import IGNORE
from aftermap.data.legends import AGRIVISION, DUBAI, ISAID, ISPRS, LOVEDA, ZURICH_SUMMER, rgb
from aftermap.data.readers.colours import decode_colours
from aftermap.errors import DataError

LABEL = np.array(
    [
        [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0)],
        [(255, 255, 0), (255, 0, 0), (0, 0, 0), (252, 255, 0)],
    ],
    np.uint8,
)
"""Section 22.7 of our notes; the last colour is no class's."""


def test_colours_become_classes():
    label = LABEL.copy()
    label[1, 3] = (255, 255, 0)
    decoded = decode_colours(label, ISPRS.label_palette)
    assert decoded.mask.tolist() == [[0, 1, 2, 3], [4, 5, IGNORE, 4]]
    assert (decoded.mask.dtype, decoded.off_palette) == (np.uint8, 0)


def test_other_colours_are_refused_with_their_places():
    label = LABEL.copy()
    label[0, 1] = (1, 2, 3)
    with pytest.raises(
        DataError,
        match=r"x.tif has 2 pixels of 2 colours .*: \(1, 2, 3\) at row 0, column 1, \(252, 255, 0\) at row 1, column 3;",
    ):
        decode_colours(label, ISPRS.label_palette, name="x.tif")


def test_the_nearest_colour_is_taken_up_to_the_tolerance():
    label = LABEL.copy()
    label[0, 0] = (255, 255, 200)  # 55 away from white, 200 from yellow
    near = decode_colours(label, ISPRS.label_palette, off_palette="nearest", tolerance=32)
    far = decode_colours(label, ISPRS.label_palette, off_palette="nearest", tolerance=55)
    assert near.mask.tolist() == [[IGNORE, 1, 2, 3], [4, 5, IGNORE, 4]]
    assert far.mask[0, 0] == 0
    assert near.off_palette == far.off_palette == 2


def test_the_original_takes_other_colours_for_the_first_class():
    decoded = decode_colours(LABEL, ISPRS.label_palette, off_palette="compat")
    assert decoded.mask.tolist() == [[0, 1, 2, 3], [4, 5, IGNORE, 0]]
    assert decoded.off_palette == 1


def test_the_legends_have_the_published_classes_and_colours():
    assert [rgb(c) for c in ISPRS.colours] == [
        (255, 255, 255),
        (0, 0, 175),
        (0, 175, 255),
        (0, 255, 0),
        (255, 175, 0),
        (175, 0, 0),
    ]
    assert [len(legend.names) for legend in (ISPRS, ISAID, AGRIVISION, LOVEDA, ZURICH_SUMMER, DUBAI)] == [
        6,
        16,
        9,
        7,
        8,
        5,
    ]
    assert [ISAID.label_palette[c] for c in ((0, 0, 0), (0, 191, 127), (0, 63, 255), (0, 100, 155))] == [
        0,
        2,
        6,
        15,
    ]
    assert ISPRS.background is None
    assert ISAID.background == AGRIVISION.background == LOVEDA.background == 0
