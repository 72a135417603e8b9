import cv2
import numpy as np
import pytest
from rasterio.features import shapes

from aftermap.geo.pixel_rings import trace_rings


def rings_of(labels: np.ndarray) -> dict[int, list[list[list[float]]]]:
    """The rings of each label, as GDAL lists them."""
    found = trace_rings(labels)
    rings: dict[int, list[list[list[float]]]] = {}
    for number, label in enumerate(found.label.tolist()):
        rings.setdefault(label, []).append(found.points[found.ring == number].tolist())
    return rings


def mosaic(seed: int) -> np.ndarray:
    """Shapes of up to four colours, numbered, some with holes and some that touch in corners only."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, rng.integers(2, 5), rng.integers(1, 16, 2)).astype(np.uint8)
    if seed % 2:
        colours = np.kron(colours, np.ones((2, 3), np.uint8))
        colours[::3, ::5] = 0
    labels = np.zeros(colours.shape, np.int32)
    for colour in range(1, int(colours.max()) + 1):
        _, own = cv2.connectedComponents((colours == colour).astype(np.uint8), connectivity=4)
        labels[own > 0] = own[own > 0] + labels.max()
    return labels


def test_a_square_with_a_hole() -> None:
    labels = np.full((3, 4), 7, np.int32)
    labels[1, 1] = 0

    found = trace_rings(labels)

    outer = [[0, 0], [0, 3], [4, 3], [4, 0], [0, 0]]
    hole = [[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]
    assert found.points.tolist() == [*outer, *hole]
    assert found.ring.tolist() == [0] * 5 + [1] * 5
    assert (found.label.tolist(), found.area.tolist()) == ([7, 7], [12, -1])


def test_nothing_has_no_rings() -> None:
    assert len(trace_rings(np.zeros((5, 4), np.int32)).label) == 0


@pytest.mark.parametrize("part", range(4))
def test_rings_are_those_of_gdal_to_the_vertex(part: int) -> None:
    for seed in range(part * 60, part * 60 + 60):
        labels = mosaic(seed)
        expected = {
            int(value): [np.asarray(ring).tolist() for ring in outline["coordinates"]]
            for outline, value in shapes(labels, mask=labels > 0, connectivity=4)
        }
        assert rings_of(labels) == expected
