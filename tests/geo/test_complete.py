import zlib

import cv2
import numpy as np
import pytest

from aftermap.geo.opening.complete import is_complete

PIXELS = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
FORMS = {
    "png": cv2.imencode(".png", PIXELS)[1].tobytes(),
    "lossy": cv2.imencode(".webp", PIXELS, (cv2.IMWRITE_WEBP_QUALITY, 80))[1].tobytes(),
    "lossless": cv2.imencode(".webp", PIXELS, (cv2.IMWRITE_WEBP_QUALITY, 101))[1].tobytes(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_complete_up_to_its_last_byte_and_no_shorter(form):
    data = FORMS[form]
    assert is_complete(data)
    assert not any(is_complete(data[:length]) for length in range(0, len(data), 97))
    assert not is_complete(data[:-1])


def test_a_png_with_any_changed_byte_is_not():
    data = FORMS["png"]
    for at in range(8, len(data), 131):
        assert not is_complete(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])


def test_a_png_without_pixels_is_not():
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    head, end = chunk(b"IHDR", bytes(13)), chunk(b"IEND", b"")
    assert not is_complete(b"\x89PNG\r\n\x1a\n" + head + end)
    assert is_complete(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"x") + end)


def test_other_formats_are_left_to_their_decoders():
    assert not is_complete(cv2.imencode(".jpg", PIXELS)[1].tobytes())
    seen_through = np.dstack([PIXELS, PIXELS[..., :1]])
    assert not is_complete(cv2.imencode(".webp", seen_through, (cv2.IMWRITE_WEBP_QUALITY, 80))[1].tobytes())
    assert not is_complete(b"")
