"""Addresses without what must not be seen: passwords, user tokens, keys in queries."""

import re

MASK = "***"

_USER = re.compile(r"(https?://)[^/@\s]*@")
_PASSWORD = re.compile(r"(://[^:/@\s]*):[^\s]*@")
_QUERY = re.compile(
    r"([?&][\w.-]*(?:pass|pwd|token|secret|key|sig|credential|auth|session)[\w.-]*=)[^&\s'\"]*", re.IGNORECASE
)


def hide_secrets(text: str) -> str:
    """A text with `***` in place of every password, user part and secret query value of the addresses in it."""
    text = _USER.sub(rf"\1{MASK}@", text)
    text = _PASSWORD.sub(rf"\1:{MASK}@", text)
    return _QUERY.sub(rf"\1{MASK}", text)
