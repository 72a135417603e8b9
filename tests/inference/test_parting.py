import cv2
import numpy as np
import pytest
import shapely

from aftermap.geo.grid import Grid
from aftermap.inference.objects.buildings import trace_rows
from aftermap.inference.objects.parting import part_shapes, part_touching

SURE = 255  # 1 + 254 p(building), for p = 1


def strength(*boxes: tuple[int, int, int, int], size: int = 64, value: int = SURE) -> np.ndarray:
    """Boxes (top, bottom, left, right) of one value."""
    array = np.zeros((size, size), np.uint8)
    for top, bottom, left, right in boxes:
        array[top:bottom, left:right] = value
    return array


def blobs(seed: int, size: int = 96) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(size, size)), (0, 0), 3)
    share = np.clip(0.5 + 4 * noise, 0, 1)
    return np.where(share > 0.5, np.rint(254 * share) + 1, 0).astype(np.uint8)


def test_two_houses_joined_by_a_neck_are_two() -> None:
    two = strength((10, 30, 5, 25), (18, 22, 25, 30), (10, 30, 30, 50))
    labels = part_touching(two, min_area_px=20, depth_px=2)
    assert labels.max() == 2
    assert (labels[10:30, 5:25] == labels[20, 15]).all() and (labels[10:30, 30:50] == labels[20, 40]).all()
    assert labels[20, 15] != labels[20, 40]


def test_a_long_house_is_one() -> None:
    assert part_touching(strength((10, 22, 4, 60)), min_area_px=20, depth_px=2).max() == 1


def test_a_wall_that_the_model_doubts_parts_a_row_of_houses() -> None:
    row = strength((10, 30, 4, 60))
    row[:, 28:36] = np.where(row[:, 28:36], 1 + round(254 * 0.4), 0)
    labels = part_touching(row, min_area_px=20, depth_px=2)
    assert labels.max() == 2 and labels[20, 10] != labels[20, 55]
    border = np.flatnonzero(np.diff(labels[20, 4:60])) + 4
    assert 27 <= border[0] <= 36


def test_the_depth_of_the_saddle_decides() -> None:
    # squares of 20 px peak at 10, the neck of 14 px has its ridge at 7: the saddle lies 3 px below both peaks
    waist = strength((10, 30, 4, 24), (13, 27, 24, 34), (10, 30, 34, 54))
    assert part_touching(waist, min_area_px=20, depth_px=2).max() == 2
    assert part_touching(waist, min_area_px=20, depth_px=4).max() == 1


def test_a_part_that_is_too_small_goes_to_its_neighbour() -> None:
    porch = strength((10, 40, 5, 35), (22, 26, 35, 37), (19, 29, 37, 47))
    assert part_touching(porch, min_area_px=20, depth_px=1).max() == 2
    assert part_touching(porch, min_area_px=120, depth_px=1).max() == 1


def test_shapes_below_the_smallest_area_are_left_out_and_others_are_numbered_through() -> None:
    town = strength((2, 22, 2, 22), (30, 33, 2, 5), (30, 60, 20, 50))
    labels, areas = part_shapes(town, min_area_px=20, depth_px=2)
    assert sorted(np.unique(labels)) == [0, 1, 2]
    assert not labels[30:33, 2:5].any()
    np.testing.assert_array_equal(areas[1:], np.bincount(labels.ravel())[1:])


@pytest.mark.parametrize("seed", range(4))
def test_parts_cover_their_shape_and_each_is_in_one_piece(seed: int) -> None:
    land = blobs(seed)
    labels, _ = part_shapes(land, min_area_px=20, depth_px=1)
    _, shapes, stats, _ = cv2.connectedComponentsWithStats((land > 0).astype(np.uint8), connectivity=4)
    large = (stats[:, cv2.CC_STAT_AREA] >= 20)[shapes] & (land > 0)
    np.testing.assert_array_equal(labels > 0, large)
    for label in range(1, labels.max() + 1):
        assert cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=4)[0] == 2
        assert (labels == label).sum() >= 20


@pytest.mark.parametrize("cuts", [[48], [10, 11, 60], list(range(5, 96, 7))])
def test_bands_part_houses_as_the_whole_image_does(cuts: list[int]) -> None:
    land, grid = blobs(9), Grid.pixels(96, 96)

    def traced(edges: list[int]) -> set[bytes]:
        bands = [(a, land[a:b]) for a, b in zip([0, *edges], [*edges, 96], strict=True)]
        found = trace_rows(bands, grid, min_area_px=20, simplify_px=1, part_depth_px=1)
        return {shapely.to_wkb(shapely.set_precision(shapely.normalize(p), 1e-6)) for p in found}

    assert traced(cuts) == traced([])
    alone = list(trace_rows([(0, land)], grid, min_area_px=20, simplify_px=1))
    assert len(traced([])) > len(alone)


def test_a_shape_too_large_for_a_row_of_houses_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    two = strength((10, 30, 5, 25), (18, 22, 25, 30), (10, 30, 30, 50))
    monkeypatch.setattr("aftermap.inference.objects.parting.MAX_PARTED_PX", 20 * 45 - 1)
    assert part_shapes(two, min_area_px=20, depth_px=2)[0].max() == 1


@pytest.mark.parametrize("seed", range(4))
def test_shapes_on_one_sheet_are_parted_as_each_alone(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rough = cv2.GaussianBlur(draw.standard_normal((90, 160)).astype(np.float32), (0, 0), 3 + seed)
    strength = np.where(rough > 0, np.clip(128 + 900 * rough, 1, 255), 0).astype(np.uint8)
    count, shapes = cv2.connectedComponents((strength != 0).astype(np.uint8), connectivity=4)
    expected, found = np.zeros(strength.shape, np.int32), 0
    for shape in range(1, count):
        own = shapes == shape
        if own.sum() < 12:
            continue
        alone = part_touching(np.where(own, strength, 0), min_area_px=12, depth_px=1.5)
        expected[own] = alone[own] + found
        found += int(alone.max())
    np.testing.assert_array_equal(part_shapes(strength, min_area_px=12, depth_px=1.5)[0], expected)
    assert found > count  # some were parted
