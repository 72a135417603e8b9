"""The pictures of a page are packed by what they are, and read back from it."""

import numpy as np
import pytest
from PIL import Image

from aftermap.products.page.page import to_tiles
from aftermap.products.page.stored import StoredPage


@pytest.mark.parametrize(
    ("alpha", "lossless", "kind"),
    [
        (None, False, "jpeg"),
        (255, False, "jpeg"),
        (0, False, "webp"),
        (255, True, "png"),
        (None, True, "png"),
    ],
)
def test_pictures_are_jpeg_unless_something_is_transparent_or_nothing_may_be_lost(
    tmp_path, alpha, lossless, kind
):
    rgb = np.tile(np.linspace(40, 200, 64, dtype=np.uint8)[:, None], (48, 1, 3))
    picture = Image.fromarray(rgb)
    if alpha is not None:
        mask = np.full(rgb.shape[:2], 255, np.uint8)
        mask[:16] = alpha
        picture.putalpha(Image.fromarray(mask))
    tiles = to_tiles(picture, lossless=lossless)
    assert [tile["src"].partition(";")[0] for tile in tiles] == [f"data:image/{kind}"]
    first, _ = StoredPage(tmp_path, 64, 48, tiles=(tiles, tiles)).decoded()
    assert np.abs(first.rgb[20:].astype(int) - rgb[20:]).max() <= 4
    assert first.valid.all() == (alpha != 0)
