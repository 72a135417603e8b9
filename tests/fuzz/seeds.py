"""Valid files of every kind, made by the project's own code: what the mutations begin with."""

import json
import shutil
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import rasterio
import torch
import yaml
from safetensors.torch import save_file
from test_opening import write_vrt
from test_read_vectors import FORMATS, store

from aftermap.config import shipped_recipes_folder
from aftermap.data.legends import LEGENDS
from aftermap.data.soft_labels import write_soft
from aftermap.models.configs import UnetConfig
from backend_models import export, save
from made_image_sets import write_opencities
from made_xbd import box, label, manifest, scene
from published_checkpoints import as_the_winner_saved
from saved_models import make_ensemble, save_building, save_damage

SIZE = 48
SUBTYPES = ["no-damage", "minor-damage", "destroyed", "un-classified"]
TINY = UnetConfig(encoder_name="test_resnet", encoder_depth=2, decoder_channels=(8, 8))


def pixels(count: int = 3, top: int = 255) -> np.ndarray:
    return np.random.default_rng(count).integers(0, top, (count, SIZE, SIZE)).astype(np.uint8)


def write_tiff(path: Path, array: np.ndarray, **more: object) -> Path:
    place = {"crs": "EPSG:32615", "transform": rasterio.Affine(1, 0, 367000, 0, -1, 4104000)} | more
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=array.dtype, **place
    ) as file:
        file.write(array)
    return path


def rasters(root: Path) -> None:
    """GeoTIFFs in several layouts, pictures, a VRT and an archive of tiles."""
    plain = pixels()
    kinds = {
        "strips": {},
        "tiled": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "predictor": 2},
        "lzw": {"compress": "lzw", "nodata": 0, "interleave": "pixel"},
        "jpeg": {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"},
        "sparse": {"tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True},
    }
    for name, options in kinds.items():
        write_tiff(root / name / "image.tif", plain, **options)
    write_tiff(root / "float" / "image.tif", plain.astype(np.float32), compress="zstd", nodata=-9999)
    write_tiff(root / "alpha" / "image.tif", pixels(4), photometric="rgb", alpha="yes")
    for suffix, options in ((".png", []), (".jpg", []), (".webp", []), (".jp2", [])):
        place = root / suffix[1:]
        place.mkdir()
        cv2.imwrite(str(place / f"image{suffix}"), plain.transpose(1, 2, 0), options)
    (root / "jpg" / "image.jgw").write_text("1\n0\n0\n-1\n367000\n4104000\n")
    tiles = [write_tiff(root / "vrt" / f"{n}.tif", plain[:, :32, :32]) for n in (0, 1)]
    write_vrt(root / "vrt" / "image.vrt", [tile.name for tile in tiles])
    (root / "zip").mkdir()
    with zipfile.ZipFile(root / "zip" / "image.zip", "w") as archive:
        for tile in tiles:
            archive.write(tile, f"inner/{tile.name}")


def vectors(root: Path) -> None:
    """Three squares in every format."""
    for suffix in FORMATS:
        (root / suffix[1:]).mkdir()
        store(root / suffix[1:] / f"f{suffix}", {"osm_id": [1, None, 3], "name": ["a", None, "c"]})


def xbd(root: Path) -> None:
    """Label files of both dates, and a file of geotransforms."""
    shapes = [box(2 + 10 * n, 4) for n in range(4)]
    (root / "labels").mkdir()
    (root / "labels" / "pre.json").write_text(json.dumps(label(shapes, size=SIZE)))
    (root / "labels" / "post.json").write_text(json.dumps(label(shapes, SUBTYPES, size=SIZE)))
    places = {"a_pre_disaster.png": [[-85.5, 5e-6, 0, 30.25, 0, -5e-6], "EPSG:4326"]}
    (root / "geotransforms").mkdir()
    (root / "geotransforms" / "geotransforms.json").write_text(json.dumps(places))


def manifests(root: Path) -> None:
    """A prepared dataset of one scene, with all that a manifest can name."""
    folder = root / "dataset"
    folder.mkdir(parents=True)
    for name in ("pre.png", "post.png"):
        cv2.imwrite(str(folder / name), pixels().transpose(1, 2, 0))
    for name, top in (("building.png", 2), ("damage.png", 5), ("classes.png", 5)):
        cv2.imwrite(str(folder / name), pixels(1, top)[0])
    one = scene("a", size=SIZE)
    write_soft(folder / "soft.tif", pixels(4).astype(np.float32) / 300, one.grid)
    paths = {
        "pre": "pre.png",
        "post": "post.png",
        "building_mask": "building.png",
        "damage_mask": "damage.png",
    }
    paths |= {"class_mask": "classes.png", "soft": "soft.tif"}
    told = one.model_copy(update={name: folder / file for name, file in paths.items()})
    manifest([told], legend=next(iter(LEGENDS.values()))).save(folder)


def legends(root: Path) -> None:
    """Every legend as the file that a user would write."""
    for name, legend in LEGENDS.items():
        (root / name).mkdir()
        (root / name / "legend.yaml").write_text(
            yaml.safe_dump(legend.model_dump(mode="json"), sort_keys=False)
        )


def recipes(root: Path) -> None:
    """The recipes that come with the package, each with the files that it extends."""
    for number, path in enumerate(sorted(shipped_recipes_folder().rglob("*.yaml"))):
        if path.name in ("plan.yaml", "common.yaml") or path.parent.name == "search":
            continue
        place = root / f"{number:02d}-{path.stem}"
        place.mkdir()
        shutil.copy(path, place / "recipe.yaml")
        if (path.parent / "common.yaml").is_file():
            shutil.copy(path.parent / "common.yaml", place)


def models(root: Path) -> None:
    """A building model, a damage model, and an ensemble of both."""
    save_building(root / "building")
    save_damage(root / "damage")
    make_ensemble(root / "ensemble", [root / "building", root / "damage"])


def exported(root: Path) -> None:
    """The same small model as an ONNX and as an OpenVINO graph."""
    source = save(root / "source", TINY)
    for kind in ("onnx", "openvino"):
        export(source, root / kind, kind)
    shutil.rmtree(source)


def checkpoints(root: Path) -> None:
    """What torch writes, new and old, and safetensors."""
    state = {"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.zeros(4), "n": torch.tensor(3)}
    for name in ("new", "old", "bare", "safetensors"):
        (root / name).mkdir()
    torch.save(as_the_winner_saved(state, prefix=True), root / "new" / "checkpoint.pth")
    torch.save(
        as_the_winner_saved(state), root / "old" / "checkpoint.pt", _use_new_zipfile_serialization=False
    )
    torch.save(state, root / "bare" / "checkpoint.pth")
    (root / "bare" / "metadata.json").write_text(json.dumps({"best_score": 0.5, "trained_epochs": 3}))
    save_file(state, root / "safetensors" / "checkpoint.safetensors")


def catalogues(root: Path) -> None:
    """The listings of Open Cities in their three forms, on tiny images."""
    for listing in ("csv", "stac", "stac-label-items"):
        write_opencities(root / listing, listing=listing, size=8)
        for path in [*(root / listing).rglob("*.tif"), *(root / listing).rglob("*.geojson")]:
            path.unlink()


def masks(root: Path) -> None:
    """Predictions and targets of one scene, and the events of a folder."""
    folder = root / "masks"
    for role in ("prediction", "target"):
        (folder / role).mkdir(parents=True)
        for kind, top in (("localization", 2), ("damage", 5)):
            file = folder / role / f"flood_00000001_{kind}_{role}.png"
            cv2.imwrite(str(file), pixels(1, top)[0])
    (folder / "events.json").write_text(json.dumps({"flood_00000001": "flood"}))
    (folder / "events.csv").write_text("scene,event\nflood_00000001,flood\n")


def quietly(make, root: Path) -> None:
    """Make files without the remarks of the libraries that write them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make(root)
