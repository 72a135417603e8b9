import cv2
import numpy as np
import pytest

from aftermap.data.mask_png import count_values, decode_mask, encode_mask

MASK = np.random.default_rng(5).choice(np.array([0, 1, 4, 255], np.uint8), (37, 61))


def test_a_mask_comes_back_as_it_was():
    assert np.array_equal(decode_mask(encode_mask(MASK)), MASK)


@pytest.mark.parametrize("pixels", [MASK.astype(np.uint16), np.dstack([MASK] * 3)])
def test_other_pngs_are_left_to_another_reader(pixels):
    assert decode_mask(cv2.imencode(".png", pixels)[1].tobytes()) is None


def test_a_damaged_mask_is_left_to_another_reader():
    data = encode_mask(MASK)
    assert decode_mask(data[:-5]) is None
    assert decode_mask(b"") is None


def test_values_are_counted_band_by_band(monkeypatch):
    monkeypatch.setattr("aftermap.data.mask_png._COUNTED_AT_ONCE", 5 * 61)
    assert np.array_equal(count_values(MASK), np.bincount(MASK.ravel(), minlength=256))
