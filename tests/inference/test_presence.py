from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.geo.grid import Grid
from aftermap.inference.objects.presence import OneDatePredictor, PresenceEvidence, locate
from aftermap.inference.postprocess import Missing

GRID = Grid(CRS.from_epsg(32636), Affine(0.5, 0, 450_000, 0, -0.5, 30_000), 40, 20)


class Recorded:
    """A model of `dates` dates that keeps what it is shown; p(background) is 0.25."""

    def __init__(self, dates: int, **card: Any) -> None:
        self.dates, self.sha256, self.multiple, self.seen = dates, "0", 32, []
        values = {
            "class_thresholds": None,
            "building_threshold": 0.3,
            "name": "m",
            "version": "1",
            "legend": None,
        }
        self.card = type("Card", (), values | card)()

    def predict_lent(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        self.seen.append((images, valid))
        shape = (len(images), 1, *images.shape[-2:])
        shares = np.array([0.25, 0.5, 0.125, 0.125, 0.0], np.float32).reshape(1, 5, 1, 1)
        return np.broadcast_to(shares, (shape[0], 5, *shape[2:])).copy()


def test_a_model_of_two_dates_sees_the_image_twice_and_all_its_classes_are_buildings() -> None:
    model = Recorded(2)
    image = np.random.default_rng(0).integers(0, 255, (2, 1, 3, 8, 8), dtype=np.uint8)
    valid = image[:, :, 0] > 20
    found = OneDatePredictor(model).predict(image, valid)  # type: ignore[arg-type]
    shown, seen = model.seen[0]
    np.testing.assert_array_equal(shown[:, 0], image[:, 0])
    np.testing.assert_array_equal(shown[:, 1], image[:, 0])
    np.testing.assert_array_equal(seen, np.concatenate([valid, valid], axis=1))
    assert found.shape == (2, 2, 8, 8)
    np.testing.assert_allclose(found[:, 1], 0.75)


def test_a_model_of_one_date_sees_it_once() -> None:
    model = Recorded(1)
    image = np.zeros((1, 1, 3, 8, 8), np.uint8)
    shown = OneDatePredictor(model)  # type: ignore[arg-type]
    shown.predict(image)
    assert model.seen[0][0].shape == image.shape and not shown.repeats and shown.dates == 1


def test_the_threshold_is_that_of_the_card_or_of_its_undamaged_buildings() -> None:
    assert OneDatePredictor(Recorded(1)).decision.thresholds == (0.3,)  # type: ignore[arg-type]
    tuned = Recorded(2, class_thresholds=(0.4, 0.1, 0.1, 0.1))
    assert OneDatePredictor(tuned).decision.thresholds == (0.4,)  # type: ignore[arg-type]


def judged(missing: np.ndarray, box: shapely.Polygon, building: np.ndarray) -> Any:
    labels = np.zeros(GRID.shape, np.int32)
    left, top, right, bottom = (int(v) for v in box.bounds)
    labels[top:bottom, left:right] = 1
    evidence = PresenceEvidence(1)
    for rows in (slice(0, 7), slice(7, 20)):  # as it comes, in bands
        evidence.add(labels[rows], building[None, rows], missing[rows])
    frame = geopandas.GeoDataFrame({"building_id": ["a"]}, geometry=[box], crs=GRID.crs.to_wkt())
    return locate(frame, [box], evidence, GRID).iloc[0]


def test_the_probability_of_a_building_is_the_mean_within_its_outline() -> None:
    building = np.zeros(GRID.shape, np.float32)
    building[5:15, 10:15], building[5:15, 15:20] = 1.0, 0.5
    row = judged(np.zeros(GRID.shape, np.uint8), shapely.box(10, 5, 20, 15), building)
    assert (row["p_building"], row["seen"], row["confidence"]) == pytest.approx((0.75, 1.0, 0.75))


def test_what_was_not_seen_lowers_the_confidence_and_not_the_probability() -> None:
    missing = np.zeros(GRID.shape, np.uint8)
    missing[:, 16:] = Missing.CLOUD
    row = judged(missing, shapely.box(10, 5, 20, 15), np.full(GRID.shape, 0.9, np.float32))
    assert (row["p_building"], row["seen"], row["confidence"]) == pytest.approx((0.9, 0.6, 0.54))


def test_a_building_hardly_seen_has_neither() -> None:
    missing = np.zeros(GRID.shape, np.uint8)
    missing[:, 14:] = Missing.PRE
    row = judged(missing, shapely.box(10, 5, 20, 15), np.ones(GRID.shape, np.float32))
    assert np.isnan(row["p_building"]) and np.isnan(row["confidence"]) and row["seen"] == pytest.approx(0.4)


def test_stored_bytes_say_the_same_to_a_step_of_storage() -> None:
    exact, stored = PresenceEvidence(1), PresenceEvidence(1)
    building = np.random.default_rng(3).random((1, 6, 6)).astype(np.float32)
    labels, missing = np.ones((6, 6), np.int32), np.zeros((6, 6), np.uint8)
    exact.add(labels, np.concatenate([1 - building, building]), missing)
    stored.add(labels, np.rint(building * 254).astype(np.uint8), missing)
    assert stored.levels[0, 0] / 36 == pytest.approx(exact.levels[0, 0] / 36, abs=1 / 254)
