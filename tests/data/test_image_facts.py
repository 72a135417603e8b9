import os

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from aftermap.data.checking.doctor import check
from aftermap.geo.opening.files import OpenFiles
from made_xbd import manifest, scene

SIZE = 128


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch):
    """The images that were decoded, in their order."""
    names, whole = [], OpenFiles.whole

    def noting(self, file):
        names.append(file.path.name)
        return whole(self, file)

    monkeypatch.setattr(OpenFiles, "whole", noting)
    return names


def write_plain_tiff(path, *, black_rows=0):
    """An uncompressed image, of one size whatever it shows."""
    pixels = np.random.default_rng(0).integers(1, 255, (3, SIZE, SIZE), np.uint8)
    pixels[:, :black_rows] = 0
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", count=3, height=SIZE, width=SIZE, dtype="uint8") as file,
    ):
        file.write(pixels)
    return path


def labelled(tmp_path, *, black_rows=0, known=0):
    """A scene of one date and a mask that knows nothing of its black rows, or claims to."""
    pre = write_plain_tiff(tmp_path / "a.tif", black_rows=black_rows)
    mask = np.full((SIZE, SIZE), known, np.uint8)
    mask[black_rows:] = 1
    assert cv2.imwrite(str(tmp_path / "a_building.png"), mask)
    return manifest([scene("a", pre=pre, post=None, size=SIZE, building_mask=tmp_path / "a_building.png")])


def rests(report):
    return [f.message.partition(" of ")[0] for f in report.findings if f.code == "undeclared-rest"]


def test_an_image_is_decoded_once(tmp_path, decoded):
    data = labelled(tmp_path, black_rows=32)
    first = check(data)
    assert rests(first) == ["25.0%"]
    assert check(data) == first
    assert decoded == ["a.tif"]


def test_an_image_that_was_changed_is_decoded_whatever_its_size_and_date_say(tmp_path, decoded):
    data = labelled(tmp_path)
    path = data.scenes[0].pre
    before = path.stat()
    assert rests(check(data)) == []
    write_plain_tiff(path, black_rows=32)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert rests(check(data)) == ["25.0%"]
    assert decoded == ["a.tif", "a.tif"]


def test_a_mask_that_was_changed_is_looked_at_again(tmp_path):
    assert rests(check(labelled(tmp_path, black_rows=32))) == ["25.0%"]
    assert rests(check(labelled(tmp_path, black_rows=32, known=255))) == []


def test_a_mask_beside_the_image_is_looked_at_again(tmp_path):
    data = labelled(tmp_path)
    beside = tmp_path / "a.tif.msk"

    def shares():
        return [f.message.split()[0] for f in check(data).findings if f.code == "no-ground"]

    assert shares() == []
    for rows, share in ((32, "25.0%"), (64, "50.0%")):
        seen = np.full((1, SIZE, SIZE), 255, np.uint8)
        seen[:, :rows] = 0
        with (
            pytest.warns(NotGeoreferencedWarning),
            rasterio.open(
                beside, "w", driver="GTiff", count=1, height=SIZE, width=SIZE, dtype="uint8"
            ) as file,
        ):
            file.update_tags(INTERNAL_MASK_FLAGS_1=2, INTERNAL_MASK_FLAGS_2=2, INTERNAL_MASK_FLAGS_3=2)
            file.write(seen)
        assert shares() == [share]


def test_an_image_whose_pixels_lie_in_other_files_is_decoded_every_time(tmp_path, decoded):
    data = labelled(tmp_path)
    vrt = tmp_path / "a.vrt"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    vrt.write_text(f'<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}">{bands}</VRTDataset>')
    data = data.model_copy(update={"scenes": [data.scenes[0].model_copy(update={"pre": vrt})]})
    assert rests(check(data)) == []
    write_plain_tiff(tmp_path / "a.tif", black_rows=32)
    assert rests(check(data)) == ["25.0%"]
    assert decoded == ["a.vrt", "a.vrt"]


def test_what_lies_in_the_cache_and_is_no_fact_is_passed_over(tmp_path, decoded):
    data = labelled(tmp_path, black_rows=32)
    first = check(data)
    (kept,) = (tmp_path / "cache" / "images").iterdir()
    for text in ("{", "[]", '{"other": 1}'):
        kept.write_text(text)
        assert check(data) == first
    assert decoded == ["a.tif"] * 4


def test_an_image_that_changes_while_it_is_decoded_is_not_kept(tmp_path, monkeypatch):
    data, whole = labelled(tmp_path), OpenFiles.whole

    def replaced(self, file):
        write_plain_tiff(tmp_path / "b.tif", black_rows=32).replace(file.path)
        return whole(self, file)

    monkeypatch.setattr(OpenFiles, "whole", replaced)
    check(data)
    assert not (tmp_path / "cache" / "images").exists()
