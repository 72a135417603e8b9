"""Datasets on disk: xBD layout, georeference, determinism, and refusal to overwrite."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pyogrio
import pytest
import rasterio
from shapely import wkt

from aftermap.classes import DAMAGE
from aftermap.data.scene import Manifest, read_images, read_mask
from aftermap.errors import OutputError
from aftermap.synthetic.write import synthesise


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("synthetic") / "towns"
    return out, synthesise(out, scenes=4, size_px=96, seed=3)


def test_the_same_seed_writes_the_same_bytes_with_any_number_of_workers(
    made: tuple[Path, Manifest], tmp_path: Path
) -> None:
    synthesise(tmp_path / "again", scenes=4, size_px=96, seed=3, workers=2)
    assert digest(made[0]) == digest(tmp_path / "again")


def test_files_are_named_as_in_xbd(made: tuple[Path, Manifest]) -> None:
    names = {path.name for path in (made[0] / "images").iterdir()}
    assert "synthetic-wind_00000000_pre_disaster.png" in names
    assert "synthetic-flood_00000001_post_disaster.png" in names
    assert len(names) == 8
    assert {path.stem for path in (made[0] / "labels").iterdir()} == {Path(name).stem for name in names}


def test_the_manifest_holds_truth_that_can_be_read(made: tuple[Path, Manifest]) -> None:
    manifest = Manifest.load(made[0])
    assert manifest.kind == "synthetic" and manifest.scheme == DAMAGE.name
    assert [scene.name for scene in manifest.scenes] == sorted(scene.name for scene in manifest.scenes)
    for scene in manifest.scenes:
        assert read_images(scene, dates=2).shape == (2, 3, 96, 96)
        damage = read_mask(scene, target="damage")
        assert scene.class_pixels == np.bincount(damage.ravel(), minlength=5).tolist()
        assert hashlib.sha256(scene.pre.read_bytes()).hexdigest() == scene.checksums["pre"]


def test_no_machine_path_is_written(made: tuple[Path, Manifest]) -> None:
    assert str(made[0].parent) not in (made[0] / "manifest.json").read_text()


def test_masks_can_be_drawn_again_from_the_labels(made: tuple[Path, Manifest]) -> None:
    levels = {name: index for index, name in enumerate(DAMAGE.names)}
    drawn_any = False
    for scene in made[1].scenes:
        label = json.loads((made[0] / "labels" / f"{scene.name}_post_disaster.json").read_text())
        mask = np.zeros((96, 96), np.uint8)
        for feature in label["features"]["xy"]:
            ring = np.round(np.array(wkt.loads(feature["wkt"]).exterior.coords)).astype(np.int32)
            cv2.fillPoly(mask, [ring], levels[feature["properties"]["subtype"]])
            drawn_any = True
        holes = any(wkt.loads(f["wkt"]).interiors for f in label["features"]["xy"])
        if not holes:
            np.testing.assert_array_equal(mask, read_mask(scene, target="damage"))
    assert drawn_any


def test_degrees_and_pixels_fit_one_affine(made: tuple[Path, Manifest]) -> None:
    for scene in made[1].scenes:
        features = json.loads((made[0] / "labels" / f"{scene.name}_pre_disaster.json").read_text())[
            "features"
        ]
        if not features["xy"]:
            continue
        pairs = zip(features["xy"], features["lng_lat"], strict=True)
        points = [
            np.hstack([np.array(wkt.loads(part["wkt"]).exterior.coords) for part in both]) for both in pairs
        ]
        table = np.concatenate(points)
        design = np.column_stack([table[:, :2], np.ones(len(table))])
        fit, *_ = np.linalg.lstsq(design, table[:, 2:], rcond=None)
        degrees_per_px = np.abs(fit[:2]).max()
        residual = np.abs(design @ fit - table[:, 2:]).max() / degrees_per_px
        assert residual < 0.05


def test_pre_labels_name_no_damage_and_uids_agree_between_dates(made: tuple[Path, Manifest]) -> None:
    for scene in made[1].scenes:
        pre, post = (
            json.loads((made[0] / "labels" / f"{scene.name}_{date}_disaster.json").read_text())["features"][
                "xy"
            ]
            for date in ("pre", "post")
        )
        assert all("subtype" not in feature["properties"] for feature in pre)
        assert [f["properties"]["uid"] for f in pre] == [f["properties"]["uid"] for f in post]
        assert [f["wkt"] for f in pre] == [f["wkt"] for f in post]


def test_geotiffs_hold_the_images_on_the_scene_grid(made: tuple[Path, Manifest]) -> None:
    for scene in made[1].scenes:
        for number, date in enumerate(("pre", "post")):
            with rasterio.open(made[0] / "geotiff" / f"{scene.name}_{date}.tif") as file:
                assert scene.grid is not None
                assert file.crs.to_epsg() == 32615
                assert tuple(file.transform)[:6] == pytest.approx(scene.grid.transform)
                np.testing.assert_array_equal(file.read(), read_images(scene, dates=2)[number])


def test_footprints_lie_on_the_buildings(made: tuple[Path, Manifest]) -> None:
    frame = pyogrio.read_dataframe(made[0] / "footprints.gpkg", layer="buildings")
    assert list(frame.columns) == ["building_id", "damage", "event", "scene", "geometry"]
    assert frame["building_id"].is_unique
    assert len(frame) == sum(sum(scene.polygons.values()) for scene in made[1].scenes)
    for scene in made[1].scenes:
        assert scene.grid is not None
        rows = frame[frame["scene"] == scene.name]
        inverse = ~rasterio.Affine(*scene.grid.transform)
        mask = read_mask(scene, target="building")
        for shape in rows.geometry:
            point = shape.representative_point()
            col, row = inverse * (point.x, point.y)
            assert mask[min(int(row), 95), min(int(col), 95)] == 1


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not empty"):
        synthesise(tmp_path, scenes=1, size_px=32)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interrupted_run_leaves_no_result_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("aftermap.synthetic.write._write_footprints", stop)
        with pytest.raises(KeyboardInterrupt):
            synthesise(tmp_path / "out", scenes=1, size_px=32)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()
    synthesise(tmp_path / "out", scenes=1, size_px=32)
    assert (tmp_path / "out" / "manifest.json").exists() and not (tmp_path / "out.part").exists()


def test_geotiffs_can_be_left_out(tmp_path: Path) -> None:
    synthesise(tmp_path / "plain", scenes=1, size_px=32, geotiff=False)
    assert not (tmp_path / "plain" / "geotiff").exists()
