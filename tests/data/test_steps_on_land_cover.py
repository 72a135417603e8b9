"""Protocols on the real masks of Dubai."""

import cv2
import numpy as np
import pytest

from aftermap.classes import IGNORE
from aftermap.data.incremental.protocol import protocol_for
from aftermap.data.incremental.tile_filters import image_split, select_tiles
from aftermap.data.legends import LEGENDS

DUBAI = LEGENDS["dubai-landcover"]


@pytest.fixture(scope="module")
def masks(shared_data):
    """One quarter-size mask of each of the eight scenes, as class indices of the legend."""
    values = np.full(256, IGNORE, np.uint8)
    values[list(DUBAI.label_values)] = range(len(DUBAI.names))
    files = sorted((shared_data / "dubai-landcover" / "masks_index").glob("*_part001.png"))
    return [values[cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[::4, ::4]] for file in files]


@pytest.mark.real
@pytest.mark.parametrize("task", ["3s", "5s"])
def test_every_step_of_a_task_has_tiles(masks, task):
    protocol = protocol_for(DUBAI, task)
    sets = [frozenset(np.unique(mask).tolist()) for mask in masks]
    chosen = [select_tiles(sets, protocol, step) for step in range(len(protocol.steps))]
    assert len(masks) == 8
    assert all(len(tiles) >= 3 for tiles in chosen)
    assert None not in image_split(sets, protocol)


@pytest.mark.real
def test_each_pixel_is_learned_at_one_step_and_unknown_ones_at_none(masks):
    protocol = protocol_for(DUBAI, "3s")
    for mask in masks:
        told = np.stack([protocol.lookup(step, "train")[mask] for step in range(3)]).astype(int)
        known = mask != IGNORE
        assert (told[:, ~known] == IGNORE).all()
        assert ((told[:, known] > 0).sum(0) == 1).all()
        assert (told[:, known].max(0) == protocol.lookup(2, "test")[mask[known]]).all()
