import numpy as np
import shapely

from aftermap.geo.grid import Grid
from aftermap.geo.polygons import trace, trace_labels

GRID = Grid.pixels(40, 30)


def test_labels_that_touch_are_traced_apart() -> None:
    labels = np.zeros((30, 40), np.int32)
    labels[5:25, 5:15], labels[5:25, 15:30] = 2, 1
    first, second = trace_labels(labels, GRID)
    for found, box in ((first, (15, 5, 30, 25)), (second, (5, 5, 15, 25))):
        assert shapely.symmetric_difference(found, shapely.box(*box)).area < 1e-6


def test_labels_of_a_mask_are_traced_like_the_mask() -> None:
    mask = np.zeros((30, 40), bool)
    mask[2:12, 3:20], mask[15:28, 10:30], mask[20:24, 15:20] = True, True, False
    labels = mask.astype(np.int32)
    labels[15:] *= 5  # numbers may be missing
    assert [p.wkt for p in trace_labels(labels, GRID)] == [p.wkt for p in trace(mask, GRID)]


def test_no_labels_give_no_outlines() -> None:
    assert trace_labels(np.zeros((30, 40), np.int32), GRID) == []
