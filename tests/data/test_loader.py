import cv2
import numpy as np
import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.data.augment.operations import DEFAULT, Flip, Rotate90, RotateScale
from aftermap.data.loader import CropSource
from aftermap.data.sampling import ClassSampling
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


def source(scenes, *, augment=None, seed=0, target="damage", dates=2, **sampling):
    config = ClassSampling(**({"crop_px": 32, "batch_size": 4} | sampling))
    return CropSource(
        scenes,
        target=target,
        dates=dates,
        sampling=config,
        augment=augment,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        seed=seed,
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
