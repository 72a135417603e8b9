"""The notebooks of `examples/` run from top to bottom, and are stored without what they gave."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forked_python import forked_python

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.ipynb"))


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in EXAMPLES] == ["learn-a-new-class", "map-your-own-pair", "train-and-compare"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_output(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    kept = [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert kept == []


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One process for all notebooks, which imports what they share once; maps run as they do for a user."""
    pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    client, core = pytest.importorskip("jupyter_client"), pytest.importorskip("jupyter_core.utils")
    folder = tmp_path_factory.mktemp("notebooks")
    environment = {name: value for name, value in os.environ.items() if name != "AFTERMAP_BACKEND"}
    environment |= {"TMPDIR": str(folder), "IPYTHONDIR": str(folder / "ipython")}
    manager = client.AsyncKernelManager()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", forked_python())
        core.run_sync(manager.start_kernel)(cwd=str(folder), env=environment)
    yield manager
    core.run_sync(manager.shutdown_kernel)(now=True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, kernel: Any) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:  # how well its models have learned is not looked at
        cell.source = re.sub(r'("steps": |"evaluate_every": )\d+', r"\g<1>4", cell.source)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))  # names of the notebook before
    NotebookClient(notebook, km=kernel, timeout=300).execute()
    shown = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert any("<img src=" in output["data"]["text/html"] for output in shown)  # every notebook ends in a map
    errors = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    assert errors == []
