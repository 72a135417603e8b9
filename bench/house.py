"""The structure of the source, before and after: lines, modules, rooms, circles, dependencies.

    python bench/house.py --base ../older

Both folders are checkouts. Circles count modules that import each other, at whatever depth, imports inside of functions
included; a room is a folder of modules. Prints a Markdown table.
"""

import argparse
import tomllib
from pathlib import Path

import grimp

HERE = Path(__file__).resolve().parents[1]


def circles(graph: grimp.ImportGraph) -> int:
    """How many groups of modules import each other in a circle (strongly connected parts of more than one module)."""
    order: list[str] = []
    seen: set[str] = set()
    for start in sorted(graph.modules):  # Kosaraju: by the order in which a walk leaves them, then backwards
        stack = [(start, False)]
        while stack:
            module, left = stack.pop()
            if left:
                order.append(module)
            elif module not in seen:
                seen.add(module)
                stack.append((module, True))
                stack += [(other, False) for other in graph.find_modules_directly_imported_by(module)]
    found, taken = 0, set()
    for start in reversed(order):
        group, stack = set(), [start]
        while stack:
            module = stack.pop()
            if module not in taken:
                taken.add(module)
                group.add(module)
                stack += list(graph.find_modules_that_directly_import(module))
        found += len(group) > 1
    return found


def figures(root: Path) -> dict[str, str]:
    """What is counted of a checkout."""
    import importlib
    import sys

    source = root / "src"
    sys.path.insert(0, str(source))
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.split(".")[0] == "aftermap"]:
        del sys.modules[name]
    graph = grimp.build_graph("aftermap", cache_dir=None)
    sys.path.remove(str(source))
    files = sorted((source / "aftermap").rglob("*.py"))
    lengths = {file: len(file.read_text().splitlines()) for file in files}
    rooms: dict[Path, int] = {}
    for file in files:
        rooms[file.parent] = rooms.get(file.parent, 0) + (file.name != "__init__.py")
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    fullest = max(rooms, key=lambda folder: rooms[folder])
    imports = sum(len(graph.find_modules_directly_imported_by(module)) for module in graph.modules)
    return {
        "lines of source": f"{sum(lengths.values()):,}",
        "modules": f"{len(files)}",
        "lines of a module, median": f"{sorted(lengths.values())[len(files) // 2]}",
        "modules over 400 lines": f"{sum(n > 400 for n in lengths.values())}",
        "rooms": f"{len(rooms)}",
        "modules of the fullest room": f"{rooms[fullest]} ({fullest.relative_to(source / 'aftermap')})",
        "imports between modules": f"{imports:,}",
        "circles": f"{circles(graph)}",
        "direct dependencies of a plain install": f"{len(project['dependencies'])}",
        "lines of tests": f"{sum(len(p.read_text().splitlines()) for p in (root / 'tests').rglob('*.py')):,}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="an older checkout")
    before, now = (figures(root.resolve()) for root in (parser.parse_args().base, HERE))
    print("| | before | now |\n|---|---|---|")
    for name in before:
        print(f"| {name} | {before[name]} | {now[name]} |")


if __name__ == "__main__":
    main()
