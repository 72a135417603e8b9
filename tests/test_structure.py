"""The house's rules, held by the test run."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


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
