"""The picture of what each step learns from: its size, its colours, and what it leaves empty."""

import cv2
import numpy as np
import pytest

from aftermap.data.incremental.protocol import protocol_for
from aftermap.data.legends import LEGENDS, rgb
from aftermap.data.scene import Scene
from aftermap.products.figures.sheet import CAPTION_IN, CELL_IN, DPI, GAP_IN
from aftermap.products.figures.steps_figure import draw_steps

ISPRS = LEGENDS["isprs"]


@pytest.fixture
def scenes(tmp_path):
    """Two tiles of two classes each, in halves: building and tree, impervious surface and car."""
    made = []
    for name, halves in (("a", (1, 3)), ("b", (0, 4))):
        mask = np.repeat(np.uint8(halves), 16)[None].repeat(32, 0)
        mask[:4] = 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((32, 32, 3), 77, np.uint8))
        cv2.imwrite(str(tmp_path / f"{name}_mask.png"), mask)
        counts = np.bincount(mask[mask < 255], minlength=6).tolist()
        made.append(
            Scene(
                name=name,
                event="e",
                pre=tmp_path / f"{name}.png",
                class_mask=tmp_path / f"{name}_mask.png",
                width=32,
                height=32,
                class_pixels=counts,
            )
        )
    return made


def draw(tmp_path, scenes, task="building / impervious_surfaces", **options):
    path = tmp_path / "steps.png"
    draw_steps(path, scenes, protocol_for(ISPRS, task), ISPRS, title="steps", **options)
    return cv2.imread(str(path))[..., ::-1]


def share(picture, colour):
    """Pixels of a colour in units of one tile's area."""
    return (picture == rgb(colour)).all(-1).sum() / (CELL_IN * DPI) ** 2


def test_each_class_has_its_colour_in_labels_and_in_its_step_alone(tmp_path, scenes):
    picture = draw(tmp_path, scenes)
    building, car = (share(picture, ISPRS.colours[label]) for label in (1, 4))
    # 7/16 of a tile in the labels, once more where it is learned
    assert building == pytest.approx(14 / 16, abs=0.03)
    assert car == pytest.approx(7 / 16, abs=0.03)


def test_hidden_classes_are_background_and_unseen_tiles_are_left_empty(tmp_path, scenes):
    # tree at step 0 and car at step 1; the tile that a step does not see would be black but for its unknown rim
    assert share(draw(tmp_path, scenes), "#000000") == pytest.approx(14 / 16, abs=0.06)


def test_unknown_pixels_are_grey_in_labels_and_masks(tmp_path, scenes):
    assert share(draw(tmp_path, scenes), "#d5dbe1") == pytest.approx(4 / 8, abs=0.05)


def test_rows_bound_the_height(tmp_path, scenes):
    one, two = (draw(tmp_path, scenes, rows=rows).shape for rows in (1, 2))
    assert two[0] - one[0] == pytest.approx((CELL_IN + CAPTION_IN) * DPI, abs=2)


def test_every_step_has_a_column(tmp_path, scenes):
    widths = [draw(tmp_path, scenes, task=task).shape[1] for task in ("1/3/0", "1/3/0/4")]
    assert widths[1] - widths[0] == pytest.approx((CELL_IN + GAP_IN) * DPI, abs=2)
