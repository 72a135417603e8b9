import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from building_frames import GRID, PIXELS

from aftermap.errors import InputError, OutputError
from aftermap.files import write_json
from aftermap.workflows.mapping.provenance import describe_file, describe_input, versions


@dataclasses.dataclass(frozen=True)
class Moved:
    dx_px: float
    files: tuple[Path, ...]


def test_a_file_is_described_by_name_size_and_checksum(tmp_path: Path) -> None:
    (tmp_path / "pre.tif").write_bytes(b"x" * 3_000_000)
    assert describe_file(tmp_path / "pre.tif") == {
        "name": "pre.tif",
        "bytes": 3_000_000,
        "sha256": hashlib.sha256(b"x" * 3_000_000).hexdigest(),
    }


def test_a_folder_lists_its_files_in_order_without_machine_paths(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / "tiles" / name).mkdir(parents=True)
        (tmp_path / "tiles" / name / "t.tif").write_bytes(name.encode())
    described = describe_file(tmp_path / "tiles")
    assert [file["name"] for file in described["files"]] == ["a/t.tif", "b/t.tif"]
    assert str(tmp_path) not in json.dumps(described)


def test_an_input_carries_its_grid_and_bands(tmp_path: Path) -> None:
    (tmp_path / "pre.tif").write_bytes(b"")
    described = describe_input([tmp_path / "pre.tif"], GRID, dtype="uint16", bands=(1, 2, 3))
    assert described["grid"]["crs"] == "EPSG:32615"
    assert described["grid"]["transform"] == [0.5, 0, 400_000, 0, -0.5, 4_000_000]
    assert (described["grid"]["width"], described["dtype"], described["bands"]) == (240, "uint16", [1, 2, 3])
    assert describe_input([], PIXELS)["grid"]["crs"] is None


def test_a_missing_input_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        describe_file(tmp_path / "nothing.tif")


def test_versions_name_the_libraries_that_matter() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert {"aftermap", "python", "torch", "rasterio"} <= found.keys()


def test_json_holds_dataclasses_numpy_values_and_null_for_nan(tmp_path: Path) -> None:
    tree = {"shift": Moved(float("nan"), (Path("a/b"),)), "n": np.int64(3), "x": np.array([1.5, np.inf])}
    write_json(tmp_path / "p.json", tree)
    assert json.loads((tmp_path / "p.json").read_text()) == {
        "shift": {"dx_px": None, "files": ["a/b"]},
        "n": 3,
        "x": [1.5, None],
    }


def test_an_older_file_stays_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "p.json", {"a": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"cannot write .*p\.json: the disk is full"):
        write_json(tmp_path / "p.json", {"a": 2})
    assert json.loads((tmp_path / "p.json").read_text()) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_values_without_a_json_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="complex"):
        write_json(tmp_path / "p.json", {"a": 1j})
