"""Where recipe files are: the path as given, else among the recipes that come with the package."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from aftermap.config import Config, load_config, shipped_recipes_folder
from aftermap.errors import RecipeError

C = TypeVar("C", bound=Config)


def recipe_path(name: Path | str) -> Path:
    """The file that a recipe's name stands for.

    Args:
        name: a path, or one below the shipped recipes (`xview2/plan.yaml`, with or without `recipes/` and `.yaml`).

    Raises:
        RecipeError: there is no such file; the nearest shipped recipe is named.
    """
    given = Path(name)
    if given.exists():
        return given
    below = Path(*given.parts[1:]) if given.parts[:1] == ("recipes",) else given
    shipped = shipped_recipes()
    for wanted in (below.as_posix(), f"{below.as_posix()}.yaml"):
        if wanted in shipped:
            return shipped[wanted]
    stems = {name.removesuffix(".yaml"): name for name in shipped}
    near = difflib.get_close_matches(below.with_suffix("").as_posix(), sorted(stems), n=1, cutoff=0.5)
    hint = (
        f"did you mean {stems[near[0]]}?" if near else f"shipped are {', '.join(_folded(shipped)) or 'none'}"
    )
    raise RecipeError(f"there is no recipe {name}: {hint}")


def load_recipe(kind: type[C], name: Path | str, overrides: Sequence[str] = ()) -> C:
    """Read a recipe by its name, see `recipe_path`, and override keys of it, see `load_config`."""
    return load_config(kind, recipe_path(name), overrides)


def shipped_recipes() -> dict[str, Path]:
    """Recipe files that come with the package, by their path below `recipes/`."""
    root = shipped_recipes_folder()
    return {file.relative_to(root).as_posix(): file for file in sorted(root.rglob("*.yaml"))}


def _folded(names: Iterable[str]) -> list[str]:
    """Names of recipes, those of a folder as one: `box.yaml`, `xview2/...`."""
    return sorted({name if "/" not in name else f"{name.split('/')[0]}/..." for name in names})
