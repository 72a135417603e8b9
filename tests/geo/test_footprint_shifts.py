"""Footprints beside their houses: moved onto them block by block, and left alone where that does not surely help."""

import cv2
import numpy as np
import pytest
import shapely

from aftermap.geo.alignment.edges import edge_field
from aftermap.geo.alignment.footprint_shifts import _surfaces, measure_footprint_shifts
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import Patch

WIDTH, HEIGHT = 1000, 400
GRID = Grid.pixels(WIDTH, HEIGHT)


def street(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bright houses of 14 to 26 px every 40 px on noisy ground, uint8 (1, H, W), and their outlines."""
    rng = np.random.default_rng(seed)
    image = rng.normal(90, 12, (HEIGHT, WIDTH))
    houses = []
    for top in range(20, HEIGHT - 40, 40):
        for left in range(20, WIDTH - 40, 40):
            wide, high = rng.integers(14, 27, 2).tolist()
            image[top : top + high, left : left + wide] += 60
            houses.append(shapely.box(left, top, left + wide, top + high))
    return image.clip(0, 255).astype(np.uint8)[None], np.array(houses, dtype=object)


def reader(image: np.ndarray):
    def read(window: Window) -> Patch:
        there = image[:, *window.slices]
        return Patch(there, np.ones(there.shape[1:], bool), GRID.crop(window))

    return read


def moved(shapes: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    corners, owner = shapely.get_coordinates(shapes, return_index=True)
    return shapely.set_coordinates(shapes.copy(), corners + np.column_stack([dx, dy])[owner])


def columns(shapes: np.ndarray) -> np.ndarray:
    return shapely.get_x(shapely.centroid(shapes))


def test_two_quarters_with_other_shifts_are_each_moved_back():
    image, houses = street()
    east = columns(houses) > WIDTH / 2
    dx, dy = np.where(east, -4.0, 3.0), np.where(east, 5.0, -2.0)
    found = measure_footprint_shifts(moved(houses, dx, dy), reader(image), (HEIGHT, WIDTH))
    away = np.abs(columns(houses) - WIDTH / 2) > 200  # where the quarters meet no shift is right for both
    assert found.moved[away].all()
    assert np.abs(found.dx_px + dx)[away].max() <= 0.75
    assert np.abs(found.dy_px + dy)[away].max() <= 0.75
    assert found.median_px == pytest.approx(5.0, abs=1.5)  # of 3.6 and 6.4
    assert found.fit_after > 1.5 * found.fit_before


def test_one_shift_of_all_is_found_to_a_quarter_of_a_pixel():
    image, houses = street(1)
    blurred = cv2.GaussianBlur(image[0], (0, 0), 1.0)[None]
    count = len(houses)
    found = measure_footprint_shifts(
        moved(houses, np.full(count, 2.5), np.full(count, -3.0)), reader(blurred), (HEIGHT, WIDTH)
    )
    assert found.moved.all() and found.moved_blocks == found.blocks
    assert np.abs(found.dx_px + 2.5).max() <= 0.5 and np.abs(found.dy_px - 3.0).max() <= 0.5


@pytest.mark.parametrize("why", ["they fit", "there is nothing to see", "each is wrong by itself"])
def test_footprints_stay_where(why):
    image, houses = street(2)
    if why == "there is nothing to see":
        image = np.random.default_rng(3).integers(60, 120, image.shape).astype(np.uint8)
    if why == "each is wrong by itself":
        houses = moved(houses, *np.random.default_rng(4).uniform(-11, 11, (2, len(houses))))
    found = measure_footprint_shifts(houses, reader(image), (HEIGHT, WIDTH))
    assert not found.moved.any() and not found.dx_px.any() and not found.dy_px.any()
    assert "would not meet the edges" in found.reason or "no block" in found.reason


def test_a_shift_as_long_as_what_is_looked_for_is_not_believed():
    image, houses = street(5)
    away = moved(houses, np.full(len(houses), 13.0), np.zeros(len(houses)))
    found = measure_footprint_shifts(away, reader(image), (HEIGHT, WIDTH))
    assert np.abs(found.dx_px).max() < 12


def test_few_footprints_stay():
    image, houses = street()
    found = measure_footprint_shifts(houses[:3], reader(image), (HEIGHT, WIDTH))
    assert not found.moved.any() and found.blocks == 0
    assert found.reason == "too few outlines show edges in the image"


def test_no_footprints_and_footprints_outside_are_no_error():
    image, houses = street()
    away = moved(houses, np.full(len(houses), 5000.0), np.zeros(len(houses)))
    for shapes in (houses[:0], away):
        assert not measure_footprint_shifts(shapes, reader(image), (HEIGHT, WIDTH)).moved.any()


def test_the_fit_of_one_outline_is_the_mean_of_the_edges_across_it():
    """By hand: a step edge along one of four sides, so the others add nothing."""
    image = np.zeros((1, 60, 60))
    image[0, :, 30:] = 100
    house = np.array([shapely.box(10, 20, 30, 40)], dtype=object)
    known, surfaces = _surfaces(house, reader(image), Window(0, 0, 60, 60), (60, 60), 4)
    assert known.tolist() == [0] and surfaces.shape == (1, 5, 5)
    edge = np.abs(edge_field(image))[
        30
    ]  # the same in every row; 20 px a side, 32 points: 8 of these on the edge,
    # whose place at 30.0 lies between the middles of columns 29 and 30, so that both count by half
    half = [(edge[29 + dx] + edge[30 + dx]) / 2 for dx in range(-4, 5, 2)]
    assert surfaces[0, 2].tolist() == pytest.approx([each / 4 for each in half], abs=0.01)
