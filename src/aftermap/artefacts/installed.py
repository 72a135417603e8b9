"""Models that come as Python packages of their own, such as `aftermap-field`: found by name, never executed."""

from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from aftermap.artefacts.folder import CARD_NAME

GROUP = "aftermap.models"
"""Entry points of this group name a model and the package whose folder `model` holds it."""

FIELD = "field"
"""Name of the model trained on real disasters, in the package `aftermap-field`: for non-commercial use only."""

FIELD_ONE_DATE = "field_one_date"
"""Name of its sibling that maps from one date too, in the same package."""


def missing(name: str) -> str | None:
    """What to say of a model that is not installed; None if nothing is known of it."""
    if name not in (FIELD, FIELD_ONE_DATE):
        return None
    return (
        f"the model '{name}' is in a package of its own, for non-commercial use (CC BY-NC-SA 4.0): install it by "
        "pip install ./packages/aftermap-field from the repository, or take -m box"
    )


def installed_models() -> dict[str, Path]:
    """Model folders of installed packages by the name that the package gives; the first package that takes it."""
    found: dict[str, Path] = {}
    for point in entry_points(group=GROUP):
        folder = _folder(point)
        if folder is not None:
            found.setdefault(point.name, folder)
    return dict(sorted(found.items()))


def installed_model(name: str) -> Path | None:
    """The model folder that an installed package offers under a name; None where none does."""
    return installed_models().get(name)


def _folder(point: EntryPoint) -> Path | None:
    if "." in point.module:  # finding a module inside of a package would run the package
        return None
    try:
        spec = find_spec(point.module)
    except (ImportError, ValueError):
        return None
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(place) / "model" / CARD_NAME).is_file():
            return Path(place) / "model"
    return None
