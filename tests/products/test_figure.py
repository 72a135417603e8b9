from pathlib import Path

import numpy as np
import pytest
from building_frames import GRID, PIXELS, empty, town
from geopandas import GeoDataFrame
from PIL import Image

from aftermap.errors import OutputError
from aftermap.geo.grid import Grid
from aftermap.products import overview
from aftermap.products.overview import draw_overview
from aftermap.products.summary import summarise
from aftermap.products.view import Picture, View, damage_view

PRE = np.full((160, 240, 3), (0, 0, 200), np.uint8)
POST = np.full((160, 240, 3), (0, 60, 60), np.uint8)
# Where a panel lies in the picture: 900 px wide from 18 px, the second after another 900 + 24 px, 600 px high from
# 0.75 inch at 150 px each.
PANEL, LEFTS, TOP = 900, (18, 942), 112


def shown(frame: GeoDataFrame, grid: Grid = GRID) -> View:
    return damage_view(frame, Picture("Before", PRE), Picture("After", POST), grid, summarise(frame, grid))


def at(path: Path, panel: int, col: float, row: float) -> tuple[int, ...]:
    picture = Image.open(path).convert("RGB")
    return picture.getpixel((round(LEFTS[panel] + col / 240 * PANEL), round(TOP + row / 240 * PANEL)))


def test_before_is_left_and_after_is_right_with_buildings(tmp_path: Path) -> None:
    path = draw_overview(tmp_path / "o.png", shown(town()), GRID, title="A town")
    assert at(path, 0, 105, 105) == (0, 0, 200)
    assert at(path, 1, 190, 80) == (0, 60, 60)
    red, green, blue = at(path, 1, 105, 105)  # b1, major damage: orange over the image
    assert red > 90 and green > 60 and blue < 60


def test_courts_stay_open(tmp_path: Path) -> None:
    path = draw_overview(tmp_path / "o.png", shown(town()), GRID, title="A town")
    assert at(path, 1, 155, 40) == (0, 60, 60)
    assert at(path, 1, 138, 40) != (0, 60, 60)


@pytest.mark.parametrize("grid", [GRID, PIXELS], ids=["georeferenced", "pixels"])
def test_a_scene_without_buildings_is_drawn(tmp_path: Path, grid: Grid) -> None:
    path = draw_overview(
        tmp_path / "o.png", shown(empty(grid), grid), grid, title="$\\bad{", warnings=["$x^", "two"]
    )
    assert Image.open(path).width == 1860


def test_what_lies_far_outside_is_not_drawn(tmp_path: Path) -> None:
    frame = town()
    frame = frame.set_geometry(frame.geometry.translate(3e6, 3e6))
    path = draw_overview(tmp_path / "o.png", shown(frame), GRID, title="A town")
    assert at(path, 1, 105, 105) == (0, 60, 60) and at(path, 1, 138, 40) == (0, 60, 60)


@pytest.mark.parametrize("size", [(1600, 2400), (160, 240)], ids=["reduced", "enlarged"])
def test_pictures_are_resized_as_pillow_does_within_a_few_grey_levels(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(rough).resize((60, 40), Image.Resampling.BOX).resize(size[::-1]))
    pictures = Picture("Before", smooth), Picture("After", POST)
    view = damage_view(empty(GRID), *pictures, GRID, summarise(empty(GRID), GRID))
    path = draw_overview(tmp_path / "o.png", view, GRID, title="A town")
    panel = np.asarray(Image.open(path).convert("RGB"))[TOP : TOP + 600, LEFTS[0] : LEFTS[0] + PANEL]
    expected = np.asarray(Image.fromarray(smooth).resize((PANEL, 600), Image.Resampling.HAMMING))
    apart = np.abs(panel.astype(float) - expected)
    assert apart.mean() < 1.5 and apart.max() < 12


def test_a_long_warning_goes_on_in_the_next_line(tmp_path: Path) -> None:
    heights = {}
    for words in (5, 60):
        warned = [" ".join(["buildings"] * words)]
        path = draw_overview(tmp_path / f"{words}.png", shown(town()), GRID, title="A", warnings=warned)
        picture = Image.open(path).convert("L")
        heights[words] = picture.height
        assert np.asarray(picture)[:, -18:].min() == 255  # nothing runs into the margin
    assert heights[60] - heights[5] == 2 * 27


def test_letters_are_there_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "find_spec", lambda name: None)
    overview.lettering.cache_clear()
    path = draw_overview(tmp_path / "o.png", shown(town()), GRID, title="A town")
    overview.lettering.cache_clear()
    heading = np.asarray(Image.open(path).convert("L"))[20:64, 18:140]
    assert 0.05 < (heading < 128).mean() < 0.5


def test_same_input_gives_the_same_picture(tmp_path: Path) -> None:
    paths = [draw_overview(tmp_path / name, shown(town()), GRID, title="A") for name in ("1.png", "2.png")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        draw_overview(tmp_path / "no" / "o.png", shown(town()), GRID, title="A")
