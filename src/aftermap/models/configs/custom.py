"""A model of the user's own."""

from typing import Any, Literal

from pydantic import Field

from aftermap.config import Config


class CustomConfig(Config):
    """A model of the user's own: `target` is `package.module:function`, called with `arguments`."""

    kind: Literal["custom"] = "custom"
    target: str
    classes: int
    arguments: dict[str, Any] = Field(default_factory=dict)
