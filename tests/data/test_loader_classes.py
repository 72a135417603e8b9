"""Crops of scenes with classes of their own and more bands than three."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from aftermap.classes import IGNORE
from aftermap.data.augment.operations import Brightness, HsvShift
from aftermap.data.loading.loader import CropSource
from aftermap.data.loading.sampling import ClassSampling
from aftermap.data.scene import Scene, read_bands
from aftermap.errors import DataError

SIZE = 32
BANDS = ("red", "green", "blue", "nir")


def a_scene(folder: Path, name: str = "a") -> Scene:
    """Four bands of 10, 20, 30 and 40 in one file, height of 50 beside it, and classes 0 to 3 in quarters."""
    image = np.stack([np.full((SIZE, SIZE), value, np.uint8) for value in (10, 20, 30, 40)])
    profile = {"driver": "GTiff", "width": SIZE, "height": SIZE, "dtype": "uint8"}
    for file, array in ((f"{name}.tif", image), (f"{name}_dsm.tif", np.full((1, SIZE, SIZE), 50, np.uint8))):
        with rasterio.open(folder / file, "w", count=len(array), **profile) as target:
            target.write(array)
    mask = np.kron(np.array([[0, 1], [2, 3]], np.uint8), np.ones((SIZE // 2, SIZE // 2), np.uint8))
    cv2.imwrite(str(folder / f"{name}.png"), mask)
    return Scene(
        name=name,
        event="town",
        pre=folder / f"{name}.tif",
        class_mask=folder / f"{name}.png",
        bands=BANDS,
        layers={"dsm": folder / f"{name}_dsm.tif"},
        width=SIZE,
        height=SIZE,
        class_pixels=[SIZE * SIZE // 4] * 4,
    )


def crops_of(
    scenes: list[Scene],
    *,
    bands: tuple[str, ...],
    augment: list[HsvShift | Brightness] | None = None,
    lookups: list[np.ndarray] | None = None,
    classes: int | None = 4,
) -> CropSource:
    return CropSource(
        scenes,
        target="classes",
        dates=1,
        sampling=ClassSampling(crop_px=SIZE, batch_size=2, class_share=0),
        augment=augment,
        mean=[0.0] * len(bands),
        std=[1.0] * len(bands),
        bands=bands,
        seed=1,
        classes=classes,
        lookups=lookups,
    )


def values_of(source: CropSource) -> list[list[float]]:
    image = source.batch(0).image
    source.close()
    return [sorted(set(image[:, 0, band].flatten().tolist())) for band in range(image.shape[2])]


def test_bands_come_in_the_order_of_the_model(tmp_path: Path) -> None:
    wanted = ("dsm", "nir", "blue", "green", "red")
    assert values_of(crops_of([a_scene(tmp_path)], bands=wanted)) == [[50], [40], [30], [20], [10]]


def test_bands_without_red_green_and_blue_come_as_asked(tmp_path: Path) -> None:
    assert values_of(crops_of([a_scene(tmp_path)], bands=("nir", "red"))) == [[40], [10]]


def test_operations_on_colour_leave_the_fourth_band(tmp_path: Path) -> None:
    shift = HsvShift(p=1.0, hue=0, saturation=0, value=0.2)
    red, *_, nir = values_of(crops_of([a_scene(tmp_path)], bands=BANDS, augment=[shift]))
    assert nir == pytest.approx([40], abs=1e-4)
    assert red != pytest.approx([10], abs=0.5)


def test_a_band_that_the_scene_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no band swir: it has red, green, blue, nir, dsm"):
        read_bands(a_scene(tmp_path), ["red", "swir"])


def test_each_scene_has_a_lookup_of_its_own(tmp_path: Path) -> None:
    forward, backward = np.full(256, IGNORE, np.uint8), np.full(256, IGNORE, np.uint8)
    forward[:4], backward[:4] = [0, 1, 1, 0], [2, 2, IGNORE, 2]
    scenes = [a_scene(tmp_path, "a"), a_scene(tmp_path, "b")]
    source = crops_of(scenes, bands=("red", "green", "blue"), lookups=[forward, backward], classes=3)
    seen = {tuple(mask.unique().tolist()) for n in range(8) for mask in source.batch(n).mask}
    source.close()
    assert seen == {(0, 1), (2, IGNORE)}


def test_a_class_that_is_drawn_is_found_by_what_the_lookup_makes_of_it(tmp_path: Path) -> None:
    empty, rare = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    rare[3] = 1
    source = CropSource(
        [a_scene(tmp_path, "a"), a_scene(tmp_path, "b")],
        target="classes",
        dates=1,
        sampling=ClassSampling(crop_px=16, batch_size=8, class_share=1.0, class_weights=(0, 1)),
        augment=None,
        mean=[0.0] * 3,
        std=[1.0] * 3,
        seed=0,
        classes=2,
        lookups=[empty, rare],
    )
    masks = source.batch(0).mask
    source.close()
    assert all((mask == 1).any() for mask in masks)


def test_the_number_of_classes_has_to_be_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="number of classes"):
        crops_of([a_scene(tmp_path)], bands=("red", "green", "blue"), classes=None)
