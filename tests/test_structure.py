"""The house's rules, held by the test run."""

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "timm", "torchvision", "segmentation_models_pytorch", "kornia", "accelerate")
"""What trains, and takes seconds and half a gigabyte to import."""

WITHOUT_TORCH = (
    "aftermap.artefacts.activation",
    "aftermap.artefacts.arrays",
    "aftermap.artefacts.card",
    "aftermap.artefacts.edit",
    "aftermap.artefacts.ensemble",
    "aftermap.artefacts.exported",
    "aftermap.artefacts.folder",
    "aftermap.artefacts.hub",
    "aftermap.artefacts.store",
    "aftermap.inference",
    "aftermap.models.build",
    "aftermap.models.configs",
    "aftermap.models.weights.published",
    "aftermap.products",
    "aftermap.workflows.mapping",
    "aftermap.workflows.scoring",
    "aftermap.workflows.weights.catalogue",
    "aftermap.cli",
)
"""Modules and rooms that PyTorch is no part of when they are imported; what they import within a function may be."""

WITH_TORCH = (
    "aftermap.inference.backends.auto",
    "aftermap.inference.backends.converted",
    "aftermap.inference.backends.pytorch",
)
"""Of these the modules that stand for PyTorch: imported within functions, where it runs a model."""


@pytest.fixture(scope="module")
def graph():
    """Every import in the sources, those within functions too."""
    return grimp.build_graph("aftermap", exclude_type_checking_imports=True, cache_dir=None)


def circles(imports):
    """Sets of modules that import each other in the end (Tarjan's strongly connected components)."""
    numbers, lowest, stack, found = {}, {}, [], []

    def visit(module):
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for other in imports[module]:
            if other not in numbers:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], numbers[other])
        if lowest[module] == numbers[module]:
            members = [stack.pop()]
            while members[-1] != module:
                members.append(stack.pop())
            found.append(sorted(members))

    for module in imports:
        if module not in numbers:
            visit(module)
    return [members for members in found if len(members) > 1]


def test_circles_are_found():
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def test_no_modules_import_each_other_in_a_circle(graph):
    assert circles({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}) == []


def at_import(path):
    """Modules that a source file names in imports that run when it is imported."""
    found = []
    waiting = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


@pytest.fixture(scope="module")
def sources():
    """Every module, and what it imports when it is imported, packages above that included."""
    files = {}
    for path in (ROOT / "src" / "aftermap").rglob("*.py"):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    imports = {}
    for name, path in files.items():
        named = at_import(path)
        above = [other.rpartition(".")[0] for other in [name, *named] if other in files]
        imports[name] = {*named, *above}
    return imports


def reached(sources, start):
    """Everything that is imported with a module, and by which of ours."""
    seen, waiting = {start: start}, [start]
    while waiting:
        name = waiting.pop()
        for other in sources.get(name, ()):
            if other not in seen:
                seen[other] = name
                waiting.append(other)
    return seen


def test_what_maps_and_scores_is_imported_without_pytorch(sources):
    rooms = [
        name
        for name in sources
        if any(name == room or name.startswith(f"{room}.") for room in WITHOUT_TORCH)
        and name not in WITH_TORCH
    ]
    assert len(rooms) > 60
    faults = [
        f"{name}: {by} imports {other}"
        for name in rooms
        for other, by in reached(sources, name).items()
        if other.partition(".")[0] in HEAVY
    ]
    assert faults == []


def test_pytorch_is_seen_where_it_is(sources):
    for name in (*WITH_TORCH, "aftermap.learning.loop", "aftermap.models.networks.dense"):
        assert "torch" in reached(sources, name)
    assert "torch" not in sources["aftermap.artefacts.arrays"]  # imported within functions


def test_rooms_depend_in_one_direction():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_help_loads_neither_torch_nor_gdal():
    code = (
        "import sys, contextlib, io\n"
        "from aftermap.cli.app import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['--help'])\n"
        "print([m for m in ('torch', 'rasterio', 'geopandas', 'cv2', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_source_file_is_long():
    """But the table of contents, which is docstrings for the most part."""
    files = [p for p in (ROOT / "src").rglob("*.py") if p.name != "api.py"]
    long = [p.name for p in files if len(p.read_text().splitlines()) > 420]
    assert long == []


def test_no_two_files_of_tests_have_one_name():
    """pytest imports them by their name alone, and refuses the second where both are collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
