import cv2
import numpy as np
import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.data.augment.operations import DEFAULT, ChannelShift, Flip, HsvShift, Rotate90, RotateScale
from aftermap.data.loading.loader import CropSource
from aftermap.data.loading.sampling import BestCrop, ClassSampling, EpochSampling
from aftermap.data.scene import Scene
from aftermap.errors import DataError


def make_scene(folder, name, mask, *, seed=0):
    """A scene whose images hold the mask in the red band, pre and post alike."""
    h, w = mask.shape
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 200, (h, w, 3), np.uint8)
    rgb[..., 0] = np.minimum(mask, 5) * 50
    paths = {}
    for key, array in {"pre": rgb[..., ::-1], "post": rgb[..., ::-1], "damage_mask": mask}.items():
        paths[key] = folder / f"{name}_{key}.png"
        cv2.imwrite(str(paths[key]), array)
    counts = np.bincount(mask.ravel(), minlength=256)[:5].tolist()
    return Scene(name=name, event="e", width=w, height=h, class_pixels=counts, **paths)


@pytest.fixture
def scenes(tmp_path):
    plain = np.zeros((96, 128), np.uint8)
    rare = plain.copy()
    rare[40:48, 60:68] = 3
    return [make_scene(tmp_path, "plain", plain), make_scene(tmp_path, "rare", rare, seed=1)]


def source(
    scenes, *, augment=None, seed=0, target="damage", dates=2, kind=ClassSampling, given=None, **sampling
):
    config = kind(**({"crop_px": 32, "batch_size": 4} | sampling))
    given = {"mean": (0, 0, 0), "std": (1, 1, 1)} | (given or {})
    return CropSource(
        scenes, target=target, dates=dates, sampling=config, augment=augment, seed=seed, **given
    )


def test_a_batch_depends_on_its_number_alone(scenes):
    one, two = source(scenes, augment=DEFAULT), source(scenes, augment=DEFAULT)
    for _ in range(3):
        one.batch(_)
    torch.manual_seed(5)
    a, b = one.batch(7), two.batch(7)
    assert torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask)
    assert not torch.equal(a.image, two.batch(8).image)
    assert not torch.equal(a.image, source(scenes, augment=DEFAULT, seed=1).batch(7).image)


def test_crops_are_centred_on_the_wanted_class(scenes):
    batches = [source(scenes, class_share=1.0, class_weights=(0, 0, 0, 1, 0)).batch(n) for n in range(3)]
    # the 8 px building is within a quarter of the crop of its centre, so every crop shows some of it
    assert all((b.mask == 3).flatten(1).any(1).all() for b in batches)


def test_absent_classes_are_never_wanted(scenes):
    batch = source(scenes, class_share=1.0, class_weights=(0, 1, 1, 0, 1)).batch(0)
    assert batch.mask.shape == (4, 32, 32)


def test_image_and_mask_stay_together(scenes):
    batch = source(scenes, class_share=1.0, class_weights=(0, 0, 0, 1, 0)).batch(0)
    assert torch.equal(batch.image[:, 0, 0], batch.mask * 50.0)
    assert torch.equal(batch.image[:, 0], batch.image[:, 1])


def test_geometry_moves_both_dates_and_the_mask_alike(scenes):
    config = (Flip(p=0.5), Rotate90(turns=(1, 2, 3)), RotateScale(degrees=(-15, 15), scale=(0.8, 1.25)))
    batch = source(
        scenes, augment=config, class_share=1.0, class_weights=(0, 0, 0, 1, 0), batch_size=16
    ).batch(0)
    assert torch.allclose(batch.image[:, 0], batch.image[:, 1], atol=1e-2)
    inside, outside = batch.image[:, 0, 0][batch.mask == 3], batch.image[:, 0, 0][batch.mask == 0]
    # the red band is bilinear, the mask nearest: they may differ at the building's edge only
    assert inside.median() == pytest.approx(150, abs=1) and outside.median() == pytest.approx(0, abs=1)
    assert set(batch.mask.unique().tolist()) <= {0, 3}


def test_small_scenes_are_padded_with_unknown_pixels(tmp_path):
    scene = make_scene(tmp_path, "small", np.ones((20, 24), np.uint8))
    batch = source([scene]).batch(0)
    assert (batch.mask[:, :20, :24] == 1).all()
    assert (batch.mask[:, 20:] == IGNORE).all() and (batch.mask[:, :, 24:] == IGNORE).all()


def test_an_unlabelled_scene_gives_a_mask_full_of_unknown(tmp_path, scenes):
    bare = scenes[0].model_copy(update={"damage_mask": None, "class_pixels": []})
    batch = source([bare]).batch(0)
    assert (batch.mask == IGNORE).all() and not batch.is_labelled


def test_the_building_target_merges_the_damage_classes(scenes):
    batch = source(scenes, target="building", dates=1, class_share=1.0, class_weights=(0, 1)).batch(0)
    assert set(batch.mask.unique().tolist()) == {0, 1} and batch.image.shape[1] == 1


def test_the_cache_stays_within_its_budget(scenes):
    loader = source(scenes, cache_mb=0)
    loader.batch(0)
    assert len(loader._cache) == 1


def test_no_scenes_are_refused():
    with pytest.raises(DataError, match="no training scenes"):
        source([])


def test_bands_come_in_the_models_order(scenes):
    first = source(scenes).batch(0)
    second = source(scenes, given={"bands": ("blue", "green", "red")}).batch(0)
    assert torch.equal(second.image, first.image.flip(2))


def test_operations_see_red_green_blue_whatever_the_models_order(scenes):
    augment = (HsvShift(hue=0.2, dates="pre"),)
    first = source(scenes, augment=augment).batch(0)
    second = source(scenes, augment=augment, given={"bands": ("green", "blue", "red")}).batch(0)
    assert torch.equal(second.image, first.image[:, :, [1, 2, 0]])
    assert not torch.equal(first.image, source(scenes).batch(0).image)


def test_unknown_bands_are_refused(scenes):
    with pytest.raises(DataError, match="red, nir"):
        source(scenes, given={"bands": ("red", "nir", "green")})


def test_the_winners_normalisation_has_the_published_values(tmp_path):
    values = np.array([0, 1, 63, 64, 127, 128, 254, 255], np.uint8)
    scene = make_scene(tmp_path, "ramp", np.zeros((8, 8), np.uint8))
    cv2.imwrite(str(scene.pre), np.repeat(np.tile(values, (8, 1))[..., None], 3, axis=2))
    batch = source([scene], crop_px=8, given={"mean": (127,) * 3, "std": (127,) * 3}).batch(0)
    expected = [-1, -0.9921260, -0.5039370, -0.4960630, 0, 0.0078740, 1, 1.0078740]
    assert batch.image[0, 0, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_operations_on_a_date_that_is_not_there_are_refused(scenes):
    with pytest.raises(DataError, match="channel-shift changes the post image"):
        source(scenes, dates=1, target="building", augment=(ChannelShift(dates="post"),))


def many(folder, count, **given):
    """Scenes that can be told apart by their red band."""
    masks = [np.full((32, 32), n % 5 if given.get("classes") else 0, np.uint8) for n in range(count)]
    scenes = [make_scene(folder, f"s{n}", mask, seed=n) for n, mask in enumerate(masks)]
    for n, scene in enumerate(scenes):
        cv2.imwrite(str(scene.pre), np.full((32, 32, 3), n, np.uint8))
        cv2.imwrite(str(scene.post), np.full((32, 32, 3), 100 + n, np.uint8))
    return scenes


def numbers(batch):
    return batch.image[:, 0, 0, 0, 0].int().tolist()


def test_a_pass_shows_every_scene_once(tmp_path):
    loader = source(many(tmp_path, 12), kind=EpochSampling)
    assert loader.steps_per_epoch == 3
    first = [n for index in range(3) for n in numbers(loader.batch(index))]
    second = [n for index in range(3, 6) for n in numbers(loader.batch(index))]
    assert sorted(first) == sorted(second) == list(range(12)) and first != second


def test_the_last_part_of_a_pass_is_dropped_or_kept(tmp_path):
    scenes = many(tmp_path, 10)
    assert source(scenes, kind=EpochSampling).steps_per_epoch == 2
    loader = source(scenes, kind=EpochSampling, drop_last=False)
    assert [len(loader.batch(index).image) for index in range(4)] == [4, 4, 2, 4]


def test_a_pass_over_fewer_scenes_than_a_batch_fills_it(tmp_path):
    loader = source(many(tmp_path, 3), kind=EpochSampling)
    assert loader.steps_per_epoch == 1 and set(numbers(loader.batch(1))) == {0, 1, 2}


def test_scenes_with_rare_classes_come_more_often(tmp_path):
    # classes 0 to 4: once, once, three times, three times, twice
    scenes = many(tmp_path, 5, classes=True)
    loader = source(scenes, kind=EpochSampling, repeat="train", batch_size=10)
    assert loader.steps_per_epoch == 1
    assert sorted(numbers(loader.batch(0))) == [0, 1, 2, 2, 2, 3, 3, 3, 4, 4]


def test_localization_repeats_no_scene(tmp_path):
    scenes = many(tmp_path, 5, classes=True)
    assert (
        source(
            scenes, kind=EpochSampling, repeat="train", target="building", dates=1, batch_size=5
        ).steps_per_epoch
        == 1
    )


@pytest.mark.parametrize(("inverted", "expected"), [(False, 0.3), (True, 0.7)])
def test_the_post_image_stands_in_as_often_as_it_should(tmp_path, inverted, expected):
    loader = source(
        many(tmp_path, 4),
        kind=EpochSampling,
        target="building",
        dates=1,
        date_swap=0.3,
        compat_inverted_swap=inverted,
        batch_size=4,
    )
    shown = [n >= 100 for index in range(200) for n in numbers(loader.batch(index))]
    assert np.mean(shown) == pytest.approx(expected, abs=3 * (0.21 / len(shown)) ** 0.5)


def test_a_pass_crops_the_best_window(scenes):
    crop = BestCrop(tries=(60, 60), class_weights=(0, 1, 5, 5, 2))
    batch = source(scenes[1:], kind=EpochSampling, crop=crop, batch_size=2).batch(0)
    # of 60 windows one shows the whole building of 8 x 8 pixels
    assert (batch.mask == 3).flatten(1).sum(1).tolist() == [64, 64]


@pytest.mark.parametrize("kind", [ClassSampling, EpochSampling])
def test_batches_do_not_depend_on_the_threads_that_prepare_them(scenes, kind):
    one = source(scenes, kind=kind, augment=DEFAULT, given={"workers": 1, "ahead": 0})
    two = source(scenes, kind=kind, augment=DEFAULT, given={"workers": 3, "ahead": 4})
    for index in (0, 1, 5, 2):
        a, b = one.batch(index), two.batch(index)
        assert torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask)


@pytest.mark.parametrize("kind", [ClassSampling, EpochSampling])
def test_resampling_step_by_step_is_offered_for_both_kinds(scenes, kind):
    augment = (Flip(), RotateScale())
    batch = source(scenes, kind=kind, augment=augment, compat_mask="per-class", compat_steps=True).batch(0)
    assert batch.image.shape == (4, 2, 3, 32, 32) and set(batch.mask.unique().tolist()) <= {0, 3}


def test_the_cache_holds_what_it_read(scenes):
    loader = source(scenes, kind=EpochSampling, batch_size=2)
    loader.batch(0)
    held = sum(entry.nbytes for entry in loader._cache.values())
    assert held == loader._cache_bytes == 2 * (2 * 3 + 1) * 96 * 128


def bare(scene):
    """The scene without its labels."""
    return scene.model_copy(update={"damage_mask": None, "class_pixels": []})


def shows_bare(batch):
    return (batch.mask == IGNORE).flatten(1).all(1)


@pytest.mark.parametrize(("share", "expected"), [(None, 0.5), (0.2, 0.2), (0.0, 0.0), (1.0, 1.0)])
def test_unlabelled_scenes_get_their_share_of_the_crops(scenes, share, expected):
    loader = source([scenes[1], bare(scenes[0])], class_share=1.0, unlabelled_share=share, batch_size=64)
    shown = torch.cat([shows_bare(loader.batch(n)) for n in range(6)]).float().mean().item()
    assert shown == pytest.approx(expected, abs=3 * (expected * (1 - expected) / 384) ** 0.5)


def test_crops_of_labelled_scenes_are_still_centred_on_classes_beside_unlabelled_ones(scenes):
    loader = source([*scenes, bare(scenes[0])], class_share=1.0, class_weights=(0, 0, 0, 1, 0), batch_size=32)
    batch = loader.batch(0)
    labelled = ~shows_bare(batch)
    assert 0 < labelled.sum() < 32 and (batch.mask == 3).flatten(1).any(1)[labelled].all()


def test_crops_of_unlabelled_scenes_lie_anywhere(tmp_path):
    scene = make_scene(tmp_path, "wide", np.zeros((32, 512), np.uint8))
    pre = np.zeros((32, 512, 3), np.uint8)
    pre[..., 2] = np.arange(512) // 2
    cv2.imwrite(str(scene.pre), pre)
    first = source([bare(scene)], batch_size=64).batch(0).image[:, 0, 0, 0, 0]
    assert first.min() < 30 and first.max() > 210 and len(first.unique()) > 30


def test_a_pass_shows_unlabelled_scenes_like_any_other(tmp_path):
    scenes = many(tmp_path, 4)
    loader = source([*scenes[:2], *map(bare, scenes[2:])], kind=EpochSampling, batch_size=4)
    batch = loader.batch(0)
    assert sorted(numbers(batch)) == [0, 1, 2, 3]
    assert shows_bare(batch).tolist() == [n > 1 for n in numbers(batch)]


def test_a_scene_with_a_building_mask_alone_is_unlabelled_for_damage(tmp_path, scenes):
    scene = scenes[1].model_copy(update={"building_mask": scenes[1].damage_mask, "damage_mask": None})
    assert shows_bare(source([scene], target="damage").batch(0)).all()
    assert not shows_bare(source([scene], target="building", dates=1).batch(0)).any()


@pytest.mark.parametrize("kind", [ClassSampling, EpochSampling])
def test_a_pool_shows_the_same_few_batches_in_every_pass_in_another_order(scenes, kind):
    loader = source(scenes, kind=kind, augment=DEFAULT, pool=6, batch_size=2)
    passes = [[loader.batch(6 * lap + n).image for n in range(6)] for lap in range(3)]
    orders = [
        [next(i for i, known in enumerate(passes[0]) if torch.equal(known, image)) for image in lap]
        for lap in passes
    ]
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert orders[1] != orders[0] and orders[2] != orders[1]


def test_the_batches_of_a_pool_are_the_first_of_a_run_without_one(scenes):
    plain, pool = source(scenes, augment=DEFAULT), source(scenes, augment=DEFAULT, pool=3)
    first = [plain.batch(n).image for n in range(3)]
    shown = [pool.batch(n).image for n in range(3)]
    assert all(any(torch.equal(a, b) for b in shown) for a in first)


def test_both_dates_of_a_scene_are_samples_of_their_own(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    scenes = []
    for number in range(3):
        scene = make_scene(tmp_path, f"s{number}", mask + number)
        for date, value in ((scene.pre, 10 * number), (scene.post, 10 * number + 5)):
            cv2.imwrite(str(date), np.full((32, 32, 3), value, np.uint8))
        scenes.append(scene)
    scenes[2] = scenes[2].model_copy(update={"post": None})
    options = {"kind": EpochSampling, "target": "building", "dates": 1, "batch_size": 5, "both_dates": True}
    crops = source(scenes, shuffle=False, **options)
    assert crops.steps_per_epoch == 1
    batch = crops.batch(0)
    # pre, post, pre, post, and the scene without a second image once; the mask is the scene's
    assert batch.image[:, 0, 0, 0, 0].tolist() == [0, 5, 10, 15, 20]
    assert batch.mask[:, 0, 0].tolist() == [0, 0, 1, 1, 1]
    shuffled = source(scenes, **options).batch(0)
    assert sorted(shuffled.image[:, 0, 0, 0, 0].tolist()) == [0, 5, 10, 15, 20]
    with pytest.raises(DataError, match="models that see one date"):
        source(scenes, **(options | {"target": "damage", "dates": 2}))
    with pytest.raises(ValueError, match="shows each image as it is"):
        EpochSampling(both_dates=True, date_swap=0.1)
