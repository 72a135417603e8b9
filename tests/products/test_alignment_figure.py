"""The picture of outlines on tiles, and the line about their shift."""

import cv2
import numpy as np
import pytest

from aftermap.data.checking.footprint_shift import FootprintShift
from aftermap.data.preparing.cut_config import CutConfig
from aftermap.products.figures.alignment_figure import describe_shift, draw_alignment
from prepared_datasets import cut_tiles
from towns_in_rasters import footprints, write_raster

FITS = FootprintShift(0.5, 0, 0, fit=0.6, gain=0.0, error=0.0, tiles=4)
CLEAR = FootprintShift(0.5, 12, -6, fit=0.3, gain=0.4, error=0.05, tiles=4)
VAGUE = FootprintShift(None, 9, 2, fit=0.3, gain=0.04, error=0.05, tiles=1)


@pytest.fixture
def scenes(tmp_path):
    image = write_raster(tmp_path / "town.tif")
    return cut_tiles(image, footprints(), tmp_path / "out", CutConfig(size_px=64))


def drawn(path, colour):
    """Number of pixels near an RGB colour."""
    picture = cv2.imread(str(path))[..., ::-1].astype(int)
    return int((np.abs(picture - colour).max(axis=2) < 40).sum())


def test_outlines_are_drawn_on_the_tiles(scenes, tmp_path):
    path = draw_alignment(tmp_path / "alignment.png", scenes, [FITS], title="Town")
    assert drawn(path, (255, 212, 0)) > 3000
    assert drawn(path, (0, 229, 255)) == 0


def test_a_clear_shift_is_drawn_too(scenes, tmp_path):
    path = draw_alignment(tmp_path / "alignment.png", scenes, [CLEAR], title="Town")
    assert drawn(path, (0, 229, 255)) > 2000


def test_without_buildings_there_is_nothing_to_draw(scenes, tmp_path):
    bare = [scene.model_copy(update={"class_pixels": [64 * 64, 0]}) for scene in scenes]
    with pytest.raises(ValueError, match="no tile holds a building"):
        draw_alignment(tmp_path / "alignment.png", bare, [], title="Town")


@pytest.mark.parametrize(
    ("shift", "parts"),
    [
        (FITS, ["at 0.5 m per pixel: the outlines fit best where they are (4 tiles)"]),
        (
            CLEAR,
            ["+12 px across, -6 px down or more (6.7 m)", "fit 40% better (error 5%", "shift the footprints"],
        ),
        (VAGUE, ["without scale", "no clear shift", "1 tile)"]),
    ],
)
def test_a_shift_is_described_in_one_line(shift, parts):
    line = describe_shift(shift)
    assert all(part in line for part in parts)
    assert "\n" not in line
