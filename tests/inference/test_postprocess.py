import numpy as np
import pytest

from aftermap.inference.postprocess import Decision, damage_classes, from_bytes, likeliest, to_bytes

HERE = np.zeros((1, 1), np.uint8)


def pixel(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(5, 1, 1)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        (pixel(0.9, 0.1, 0, 0, 0), 0),
        (pixel(0.4, 0.3, 0.2, 0.1, 0), 1),  # background is the most probable class, but less than one half
        (pixel(0.1, 0.1, 0.5, 0.2, 0.1), 2),
        (pixel(0.1, 0.1, 0.2, 0.5, 0.1), 3),
        (pixel(0, 0, 0, 0, 1), 4),
    ],
)
def test_a_pixel_is_a_building_above_the_threshold_and_then_its_likeliest_level(
    probabilities: np.ndarray, expected: int
) -> None:
    assert damage_classes(probabilities, HERE, Decision((0.5,) * 4))[0, 0] == expected


def test_the_threshold_moves_the_border_of_buildings() -> None:
    assert damage_classes(pixel(0.6, 0, 0.4, 0, 0), HERE, Decision((0.5,) * 4))[0, 0] == 0
    assert damage_classes(pixel(0.6, 0, 0.4, 0, 0), HERE, Decision((0.3,) * 4))[0, 0] == 2


def test_a_pixel_that_is_not_assessed_is_nodata_whatever_its_probabilities() -> None:
    assert damage_classes(pixel(0, 0, 0, 0, 1), HERE + 3, Decision((0.5,) * 4))[0, 0] == 255
    assert (to_bytes(pixel(0, 0, 0, 0, 1), HERE + 3) == 255).all()


def test_bytes_keep_probabilities_to_half_a_step() -> None:
    values = np.linspace(0, 1, 500, dtype=np.float32).reshape(5, 10, 10)
    restored = from_bytes(to_bytes(values, np.zeros((10, 10), np.uint8)))
    assert np.abs(restored - values).max() <= 0.5 / 254 + 1e-6
    assert (restored[0, 0, 0], restored[-1, -1, -1]) == (0, 1)


def test_rows_without_any_assessed_pixel_are_all_nodata() -> None:
    empty, missing = np.zeros((0, 2, 3), np.float32), np.ones((2, 3), np.uint8)
    assert (damage_classes(empty, missing, Decision((0.5,) * 4)) == 255).all()
    assert to_bytes(empty, missing).shape == (5, 2, 3) and (to_bytes(empty, missing) == 255).all()


def test_a_model_of_another_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="2 classes, expected the 5"):
        damage_classes(np.ones((2, 1, 1), np.float32), HERE, Decision((0.5,) * 4))


@pytest.mark.parametrize("classes", [1, 2, 5, 200])
def test_the_likeliest_is_that_of_argmax_ties_included(classes: int) -> None:
    drawn = np.random.default_rng(classes).integers(0, 4, (classes, 7, 9)).astype(np.float32)
    before = drawn.copy()
    assert (likeliest(drawn) == drawn.argmax(axis=0)).all() and likeliest(drawn).dtype == np.uint8
    assert (drawn == before).all()
