"""The words for the arithmetic of a training, the same in every recipe and on the command line."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

_OTHER_WORDS = {
    **dict.fromkeys(("fp32", "f32", "float32"), "no"),
    **dict.fromkeys(("f16", "float16"), "fp16"),
    "bfloat16": "bf16",
}


def _word(value: object) -> object:
    """YAML reads an unquoted `no` as false; other tools, and inference, have other words."""
    if value is False:
        return "no"
    return _OTHER_WORDS.get(value, value) if isinstance(value, str) else value


Precision = Annotated[Literal["auto", "no", "bf16", "fp16"], BeforeValidator(_word)]
"""`no` is float32 throughout, `bf16` and `fp16` multiply in 16 bits, `auto` is
the faster of the first two."""
MetaPrecision = Annotated[Literal["no", "bf16"], BeforeValidator(_word)]
"""The same where gradients of gradients are taken."""
