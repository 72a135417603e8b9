"""Letters that XML has no place for."""

import re

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def xml_text(text: str) -> str:
    """The text with a replacement character for each letter that no XML may hold."""
    return _CONTROLS.sub("\ufffd", text)
