"""Soft labels: on disk, in crops and in batches."""

import numpy as np
import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.data.loading.loader import CropSource
from aftermap.data.loading.sampling import ClassSampling, EpochSampling
from aftermap.data.scene import Manifest, SceneGrid
from aftermap.data.soft_labels import SOFT_UNKNOWN, class_probabilities, read_soft, write_soft
from aftermap.errors import DataError
from aftermap.learning.configs.terms import SoftLabelConfig, SupervisedConfig
from aftermap.learning.losses.pixel import harden, soft_kl
from aftermap.learning.objectives.supervised import Supervised
from squares import make_dataset


def _with_soft(tmp_path, *, labelled=2, probability=0.75):
    """Scenes of which the first keep their masks and the others have soft labels instead."""
    manifest = Manifest.load(
        make_dataset(tmp_path / "data") if not (tmp_path / "data").exists() else tmp_path / "data"
    )
    scenes = []
    for number, scene in enumerate(manifest.scenes[:4]):
        if number >= labelled:
            values = np.full((1, scene.height, scene.width), probability, np.float32)
            values[0, :, : scene.width // 2] = np.nan
            soft = write_soft(tmp_path / f"{scene.name}.tif", values, None)
            update = {"soft": soft, "building_mask": None, "damage_mask": None, "class_pixels": []}
            scene = scene.model_copy(update=update)
        scenes.append(scene)
    return scenes


def _source(scenes, **sampling):
    return CropSource(
        scenes,
        target="building",
        dates=1,
        sampling=ClassSampling(crop_px=32, batch_size=4, **sampling),
        augment=None,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        seed=1,
    )


def test_probabilities_come_back_within_half_a_step(tmp_path):
    scene = _with_soft(tmp_path)[0]
    given = np.random.default_rng(0).random((1, scene.height, scene.width), np.float32)
    scene = scene.model_copy(update={"soft": write_soft(tmp_path / "soft.tif", given, None)})
    back = class_probabilities(read_soft(scene).transpose(2, 0, 1))
    assert np.abs(back[1] - given[0]).max() <= 0.5 / 254 + 1e-6
    np.testing.assert_allclose(back.sum(axis=0), 1, atol=1e-6)


def test_unknown_pixels_have_no_probability_of_any_class(tmp_path):
    given = np.full((4, 8, 8), 0.2, np.float32)
    given[2, 3, 4] = np.nan
    write_soft(tmp_path / "soft.tif", given, None)
    scene = _with_soft(tmp_path)[0]
    scene = scene.model_copy(update={"soft": tmp_path / "soft.tif", "height": 8, "width": 8})
    stored = read_soft(scene)
    assert (stored[3, 4] == SOFT_UNKNOWN).all()
    whole = class_probabilities(stored.transpose(2, 0, 1))
    assert whole.shape == (5, 8, 8)
    assert (whole[:, 3, 4] == 0).all() and whole[0, 0, 0] == pytest.approx(1 - 4 * 51 / 254)


def test_soft_labels_keep_the_place_of_their_scene(tmp_path):
    import rasterio

    grid = SceneGrid(crs="EPSG:32614", transform=(0.5, 0, 600000, 0, -0.5, 2200000))
    write_soft(tmp_path / "soft.tif", np.zeros((1, 8, 8), np.float32), grid)
    with rasterio.open(tmp_path / "soft.tif") as file:
        assert file.crs.to_epsg() == 32614 and tuple(file.transform)[:6] == grid.transform


def test_soft_labels_of_another_size_are_refused(tmp_path):
    scene = _with_soft(tmp_path)[0]
    soft = write_soft(tmp_path / "small.tif", np.zeros((1, 4, 4), np.float32), None)
    with pytest.raises(DataError, match="has 4 x 4 pixels"):
        read_soft(scene.model_copy(update={"soft": soft}))


def test_batches_hold_probabilities_where_scenes_have_them_and_zeros_elsewhere(tmp_path):
    source = _source(_with_soft(tmp_path), unlabelled_share=0.5)
    labelled = bare = 0
    for number in range(6):
        batch = source.batch(number)
        assert batch.soft is not None and batch.soft.shape == (4, 2, 32, 32)
        for mask, soft in zip(batch.mask, batch.soft, strict=True):
            if (mask != IGNORE).any():
                labelled += 1
                assert (soft == 0).all()
            else:
                bare += 1
                known = soft.sum(dim=0) > 0
                torch.testing.assert_close(soft[1][known], torch.full((int(known.sum()),), 190 / 254))
    source.close()
    assert labelled and bare


def test_soft_crops_follow_the_geometry_of_the_image(tmp_path):
    scenes = _with_soft(tmp_path, labelled=0)
    from aftermap.data.augment.operations import DEFAULT
    from aftermap.data.scene import read_image

    for scene in scenes:  # the soft labels are the first band of the image itself
        band = read_image(scene.pre)[:1].astype(np.float32) / 255
        write_soft(scene.soft, band, None)
    geometry = [operation for operation in DEFAULT if operation.op in ("flip", "rotate90")]
    source = CropSource(
        scenes,
        target="building",
        dates=1,
        sampling=ClassSampling(crop_px=32, batch_size=8),
        augment=geometry,
        mean=(0, 0, 0),
        std=(255, 255, 255),
        seed=0,
    )
    batch = source.batch(0)
    source.close()
    known = batch.soft.sum(dim=1) > 0
    difference = (batch.soft[:, 1] - batch.image[:, 0, 0]).abs()[known]
    assert known.any() and difference.max() < 1 / 127


def test_every_nth_batch_has_as_many_crops_again_from_the_pool(tmp_path):
    source = _source(_with_soft(tmp_path), soft_every=3)
    sizes = [len(source.batch(number).mask) for number in range(7)]
    shown = [bool((m != IGNORE).any()) for m in source.batch(7).mask]
    source.close()
    assert sizes == [8, 4, 4, 8, 4, 4, 8] and all(shown)


def test_crops_know_their_resolution(tmp_path):
    scenes = [s.model_copy(update={"resolution_m": 0.3}) for s in _with_soft(tmp_path)]
    source = _source([*scenes[:3], scenes[3].model_copy(update={"resolution_m": None})])
    values = torch.cat([source.batch(n).resolution for n in range(8)])
    source.close()
    assert values.isnan().any() and set(values[~values.isnan()].tolist()) == {np.float32(0.3).item()}


def test_divergence_is_the_mean_over_known_pixels():
    logits = torch.tensor([[0.2, 1.0], [0.8, -1.0]])[None, :, None].double()
    soft = torch.tensor([[0.25, 0.0], [0.75, 0.0]])[None, :, None].double()
    q = torch.softmax(torch.tensor([0.2, 0.8]).double(), 0)
    by_hand = 0.25 * torch.log(0.25 / q[0]) + 0.75 * torch.log(0.75 / q[1])
    torch.testing.assert_close(soft_kl(logits, soft), by_hand)
    torch.testing.assert_close(soft_kl(logits, soft, compat_class_mean=True), by_hand / 2)


def test_labels_between_the_bounds_are_unknown():
    building = torch.tensor([0.1, 0.39, 0.4, 0.5, 0.6, 0.61, 0.9])
    soft = torch.stack([1 - building, building])[None, :, None]
    assert harden(soft, 0.4, 0.6)[0, 0].tolist() == [0, 0, IGNORE, IGNORE, IGNORE, 1, 1]
    assert (harden(torch.zeros(1, 2, 2, 2), 0.4, 0.6) == IGNORE).all()


def test_of_several_classes_the_likeliest_must_be_sure():
    soft = torch.tensor([[0.1, 0.1, 0.7, 0.05, 0.05], [0.3, 0.5, 0.1, 0.05, 0.05]]).T[None, :, None]
    assert harden(soft, 0.4, 0.6)[0, 0].tolist() == [2, IGNORE]


@pytest.mark.parametrize(
    ("kind", "names"), [("soft", {"soft labels"}), ("hard", {"pseudo cross-entropy", "pseudo dice"})]
)
def test_soft_labels_are_terms_of_their_own(kind, names):
    objective = Supervised(SupervisedConfig(soft=SoftLabelConfig(kind=kind, weight=0.5)))
    from aftermap.data.batch import Batch

    logits = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.full((2, 8, 8), IGNORE)
    mask[0] = 1
    soft = torch.zeros(2, 2, 8, 8)
    soft[1, 1], soft[1, 0] = 0.9, 0.1
    terms = objective(lambda image: logits, Batch(torch.zeros(2, 1, 3, 8, 8), mask, soft))
    assert set(terms) == {"cross-entropy", "dice"} | names
    whole = Supervised(SupervisedConfig())
    torch.testing.assert_close(terms["cross-entropy"], whole.values(logits, mask)["cross-entropy"])
    if kind == "soft":
        torch.testing.assert_close(terms["soft labels"], 0.5 * soft_kl(logits, soft))
    else:
        hard = torch.full((2, 8, 8), IGNORE)
        hard[1] = 1
        torch.testing.assert_close(terms["pseudo dice"], 0.5 * whole.values(logits, hard)["dice"])


def test_passes_leave_the_pool_out_where_it_comes_with_every_nth_batch(tmp_path):
    scenes = _with_soft(tmp_path)
    source = CropSource(
        scenes,
        target="building",
        dates=1,
        sampling=EpochSampling(kind="epochs", crop_px=32, batch_size=2, soft_every=2),
        augment=None,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        seed=1,
    )
    assert source.steps_per_epoch == 1
    first, second = source.batch(0), source.batch(1)
    source.close()
    labelled = [bool((mask != IGNORE).any()) for mask in first.mask]
    assert labelled == [True, True, False, False] and len(second.mask) == 2
