"""What a map was made of, as its `provenance.json` tells; what that does not tell is None."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lineage:
    """Where a map comes from, for whoever gets a part of it.

    Attributes:
        model: name and version.
        model_sha256: of its files.
        licence: of the model.
        mode: which dates were looked at.
        before: day of the first image, ISO 8601.
        after: day of the second image.
        created: when the map was made, ISO 8601 in UTC.
    """

    model: str | None
    model_sha256: str | None
    licence: str | None
    mode: str | None
    before: str | None
    after: str | None
    created: str | None

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> "Lineage":
        """Of a map's report, whatever it lacks."""
        model, inputs = _tree(provenance, "model"), _tree(provenance, "inputs")
        name, version = _text(model, "name"), _text(model, "version")
        created = _text(provenance, "created")
        return cls(
            model=name if version is None or name is None else f"{name} {version}",
            model_sha256=_text(model, "sha256"),
            licence=_text(model, "licence"),
            mode=_text(provenance, "mode"),
            before=_text(_tree(inputs, "pre"), "acquired"),
            after=_text(_tree(inputs, "post"), "acquired"),
            created=None if created is None else created.replace("+00:00", "Z"),
        )


def _tree(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = tree.get(key)
    return found if isinstance(found, Mapping) else {}


def _text(tree: Mapping[str, Any], key: str) -> str | None:
    found = tree.get(key)
    return str(found) if isinstance(found, str | int | float) and found != "" else None
