import cv2
import numpy as np
import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.data.checking.overlap import by_place
from aftermap.data.loading.few_shot_tasks import Shots, ShotSource, TaskSource, cut, part
from aftermap.data.loading.sampling import ShotConfig
from aftermap.data.scene import Scene
from aftermap.errors import DataError
from made_xbd import scene as made_scene

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def write_scene(folder, event, number, *, size=32, colour=None):
    """Images of one colour (its red, green and blue tell the scene), a mask with one square per class."""
    value = colour or (10 + number, len(event), 3)
    mask = np.zeros((size, size), np.uint8)
    for level in range(1, 5):
        mask[4:8, 8 * level - 8 : 8 * level - 4] = level
    paths = {}
    for key, array in {
        "pre": np.broadcast_to(np.uint8(value[::-1]), (size, size, 3)),
        "post": np.broadcast_to(np.uint8(value[::-1]) + 100, (size, size, 3)),
        "building_mask": np.uint8(mask > 0),
        "damage_mask": mask,
    }.items():
        paths[key] = folder / f"{event}_{number}_{key}.png"
        assert cv2.imwrite(str(paths[key]), array)
    return Scene(name=f"{event}_{number}", event=event, width=size, height=size, **paths)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    counts = {"fire": 4, "flood": 9, "quake": 12}
    return [write_scene(folder, event, n) for event, count in counts.items() for n in range(count)]


def shots(*, target="damage", dates=2, crop_px=16, **more):
    options = {"class_share": 0.5, "turn": False} | {
        k: more.pop(k) for k in ("class_share", "turn", "cache_mb") if k in more
    }
    return Shots(ShotConfig(crop_px=crop_px, **options), target=target, dates=dates, **PLAIN | more)


def source(scenes, **changes):
    options = {"support_shots": 3, "query_shots": 5, "task_set_size": 3, "seed": 7} | changes
    return TaskSource(scenes, shots(), **options)


def reds(batch):
    """Which scenes the crops come from: the red of their first date."""
    return batch.image[:, 0, 0, 0, 0].int().tolist()


def greens(batch):
    return set(batch.image[:, 0, 1, 0, 0].int().tolist())


def test_the_same_number_gives_the_same_task_whenever_it_is_asked_for(scenes):
    first, second = source(scenes), source(scenes)
    wanted = second.batch(4)
    for index in range(4):
        first.batch(index)
    found = first.batch(4)
    assert torch.equal(found.image, wanted.image) and torch.equal(found.mask, wanted.mask)


def test_another_seed_gives_another_task(scenes):
    same = [torch.equal(source(scenes).batch(i).mask, source(scenes, seed=8).batch(i).mask) for i in range(3)]
    assert not all(same)


def test_support_and_query_share_no_scene(scenes):
    tasks = source(scenes)
    for index in range(30):
        found = reds(tasks.batch(index))
        assert not set(found[:3]) & set(found[3:])


def test_a_task_is_of_one_event(scenes):
    tasks = source(scenes)
    assert all(len(greens(tasks.batch(index))) == 1 for index in range(12))


def test_a_task_set_holds_every_event_once_where_it_is_as_large_as_their_number(scenes):
    tasks = source(scenes)
    for number in range(5):
        events = [greens(tasks.batch(3 * number + position)).pop() for position in range(3)]
        assert sorted(events) == [4, 5, 5]  # fire; flood and quake


def test_smaller_sets_are_drawn_anew_from_all_events(scenes):
    tasks = source(scenes, task_set_size=1)
    fires = sum(greens(tasks.batch(index)) == {4} for index in range(150))
    assert 30 <= fires <= 70  # a third, 3.5 sigma


def test_with_scenes_enough_every_shot_is_another_scene(scenes):
    tasks = source(scenes)
    assert len(set(reds(tasks.task("flood", 0)))) == 8


def test_a_small_event_is_shared_out_in_the_ratio_of_the_shots(scenes):
    found = reds(source(scenes).task("fire", 0))
    assert len(set(found[:3])) == 2 and len(set(found[3:])) == 2 and len(found) == 8


def test_draws_of_an_event_differ(scenes):
    tasks = source(scenes)
    assert reds(tasks.task("quake", 0)) != reds(tasks.task("quake", 1))


def test_an_epoch_counts_sets_as_published(scenes):
    assert source(scenes, task_set_size=1).sets_per_epoch == 3
    assert source(scenes, task_set_size=2).sets_per_epoch == 1


def test_more_tasks_than_events_are_refused(scenes):
    with pytest.raises(DataError, match="for sets of 4 tasks"):
        source(scenes, task_set_size=4)


def test_an_event_of_a_single_place_is_refused(tmp_path):
    lonely = [write_scene(tmp_path, "fire", 0)]
    with pytest.raises(DataError, match="at least two places"):
        source(lonely, task_set_size=1)


def test_scenes_on_the_same_ground_are_one_place():
    overlapping = [made_scene("a", col=0), made_scene("b", col=0, row=0.5), made_scene("c", col=3)]
    rng = np.random.default_rng(0)
    places = by_place(overlapping)
    assert [[s.name for s in place] for place in places] == [["a", "b"], ["c"]]
    for _ in range(10):
        support, query = part(places, 1, 1, rng)
        assert {support[0].name, query[0].name} != {"a", "b"}


def test_crops_are_normalised_in_the_order_of_the_models_bands(tmp_path):
    scene = write_scene(tmp_path, "fire", 0, colour=(10, 20, 30))
    cutter = shots(mean=(1.0, 2.0, 3.0), std=(2.0, 2.0, 2.0), band_order=(2, 1, 0))
    batch = cutter.batch([scene], np.random.default_rng(0))
    assert batch.image[0, 0, :, 0, 0].tolist() == [(30 - 1) / 2, (20 - 2) / 2, (10 - 3) / 2]
    assert batch.image.shape == (1, 2, 3, 16, 16) and batch.mask.dtype == torch.int64


def test_localization_takes_one_date_and_the_building_mask(scenes):
    batch = shots(target="building", dates=1, crop_px=32).batch(scenes[:1], np.random.default_rng(0))
    assert batch.image.shape == (1, 1, 3, 32, 32)
    assert batch.mask.unique().tolist() == [0, 1] and int((batch.mask == 1).sum()) == 64


def test_crops_on_classes_show_each_class_of_the_scene_equally_often():
    mask = np.zeros((256, 256), np.uint8)
    mask[:200, :200] = 1  # a hundred times the pixels of class 4
    mask[236:256, 236:256] = 4
    rng = np.random.default_rng(0)
    shown = [
        4 in cut(np.zeros((1, 3, 256, 256), np.uint8), mask, rng, size_px=32, class_share=1.0)[1]
        for _ in range(300)
    ]
    assert 0.4 < np.mean(shown) < 0.6


def test_a_scene_smaller_than_the_crop_is_filled_up_with_unknown_pixels():
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(1, 3, 4, 5)
    image, label = cut(
        images, np.ones((4, 5), np.uint8), np.random.default_rng(0), size_px=8, class_share=1.0
    )
    assert image.shape == (1, 3, 8, 8) and (label[:4, :5] == 1).all()
    assert (label == IGNORE).sum() == 64 - 20
    assert (image[..., 4, :5] == images[..., 3, :]).all()


def test_turning_moves_images_and_mask_together(tmp_path):
    folder = tmp_path
    scene = write_scene(folder, "fire", 0)
    mask = cv2.imread(str(scene.damage_mask), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(scene.pre), np.repeat(50 * mask[..., None], 3, axis=2))
    turned = shots(crop_px=32, turn=True)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        batch = turned.batch([scene], rng)
        assert torch.equal(batch.image[0, 0, 0], 50.0 * batch.mask[0])
        seen.add(batch.mask.numpy().tobytes())
    assert len(seen) == 8


def test_crops_for_fine_tuning_take_the_scenes_in_turn(scenes):
    few = scenes[:3]
    crops = ShotSource(few, shots(), batch_size=4, seed=0)
    assert [*reds(crops.batch(0)), *reds(crops.batch(1))] == [10, 11, 12, 10, 11, 12, 10, 11]
    assert torch.equal(crops.batch(1).mask, ShotSource(few, shots(), batch_size=4, seed=0).batch(1).mask)


def test_decoded_scenes_beyond_the_memory_are_dropped(scenes):
    cutter = shots(cache_mb=0)
    cutter.batch(scenes[:5], np.random.default_rng(0))
    assert len(cutter._kept) == 1
