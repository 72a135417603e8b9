from itertools import pairwise

import numpy as np
import pytest
import shapely
from scipy.ndimage import label
from shapely import box

from aftermap.inference.objects import class_regions
from aftermap.inference.objects.class_regions import Region, trace_regions

IGNORE = 255


def mask(seed: int, shape: tuple[int, int] = (40, 30), classes: int = 4) -> np.ndarray:
    """Patches of some classes, with pixels that are not assessed."""
    rng = np.random.default_rng(seed)
    patches = (
        rng.integers(0, classes, (shape[0] // 2, shape[1] // 2), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    )
    patches[rng.random(shape) < 0.1] = rng.integers(0, classes)
    patches[10:14, 5:20] = IGNORE
    return patches


def regions(classes: np.ndarray, cuts: list[int], **options) -> list[Region]:
    confidence = np.arange(classes.size, dtype=np.int64).reshape(classes.shape) % 251
    edges = [0, *cuts, len(classes)]
    bands = ((a, classes[a:b], confidence[a:b]) for a, b in pairwise(edges))
    areas = options.pop("row_areas", np.ones(len(classes)))
    found = trace_regions(bands, areas, **options)
    return sorted(found, key=lambda r: (*r.polygon.bounds, r.kind, r.pixels))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cuts", [[20], [1, 2, 3], list(range(1, 40)), [7, 8, 30, 39]])
def test_bands_give_the_regions_of_the_mask_in_one_piece(seed: int, cuts: list[int]) -> None:
    whole, parts = regions(mask(seed), []), regions(mask(seed), cuts)
    assert [(r.kind, r.pixels, shapely.to_wkb(r.polygon)) for r in parts] == [
        (r.kind, r.pixels, shapely.to_wkb(r.polygon)) for r in whole
    ]
    assert [r.confidence for r in parts] == pytest.approx([r.confidence for r in whole])


def test_regions_tile_the_mask_class_by_class() -> None:
    classes = mask(3)
    found = regions(classes, [9, 21])
    for kind in range(4):
        of_kind = [r for r in found if r.kind == kind]
        assert len(of_kind) == label(classes == kind)[1]
        assert (
            sum(r.polygon.area for r in of_kind) == (classes == kind).sum() == sum(r.pixels for r in of_kind)
        )
    assert all(r.polygon.is_valid for r in found)
    assert shapely.union_all([r.polygon for r in found]).area == (classes != IGNORE).sum()


def test_a_ring_has_its_hole_and_the_mean_of_its_own_pixels() -> None:
    classes = np.zeros((7, 7), np.uint8)
    classes[1:6, 1:6] = 2
    classes[3, 3] = 1
    confidence = np.full((7, 7), 10)
    confidence[classes == 2] = 200
    bands = [(0, classes[:3], confidence[:3]), (3, classes[3:], confidence[3:])]
    (ring,) = (r for r in trace_regions(bands, np.ones(7), left_out=(0, 1)))
    assert ring.polygon.equals(box(1, 1, 6, 6) - box(3, 3, 4, 4))
    assert (ring.kind, ring.pixels, ring.confidence) == (2, 24, 200)


def test_small_regions_and_those_left_out_are_dropped() -> None:
    classes = np.zeros((4, 6), np.uint8)
    classes[0, 0] = classes[2:, 2:4] = 1
    found = regions(classes, [3], left_out=(0,), min_area=2)
    assert [(r.kind, r.pixels) for r in found] == [(1, 4)]


def test_areas_are_those_of_the_rows_that_a_region_covers() -> None:
    classes = np.zeros((4, 2), np.uint8)
    classes[:3, 0] = 1
    (column,) = regions(classes, [1, 2], left_out=(0,), row_areas=np.array([1.0, 10.0, 100.0, 1000.0]))
    assert column.area == 111


def test_a_region_without_end_is_cut_so_that_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_regions, "MAX_REGION_ROWS", 4)
    found = regions(np.ones((10, 3), np.uint8), list(range(1, 10)))
    assert len(found) > 1 and sum(r.pixels for r in found) == 30
    assert shapely.union_all([r.polygon for r in found]).equals(box(0, 0, 3, 10))
