"""Configuration: strict, frozen models filled from defaults, then YAML, then dotted `key=value` overrides."""

import copy
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from aftermap.errors import RecipeError, shown


class Config(BaseModel):
    """Base of all configuration: unknown keys are errors and values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _paths_can_be_opened(self) -> Self:
        for name, value in self.__dict__.items():
            for path in value.values() if isinstance(value, dict) else (value,):
                if isinstance(path, Path) and not is_path(str(path)):
                    raise ValueError(f"{name} is {shown(str(path))}, which is no path")
        return self


def is_path(text: str) -> bool:
    """Whether a file system could hold a file of that name: no zero byte in it, and no more than 1,000 characters."""
    return "\0" not in text and len(text) <= _LONGEST_PATH


C = TypeVar("C", bound=Config)
_PACKAGE = Path(__file__).resolve().parent
# ten times as fast, where PyYAML was built with libyaml
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLES = "AFTERMAP_RECIPE_VARIABLES"
_MOST_VALUES = 100_000
_DEEPEST = 100
_LONGEST_PATH = 1000
_KINDS: dict[type, str] = {list: "a list", str: "a text", int: "a number", float: "a number"}
_ENV = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def load_config(kind: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Read a YAML file into `kind`.

    `${AFTERMAP_NAME}` and `${AFTERMAP_NAME:-default}` in the file are replaced from the environment (other variables
    only where AFTERMAP_RECIPE_VARIABLES lists them); `extends: FILE` builds on another file beside or below it, or on one
    that comes with the package.

    Args:
        kind: the configuration class.
        path: a YAML mapping.
        overrides: `dotted.key=value` strings; values are parsed as YAML.

    Raises:
        RecipeError: unreadable file, unknown key (the nearest known key is named) or wrong value.
    """
    return build_config(kind, read_tree(path), overrides, source=str(path))


def read_tree(path: Path, *, seen: Sequence[Path] = ()) -> dict[str, Any]:
    """Plain values of a YAML file, laid over those of the file that its key `extends` names (relative to itself).

    They are merged as `merge` does it.

    Raises:
        RecipeError: unreadable file, not a mapping, or files that extend each other in a circle.
    """
    if path.resolve() in seen:
        raise RecipeError(f"{path} extends itself")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read recipe {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        tree = load_yaml(_ENV.sub(_from_environment, text)) or {}
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise RecipeError(
            f"{path} holds {_KINDS.get(type(tree), 'one value')}, expected a mapping of recipe keys"
        )
    base = tree.pop("extends", None)
    if base is None:
        return tree
    below = read_tree(_extended(path, str(base)), seen=(*seen, path.resolve()))
    return merge(below, tree)


def load_yaml(text: str) -> Any:
    """Plain values of a YAML text, whose aliases and depth stay within bounds.

    Raises:
        yaml.YAMLError: not YAML, nested deeper than 100 groups, or with aliases that unfold to more than 100,000 values.
    """
    try:
        text.encode()
    except UnicodeEncodeError:  # libyaml takes UTF-8
        raise yaml.YAMLError("it holds characters that are no text") from None
    sizes: dict[str | None, int] = {}  # of what an anchor names, aliases unfolded
    open_groups: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=_LOADER):
        size = 0
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)  # an alias inside of what it names is refused by the composer
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor:
                sizes[event.anchor] = size
        elif isinstance(event, yaml.CollectionStartEvent):
            open_groups.append((event.anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_groups.pop()
            if anchor:
                sizes[anchor] = size
        outer, so_far = open_groups[-1]
        open_groups[-1] = (outer, so_far + size)
        if so_far + size > _MOST_VALUES or len(open_groups) > _DEEPEST:
            raise yaml.YAMLError("it is nested too deeply, or its aliases unfold to too many values")
    return yaml.load(text, Loader=_LOADER)


def shipped_recipes_folder() -> Path:
    """Recipes that come with the package: inside an installed wheel, or beside `src` in a checkout."""
    inside = _PACKAGE / "recipe_files"
    return inside if inside.is_dir() else _PACKAGE.parents[1] / "recipes"


def _extended(path: Path, base: str) -> Path:
    """The file that a recipe builds on: beside or below it, or one that comes with the package, by its name.

    Raises:
        RecipeError: it lies elsewhere.
    """
    target = path.parent / base
    if not is_path(base):
        raise RecipeError(f"{path}: extends {shown(base)}, which is no path")
    shipped = shipped_recipes_folder()
    named = shipped / base.removeprefix("recipes/")
    if not target.exists() and named.is_file():
        target = named
    allowed = (path.parent.resolve(), shipped)
    if not any(target.resolve().is_relative_to(folder) for folder in allowed):
        raise RecipeError(
            f"{path}: extends {base} lies outside of the recipe's folder: a recipe builds on files beside or below it, "
            "or on one that comes with aftermap"
        )
    return target


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`: groups of keys are merged, everything else is replaced.

    Words about data go with them: other `data.manifests` above leave out what `below` says of its own.
    """
    data = above.get("data")
    others = isinstance(data, dict) and "manifests" in data
    merged = without_words_of_data(below) if others else dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def without_words_of_data(tree: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values without what it says of its own data: `licence`, `limits`, `data.licence`, `data.description`."""
    kept = {key: value for key, value in tree.items() if key not in ("licence", "limits")}
    if isinstance(data := kept.get("data"), dict):
        kept["data"] = {k: value for k, value in data.items() if k not in ("licence", "description")}
    return kept


def override_words(overrides: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Overrides as `dotted.key=value` words; the values of a mapping are written as YAML."""
    if not isinstance(overrides, Mapping):
        return list(overrides)
    plain = {key: _plain(value) for key, value in overrides.items()}
    written = {
        key: yaml.safe_dump(value, default_flow_style=True, width=2**31 - 1) for key, value in plain.items()
    }
    return [
        f"{key}={text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}" for key, text in written.items()
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def overridden(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A tree of plain values with dotted overrides laid over it; words about data go with them, as in `merge`.

    Raises:
        RecipeError: a word that is no `key=value`, or whose value is no YAML.
    """
    laid = copy.deepcopy(tree)
    if {"data", "data.manifests"} & {override.partition("=")[0].strip() for override in overrides}:
        laid = without_words_of_data(laid)
    for override in overrides:
        _apply_override(laid, override)
    return laid


def build_config(
    kind: type[C], tree: dict[str, Any], overrides: Sequence[str] = (), *, source: str = "recipe"
) -> C:
    """Validate a tree of plain values, with dotted overrides laid over it, into `kind`."""
    try:
        return kind.model_validate(overridden(tree, overrides))
    except ValidationError as error:
        raise RecipeError(explain(error, kind, source)) from None


def may_be_read(name: str) -> bool:
    """Whether recipes may read an environment variable: ours, and those that the user lists."""
    listed = os.environ.get(_VARIABLES, "").split(",")
    return name.startswith("AFTERMAP_") or name in {word.strip() for word in listed}


def _from_environment(match: re.Match[str]) -> str:
    name, default = match.group(1), match.group(2)
    if not may_be_read(name):
        raise RecipeError(
            f"the recipe asks for the environment variable {name}: only names that start with AFTERMAP_ are given to "
            f"recipes; export {_VARIABLES}={name} if this recipe may read it"
        )
    value = os.environ.get(name, default)
    if value is None:
        raise RecipeError(
            f"the recipe uses ${{{name}}}, which is not set: export {name}=... or write ${{{name}:-default}}"
        )
    return value


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key.strip():
        raise RecipeError(f"override {override!r} is not of the form key=value")
    *parents, leaf = key.strip().split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise RecipeError(f"override {override!r}: {parent} is a value, not a group of keys")
        node = child
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"override {override!r}: the value is not valid YAML") from None


def explain(error: ValidationError, kind: type[BaseModel], source: str) -> str:
    """What is wrong with a tree of values, in one line.

    Args:
        error: says that it is no `kind`.
        kind: what was expected.
        source: where the values come from; begins the line.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        leaf = str(first["loc"][-1])
        known = _known_keys(kind)
        near = difflib.get_close_matches(leaf, sorted(known), n=1, cutoff=0.5)
        hint = (
            f": did you mean {known[leaf] if near[0] == leaf else near[0]!r}?"  # right name, wrong group
            if near
            else f": known keys are {', '.join(sorted(kind.model_fields))}"
        )
        return f"{source}: unknown key {shown(where)}{hint}"
    if first["type"] == "missing":
        return f"{source}: key {where!r} is required and not given"
    if first["type"] == "union_tag_not_found":
        key = first["ctx"]["discriminator"].strip("'_()")
        return f"{source}: key {f'{where}.{key}'!r} is required and not given"
    if first["type"] == "value_error":  # from a validator of ours, which says what it found
        return f"{source}: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
    if (
        first["type"] == "union_tag_invalid"
    ):  # the kind of a model, the op of an augmentation, the loss of a term
        context = first["ctx"]
        key, tag = context["discriminator"].strip("'_()"), context["tag"]
        choices = [choice.strip().strip("'") for choice in context["expected_tags"].split(",")]
        near = difflib.get_close_matches(tag, choices, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(choices)}"
        return f"{source}: {where}: unknown {key} {shown(tag)}: {hint}"
    if first["type"] in ("tuple_type", "list_type"):
        return f"{source}: {where}: found {shown(first.get('input'))}, expected a list in square brackets"
    found = "" if first["type"] == "json_invalid" else f" (found {shown(first.get('input'))})"
    return f"{source}: {where + ': ' if where else ''}{first['msg']}{found}"


def _known_keys(kind: type[BaseModel]) -> dict[str, str]:
    """All field names of a configuration class and of those inside it, with the dotted key of the outermost."""
    keys: dict[str, str] = {}
    pending, seen = [("", kind)], set()
    for prefix, current in pending:
        if current in seen:
            continue
        seen.add(current)
        for name, field in current.model_fields.items():
            keys.setdefault(name, prefix + name)
            pending.extend((f"{prefix}{name}.", inner) for inner in _configs_in(field.annotation))
    return keys


def _configs_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _configs_in(part)]
