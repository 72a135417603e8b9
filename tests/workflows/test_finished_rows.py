"""Rows of a map that are stored window by window come back as they were, whole, in planes and in pieces."""

import numpy as np
import pytest

from aftermap.workflows.mapping import work
from aftermap.workflows.mapping.work import FinishedRows, Rows, WorkFolder, packed

HEIGHT, WIDTH, CUT = 600, 70, 40


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"classes": (HEIGHT, WIDTH), "one": (1, HEIGHT, WIDTH), "probabilities": (3, HEIGHT, WIDTH)}
    return {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def rows(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Rows:
    parts = {
        start: packed({name: array[..., start:stop] for name, array in arrays.items()})
        for start, stop in ((0, CUT), (CUT, WIDTH))
    }
    with WorkFolder(tmp_path_factory.mktemp("map") / "out", {}) as folder:
        folder.add(FinishedRows(100, 100 + HEIGHT, parts, {"levels": np.arange(3.0)}))
    assert folder.finished() == []  # those above are not there
    return Rows(next(folder.parts.glob("*.zip")), 100, 100 + HEIGHT)


def test_parts_are_put_side_by_side(rows: Rows, arrays: dict[str, np.ndarray]) -> None:
    *pixels, levels = rows.load(*arrays, "levels")
    for found, array in zip(pixels, arrays.values(), strict=True):
        np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(levels, [0, 1, 2])
    np.testing.assert_array_equal(rows.plane("probabilities", 2), arrays["probabilities"][2])


def test_pieces_are_the_rows_in_order(
    rows: Rows, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rows.pieces(WIDTH) == [rows]
    monkeypatch.setattr(work, "_PIECE_PX", 300 * WIDTH)
    pieces = rows.pieces(WIDTH)
    assert [(piece.start, piece.stop) for piece in pieces] == [(100, 356), (356, 612), (612, 700)]
    for piece in pieces:
        here = slice(piece.start - 100, piece.stop - 100)
        assert piece.lines == here
        np.testing.assert_array_equal(piece.load("probabilities")[0], arrays["probabilities"][:, here])
        np.testing.assert_array_equal(piece.plane("one", 0), arrays["one"][0, here])
