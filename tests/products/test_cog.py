import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rio_cogeo import cog_validate

from aftermap.classes import DAMAGE
from aftermap.errors import OutputError
from aftermap.geo.grid import Grid, Window
from aftermap.products.cog import RasterWriter, damage_colormap

GRID = Grid(CRS.from_epsg(32615), Affine(0.5, 0, 400_000, 0, -0.5, 4_000_000), 700, 600)


def classes(grid: Grid = GRID) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, grid.shape).astype(np.uint8)


def write_bands(writer: RasterWriter, array: np.ndarray, rows: int) -> None:
    for row in range(0, array.shape[-2], rows):
        piece = array[..., row : row + rows, :]
        writer.write(Window(row, 0, piece.shape[-2], array.shape[-1]), piece)


def damage_writer(path: Path) -> RasterWriter:
    return RasterWriter(
        path,
        GRID,
        count=1,
        dtype="uint8",
        nodata=255,
        colormap=damage_colormap(),
        descriptions=["damage"],
    )


@pytest.fixture
def damage_tif(tmp_path: Path) -> Path:
    with damage_writer(tmp_path / "damage.tif") as writer:
        write_bands(writer, classes(), rows=100)
    return tmp_path / "damage.tif"


def test_result_is_a_valid_cog_with_overviews(damage_tif: Path) -> None:
    valid, errors, warnings = cog_validate(damage_tif, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(damage_tif) as dataset:
        assert dataset.overviews(1) == [2]
        assert dataset.block_shapes == [(512, 512)]


def test_pixels_come_back_as_written(damage_tif: Path) -> None:
    with rasterio.open(damage_tif) as dataset:
        assert np.array_equal(dataset.read(1), classes())


def test_geometry_nodata_and_descriptions_come_back(damage_tif: Path) -> None:
    with rasterio.open(damage_tif) as dataset:
        assert dataset.crs == GRID.crs
        assert dataset.transform == GRID.transform
        assert dataset.nodata == 255
        assert dataset.descriptions == ("damage",)


def test_colour_table_holds_the_damage_colours(damage_tif: Path) -> None:
    with rasterio.open(damage_tif) as dataset:
        table = dataset.colormap(1)
    for index in (1, 2, 3, 4):
        red, green, blue, alpha = table[index]
        assert (f"#{red:02x}{green:02x}{blue:02x}", alpha) == (DAMAGE.colours[index], 255)
    assert table[255] == (0, 0, 0, 0)
    assert table[0][:3] == (0, 0, 0)


def test_only_the_result_is_left_in_the_folder(damage_tif: Path) -> None:
    assert list(damage_tif.parent.iterdir()) == [damage_tif]


def test_overviews_of_classes_hold_only_classes_and_of_probabilities_their_mean(tmp_path: Path) -> None:
    checker = np.indices(GRID.shape).sum(axis=0) % 2
    with RasterWriter(tmp_path / "c.tif", GRID, count=1, dtype="uint8", nodata=255) as writer:
        writer.write(GRID.window, (checker * 4).astype(np.uint8))
    with RasterWriter(tmp_path / "p.tif", GRID, count=1, dtype="float32", nodata=float("nan")) as writer:
        writer.write(GRID.window, checker.astype(np.float32))
    with rasterio.open(tmp_path / "c.tif", overview_level=0) as dataset:
        assert set(np.unique(dataset.read(1))) <= {0, 4}
    with rasterio.open(tmp_path / "p.tif", overview_level=0) as dataset:
        assert np.allclose(dataset.read(1), 0.5)


def test_pixels_never_written_are_nodata(tmp_path: Path) -> None:
    with RasterWriter(tmp_path / "p.tif", GRID, count=2, dtype="float32", nodata=-1) as writer:
        writer.write(Window(0, 0, 100, 700), np.ones((2, 100, 700), np.float32))
    with rasterio.open(tmp_path / "p.tif") as dataset:
        array = dataset.read()
    assert (array[:, :100] == 1).all()
    assert (array[:, 100:] == -1).all()


def test_windows_may_come_in_any_order(tmp_path: Path) -> None:
    truth = classes()
    windows = [
        Window(r, c, min(130, 600 - r), min(170, 700 - c))
        for r in range(0, 600, 130)
        for c in range(0, 700, 170)
    ]
    with RasterWriter(tmp_path / "c.tif", GRID, count=1, dtype="uint8", nodata=255) as writer:
        for window in reversed(windows):
            writer.write(window, truth[window.slices])
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert np.array_equal(dataset.read(1), truth)


def test_grid_without_reference_system_gives_a_tiff_without_georeference(tmp_path: Path) -> None:
    with RasterWriter(tmp_path / "c.tif", Grid.pixels(90, 80), count=1, dtype="uint8", nodata=255) as writer:
        writer.write(Window(0, 0, 80, 90), np.ones((80, 90), np.uint8))
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert dataset.crs is None
        assert dataset.transform == Affine.identity()


def test_an_error_leaves_the_old_file_and_no_temporary_one(damage_tif: Path) -> None:
    before = damage_tif.read_bytes()
    with pytest.raises(RuntimeError), damage_writer(damage_tif) as writer:
        write_bands(writer, 4 - classes(), rows=200)
        raise RuntimeError
    assert damage_tif.read_bytes() == before
    assert list(damage_tif.parent.iterdir()) == [damage_tif]


def test_wrong_arrays_and_windows_are_refused(tmp_path: Path) -> None:
    with damage_writer(tmp_path / "damage.tif") as writer:
        with pytest.raises(ValueError, match="does not fit"):
            writer.write(Window(0, 0, 10, 10), np.zeros((2, 10, 10), np.uint8))
        with pytest.raises(ValueError, match="beyond"):
            writer.write(Window(595, 0, 10, 10), np.zeros((10, 10), np.uint8))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*nowhere does not exist"):
        damage_writer(tmp_path / "nowhere" / "damage.tif")


@pytest.fixture
def files_limited_to_100_kb() -> Iterator[None]:
    """The same failure as a full disk, for this process only: writes beyond the limit fail."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("files_limited_to_100_kb")
def test_a_write_that_fails_late_is_an_error_not_a_hole(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random(GRID.shape, np.float32)
    with (
        pytest.raises(OutputError, match=r"cannot write .*p\.tif"),
        RasterWriter(tmp_path / "p.tif", GRID, count=1, dtype="float32", nodata=-1) as writer,
    ):
        write_bands(writer, noise, rows=100)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_height(tmp_path: Path) -> None:
    script = """
import resource, sys
import numpy as np
from pathlib import Path
from aftermap.geo.grid import Grid, Window
from aftermap.products.cog import RasterWriter
height = int(sys.argv[2])
piece = np.random.default_rng(0).integers(0, 5, (1, 256, 1)).astype(np.uint8).repeat(8000, axis=2)
with RasterWriter(Path(sys.argv[1]), Grid.pixels(8000, height), count=1, dtype="uint8", nodata=255) as writer:
    for row in range(0, height, 256):
        writer.write(Window(row, 0, 256, 8000), piece)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    peaks = []
    for height in (8192, 32768):
        command = [sys.executable, "-c", script, str(tmp_path / f"{height}.tif"), str(height)]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    raster_mb = 8000 * (32768 - 8192) / 2**20
    assert peaks[1] - peaks[0] < 0.25 * raster_mb
