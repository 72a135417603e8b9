"""Pascal VOC, ADE20K and Cityscapes on made layouts, and the published tasks on them."""

import cv2
import numpy as np
import pytest
from PIL import Image

from aftermap.data.incremental.task_tables import tasks_of
from aftermap.data.legends import ADE, CITYSCAPES, VOC
from aftermap.data.preparing.prepare import prepare_source
from aftermap.data.scene import read_mask
from aftermap.errors import DataError
from made_classes import noise

MASK = np.array([[0, 1, 20, 255], [15, 15, 0, 255]], np.uint8)


def write_image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), noise(seed, *MASK.shape).transpose(1, 2, 0))


def write_labels(path, mask, colours=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if colours is not None:
        image = image.convert("P")
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(colours)] = [list(bytes.fromhex(c[1:])) for c in colours]
        palette[255] = 224, 224, 192  # the rim, a colour that no class has
        image.putpalette(palette.ravel().tolist())
        image.putdata(mask.ravel().tolist())
    image.save(path)


def voc(root, *, mibs=False):
    lists = "splits" if mibs else "ImageSets/Segmentation"
    (root / lists).mkdir(parents=True)
    for number, (subset, name) in enumerate({"train": "2007_000001", "val": "2007_000002"}.items()):
        write_image(root / "JPEGImages" / f"{name}.jpg", number)
        folder = "SegmentationClassAug" if mibs else "SegmentationClass"
        write_labels(root / folder / f"{name}.png", MASK, VOC.colours)
        line = f"/JPEGImages/{name}.jpg /{folder}/{name}.png" if mibs else name
        (root / lists / f"{'train_aug' if mibs and subset == 'train' else subset}.txt").write_text(
            f"{line}\n"
        )
    return root


@pytest.mark.parametrize("mibs", [False, True], ids=["release", "MiB's copy"])
def test_voc_with_its_palette_and_its_rim(tmp_path, mibs):
    voc(tmp_path / "VOCdevkit" / "VOC2012", mibs=mibs)
    manifest = prepare_source(tmp_path / "VOCdevkit", tmp_path / "out", kind="photographs", release="voc")
    assert [(s.name, s.split, s.source_split) for s in manifest.scenes] == [
        ("2007_000001", "train", "train"),
        ("2007_000002", "test", "hold"),
    ]
    assert manifest.scheme == "voc"
    assert all(np.array_equal(read_mask(s, target="classes"), MASK) for s in manifest.scenes)


def test_ade_counts_from_what_no_class_has(tmp_path):
    for subset in ("training", "validation"):
        write_image(tmp_path / "images" / subset / f"ADE_{subset}.jpg")
        write_labels(
            tmp_path / "annotations" / subset / f"ADE_{subset}.png", np.where(MASK == 255, 150, MASK)
        )
    manifest = prepare_source(
        tmp_path, tmp_path / "out", kind="photographs", release="ade20k", val_is="validation"
    )
    assert {s.split for s in manifest.scenes} == {"train", "validation"}
    assert read_mask(manifest.scenes[0], target="classes").max() == 150
    assert manifest.legend.names[150] == "flag" and manifest.legend.background == 0


def test_cityscapes_has_nineteen_classes_and_cities_for_events(tmp_path):
    ids = np.array([[7, 8, 0, 33], [11, 26, 5, 30]], np.uint8)
    for subset, city in (("train", "aachen"), ("val", "lindau")):
        write_image(tmp_path / "leftImg8bit" / subset / city / f"{city}_000000_000019_leftImg8bit.png")
        write_labels(tmp_path / "gtFine" / subset / city / f"{city}_000000_000019_gtFine_labelIds.png", ids)
    manifest = prepare_source(tmp_path, tmp_path / "out", kind="photographs", release="cityscapes")
    assert [s.event for s in manifest.scenes] == ["aachen", "lindau"]
    expected = [[0, 1, 255, 18], [2, 13, 255, 255]]
    assert read_mask(manifest.scenes[0], target="classes").tolist() == expected


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(DataError, match="holds no JPEGImages: expected"):
        prepare_source(tmp_path, tmp_path / "out", kind="photographs", release="voc")
    voc(tmp_path / "voc")
    (tmp_path / "voc" / "SegmentationClass" / "2007_000002.png").unlink()
    with pytest.raises(DataError, match=r"lacks 1 file of voc, such as .*2007_000002\.png"):
        prepare_source(tmp_path / "voc", tmp_path / "out", kind="photographs", release="voc")
    (tmp_path / "voc" / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(DataError, match=r"no list val\.txt"):
        prepare_source(tmp_path / "voc", tmp_path / "out", kind="photographs", release="voc")


def test_legends_and_colours_of_the_releases():
    assert [len(legend.names) for legend in (VOC, ADE, CITYSCAPES)] == [21, 151, 19]
    assert VOC.colours[:4] == ("#000000", "#800000", "#008000", "#808000") and VOC.colours[20] == "#004080"
    assert (CITYSCAPES.label_values[0], CITYSCAPES.label_values[-1]) == (7, 33)
    assert len(CITYSCAPES.ignored) == 34 - 19


@pytest.mark.parametrize("legend", [VOC, ADE])
def test_every_task_learns_every_class_once(legend):
    for steps in tasks_of(legend).values():
        assert sorted(sum(steps, ())) == sorted(legend.names[1:])


def test_tasks_of_mib_and_plop():
    voc_tasks, ade_tasks = tasks_of(VOC), tasks_of(ADE)
    assert len(voc_tasks) == 1 + 6 + 22 and len(ade_tasks) == 1 + 10
    assert [len(step) for step in voc_tasks["15-5s"]] == [15, 1, 1, 1, 1, 1]
    assert voc_tasks["19-1b"][1] == ("bottle",) and voc_tasks["15-5s_w"][-1] == ("sheep",)
    assert [len(step) for step in ade_tasks["100-5"]] == [100, *[5] * 10]
    assert [ADE.names.index(name) for name in ade_tasks["100-10c"][2]] == [
        47,
        51,
        55,
        60,
        62,
        80,
        116,
        127,
        140,
        148,
    ]
