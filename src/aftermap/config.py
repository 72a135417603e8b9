"""Configuration: strict, frozen models filled from defaults, then YAML, then dotted `key=value` overrides."""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aftermap.errors import RecipeError


class Config(BaseModel):
    """Base of all configuration: unknown keys are errors and values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=Config)
_ENV = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def load_config(kind: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Read a YAML file into `kind`.

    `${NAME}` and `${NAME:-default}` in the file are replaced from the environment; `extends: FILE` builds on another.

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

    Groups of keys are merged, everything else is replaced.

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
        tree = yaml.safe_load(_ENV.sub(_from_environment, text)) or {}
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} holds a {type(tree).__name__}, expected a mapping of recipe keys")
    base = tree.pop("extends", None)
    if base is None:
        return tree
    below = read_tree(path.parent / str(base), seen=(*seen, path.resolve()))
    return merge(below, tree)


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`: groups of keys are merged, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def build_config(
    kind: type[C], tree: dict[str, Any], overrides: Sequence[str] = (), *, source: str = "recipe"
) -> C:
    """Validate a tree of plain values, after applying dotted overrides, into `kind`."""
    for override in overrides:
        _apply_override(tree, override)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(_explain(error, kind, source)) from None


def _from_environment(match: re.Match[str]) -> str:
    name, default = match.group(1), match.group(2)
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


def _explain(error: ValidationError, kind: type[BaseModel], source: str) -> str:
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
        return f"{source}: unknown key {where!r}{hint}"
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
        return f"{source}: {where}: unknown {key} {tag!r}: {hint}"
    if first["type"] in ("tuple_type", "list_type"):
        return f"{source}: {where}: found {first.get('input')!r}, expected a list in square brackets"
    return f"{source}: {where}: {first['msg']} (found {first.get('input')!r})"


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
