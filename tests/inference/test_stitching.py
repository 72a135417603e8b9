"""Tiles scored as whole images: who owns which pixel, and what is counted."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.scene import Scene, Tile
from aftermap.errors import DataError
from aftermap.geo.grid import Window
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.stitching import evaluate_classes, evaluate_images, owned, predict_classes


def tile(row, col, size, image=(100, 100), source="big", name=None):
    height, width = (size, size) if isinstance(size, int) else size
    return Scene(
        name=name or f"{source}_{row}_{col}",
        event="town",
        pre=Path("none.png"),
        width=width,
        height=height,
        tile=Tile(source=source, row=row, col=col, height=image[0], width=image[1]),
    )


def counted(scenes, image=(100, 100)):
    """How often every pixel of the image is owned."""
    times = np.zeros(image, int)
    for scene, windows in zip(scenes, owned(scenes), strict=True):
        for window in windows:
            assert window.row >= 0 and window.row + window.height <= scene.height
            assert window.col >= 0 and window.col + window.width <= scene.width
            row, col = scene.tile.row + window.row, scene.tile.col + window.col
            times[row : row + window.height, col : col + window.width] += 1
    return times


def covered(scenes, image=(100, 100)):
    mask = np.zeros(image, int)
    for scene in scenes:
        mask[scene.tile.row :, scene.tile.col :][: scene.height, : scene.width] = 1
    return mask


def test_an_overlap_is_cut_midway():
    assert owned([tile(0, 0, (32, 60), (32, 100)), tile(0, 40, (32, 60), (32, 100))]) == [
        (Window(0, 0, 32, 50),),
        (Window(0, 10, 32, 50),),
    ]


def test_the_middle_pixel_of_an_odd_overlap_belongs_to_the_first():
    assert owned([tile(0, 39, (9, 61), (9, 100)), tile(0, 0, (9, 60), (9, 100))]) == [
        (Window(0, 11, 9, 50),),
        (Window(0, 0, 9, 50),),
    ]


def test_a_tile_clamped_at_the_border_shares_its_wide_overlap():
    columns = [owned([tile(0, col, (8, 40), (8, 100)) for col in (0, 32, 60)])[n] for n in range(3)]
    assert columns == [(Window(0, 0, 8, 36),), (Window(0, 4, 8, 30),), (Window(0, 6, 8, 34),)]


def test_every_tile_of_a_full_grid_owns_one_rectangle():
    starts = [0, 25, 50, 67]
    scenes = [tile(row, col, 33) for row in starts for col in starts]
    assert all(len(windows) == 1 for windows in owned(scenes))
    assert (counted(scenes) == 1).all()


def test_beside_a_missing_tile_its_neighbours_take_its_pixels():
    scenes = [tile(row, col, 60) for row, col in ((0, 0), (0, 40), (40, 0))]
    times = counted(scenes)
    assert (times == covered(scenes)).all()
    assert times[70, 50] == 1 and times[70, 70] == 0


def test_tiles_that_meet_only_at_a_corner_share_it():
    scenes = [tile(0, 0, 60), tile(40, 40, 60)]
    assert (counted(scenes) == covered(scenes)).all()


def test_a_scene_without_a_tile_owns_all_of_itself():
    whole = tile(0, 0, 64).model_copy(update={"tile": None})
    assert owned([whole, whole]) == [(Window(0, 0, 64, 64),)] * 2


def test_tiles_of_different_images_do_not_share():
    assert owned([tile(0, 0, 50, source="a"), tile(0, 0, 50, source="b")]) == [(Window(0, 0, 50, 50),)] * 2


def test_padding_beyond_the_image_is_nobodys():
    assert owned([tile(0, 0, 64, (40, 50))]) == [(Window(0, 0, 40, 50),)]


def test_of_equal_tiles_the_first_owns_all():
    first, second = owned([tile(10, 10, 20), tile(10, 10, 20)])
    assert (len(first), second) == (1, ())


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20), st.integers(1, 20)),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_the_tiles_every_pixel_they_cover_is_owned_once(boxes):
    scenes = [tile(row, col, (height, width), (50, 50)) for row, col, height, width in boxes]
    assert (counted(scenes, (50, 50)) == covered(scenes, (50, 50))).all()


@settings(max_examples=40)
@given(st.integers(8, 24), st.integers(0, 12), st.sets(st.integers(0, 80)), st.randoms())
def test_grids_with_holes_in_any_order_are_parted(size, overlap, missing, random):
    step = max(size - overlap, 7)
    starts = sorted({min(start, 50 - size) for start in range(0, 50, step)})
    scenes = [tile(row, col, size, (50, 50)) for row in starts for col in starts]
    scenes = [scene for number, scene in enumerate(scenes) if number not in missing] or scenes[:1]
    random.shuffle(scenes)
    assert (counted(scenes, (50, 50)) == covered(scenes, (50, 50))).all()


class ByRed(AnyPredictor):
    """Takes the red value for the class."""

    multiple = 16
    sha256 = ""

    def __init__(self, classes=4, dates=1):
        self.card = SimpleNamespace(dates=dates, given_bands=("red", "green", "blue"))
        self.classes, self.calls = classes, 0

    def predict(self, images, valid=None):
        self.calls += 1
        assert images.shape[-1] % self.multiple == images.shape[-2] % self.multiple == 0
        red = images[:, -1, 0]
        return np.stack([red == k for k in range(self.classes)], axis=1).astype(np.float32)


@pytest.fixture
def town(tmp_path):
    """Four overlapping tiles of one 50 x 70 px image, and its truth and prediction."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, (50, 70)).astype(np.uint8)
    truth[:6, :9] = 255
    guess = rng.integers(0, 4, (50, 70)).astype(np.uint8)
    scenes = []
    for row in (0, 18):
        for col in (0, 38):
            scene = tile(row, col, 32, (50, 70))
            paths = {key: tmp_path / f"{scene.name}_{key}.png" for key in ("pre", "class_mask")}
            part = np.s_[row : row + 32, col : col + 32]
            cv2.imwrite(str(paths["pre"]), np.dstack([guess[part]] * 3))
            cv2.imwrite(str(paths["class_mask"]), truth[part])
            scenes.append(scene.model_copy(update=paths))
    return SimpleNamespace(scenes=scenes, truth=truth, guess=guess)


def reference(truth, guess, classes=4):
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (truth[truth != 255], guess[truth != 255]), 1)
    return matrix


def seen(town):
    """The truth where a tile shows it: columns 32 to 37 lie between the tiles."""
    truth = town.truth.copy()
    truth[:, 32:38] = 255
    return truth


def test_tiles_give_the_confusion_of_the_whole_image(town):
    confusion = evaluate_classes(ByRed(), town.scenes, classes=4)
    assert (confusion.matrix == reference(seen(town), town.guess)).all()


def test_the_lookup_comes_before_the_count(town):
    lookup = np.full(256, 255, np.uint8)
    lookup[:4] = (1, 0, 0, 255)
    confusion = evaluate_classes(ByRed(), town.scenes, lookups=lookup, classes=4)
    assert (confusion.matrix == reference(lookup[seen(town)], town.guess)).all()


def test_every_scene_may_have_its_own_lookup(town):
    other = np.arange(256, dtype=np.uint8)
    nothing = np.full(256, 255, np.uint8)
    confusion = evaluate_classes(ByRed(), town.scenes, lookups=[other, nothing, nothing, nothing], classes=4)
    upper = town.truth[:25, :32]  # the upper left tile's part
    assert (confusion.matrix == reference(upper, town.guess[:25, :32])).all()


def test_compat_tiles_counts_tiles_with_a_new_class_in_full(town):
    only_3_here = town.truth[:32, :32].copy()
    lookup = np.arange(256, dtype=np.uint8)
    for scene in town.scenes[1:]:
        mask = cv2.imread(str(scene.class_mask), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(scene.class_mask), np.where(mask == 3, 2, mask))
    confusion = evaluate_classes(ByRed(), town.scenes, lookups=lookup, classes=4, compat_tiles={3})
    assert (confusion.matrix == reference(only_3_here, town.guess[:32, :32])).all()


def test_compat_tiles_counts_overlaps_more_than_once(town):
    confusion = evaluate_classes(ByRed(), town.scenes, classes=4, compat_tiles={1, 2, 3})
    assert confusion.pixels == 4 * 32 * 32 - 6 * 9


def test_images_are_counted_apart(town):
    alone = town.scenes[3].model_copy(update={"tile": None, "name": "alone"})
    by_image = evaluate_images(ByRed(), [*town.scenes[:3], alone], classes=4)
    assert list(by_image) == ["big", "alone"]
    assert by_image["alone"].pixels == 32 * 32


def test_a_tile_without_a_known_pixel_is_not_predicted(town):
    cv2.imwrite(str(town.scenes[0].class_mask), np.full((32, 32), 255, np.uint8))
    predictor, called = ByRed(), []
    evaluate_classes(predictor, town.scenes, classes=4, on_scene=lambda scene, *_: called.append(scene.name))
    assert predictor.calls == 3
    assert called == [scene.name for scene in town.scenes[1:]]


def test_a_large_scene_is_predicted_in_windows(town):
    images = np.stack([town.guess] * 3)[None]
    predictor = ByRed()
    classes = predict_classes(predictor, images, window_px=48, halo_px=8)
    assert (classes == town.guess).all() and classes.dtype == np.uint8
    assert predictor.calls > 1


def test_two_dates_are_read_for_a_model_of_two(town, tmp_path):
    scenes = [
        scene.model_copy(update={"post": scene.pre, "damage_mask": scene.class_mask}) for scene in town.scenes
    ]
    confusion = evaluate_classes(ByRed(dates=2), scenes, classes=4, target="damage")
    assert (confusion.matrix == reference(seen(town), town.guess)).all()


def test_scenes_without_any_known_pixel_are_refused(town):
    with pytest.raises(DataError, match="none of 4 scenes has a pixel of a class to evaluate"):
        evaluate_classes(ByRed(), town.scenes, lookups=np.full(256, 255, np.uint8), classes=4)


def test_lookups_that_do_not_match_the_scenes_are_refused(town):
    with pytest.raises(ValueError, match="1 lookups for 4 scenes"):
        evaluate_classes(ByRed(), town.scenes, lookups=[np.arange(256, dtype=np.uint8)], classes=4)
