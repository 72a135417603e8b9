"""Licences of several sources in a line, and the strictest use that they leave."""

import pytest

from aftermap.artefacts.licences import joined_licences, restriction


def test_licences_are_told_once_each_in_their_order():
    assert joined_licences(["CC BY 4.0", "not stated", "CC BY 4.0"]) == "CC BY 4.0; not stated"
    assert joined_licences([]) == "not stated"


@pytest.mark.parametrize(
    ("licence", "told"),
    [
        ("CC BY 4.0", ""),
        ("generated, CC0", ""),
        ("CC BY-SA 4.0", "what is made of it has to be shared alike"),
        ("footprints ODbL", "what is made of it has to be shared alike"),
        ("CC BY-SA 4.0; CC BY-NC-SA 4.0", "no commercial use"),
        ("differs by event: mostly CC BY-NC 4.0; SAR CC BY 4.0", "no commercial use"),
        ("CC BY-NC 4.0; for academic use only; commercial use is not allowed", "research only"),
        ("CC BY 4.0; not stated", "not stated: ask the publisher before it is used"),
    ],
)
def test_the_strictest_use_of_several_licences_is_told(licence, told):
    assert restriction(licence) == told
