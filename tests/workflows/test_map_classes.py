"""Maps of any classes: a grown model, exported to ONNX, over a made GeoTIFF."""

import csv
import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.crs import CRS

import colour_town as colours
import spectral_cover
from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.exported import load_exported_card
from aftermap.artefacts.store import load_model, save_model
from aftermap.cli.app import main
from aftermap.data.legends import LEGENDS, Legend
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import InputError, ModelError, PixelCoordinatesWarning
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import area_m2
from aftermap.inference.predictor import Predictor
from aftermap.inference.tiling import predict_scene
from aftermap.models.build import build_model
from aftermap.models.configs import UnetConfig
from aftermap.models.growth import grow
from aftermap.workflows.export.run import ExportOptions, export_model
from aftermap.workflows.mapping.buildings import map_buildings
from aftermap.workflows.mapping.classes import map_classes
from aftermap.workflows.mapping.inputs.images import has_legend
from aftermap.workflows.mapping.result import MapResult
from spectral_cover import save_spectral_model

FILES = {
    *(
        "classes.tif",
        "classes.tif.aux.xml",
        "classes.qml",
        "confidence.tif",
        "classes.gpkg",
        "classes.geojson",
        "classes.csv",
    ),
    *("summary.json", "provenance.json", "map.html", "overview.png"),
}
LEGEND = Legend(
    name="town-step-1",
    names=("background", "building", "road", "water"),
    colours=("#000000", "#c8203c", "#808080", "#2050d0"),
    background=0,
)
GRID = Grid(CRS.from_epsg(32632), Affine(0.5, 0, 465_000, 0, -0.5, 5_250_000), 150, 120)
WINDOWS = {"window_px": 96, "halo_px": 16}
HOLE = slice(20, 30), slice(40, 60)


def pixels(bands: int = 3) -> np.ndarray:
    """Blobs of colour, uint8 (C, 120, 150), black without data in a corner of the first date."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(30, 255, (bands, 15, 15), dtype=np.uint8).repeat(8, 1).repeat(10, 2)
    coarse[(slice(None), *HOLE)] = 0
    return coarse


def card_of(name: str, config, **values) -> Card:
    values = {"dates": 1, "scheme": LEGEND.name, "legend": LEGEND, "resolution_m": (0.1, 2.0)} | values
    return Card(
        name=name,
        model=config,
        licence="MIT",
        training=TrainingRecord(data="none", data_licence="none"),
        **values,
    )


def _balance(model: torch.nn.Module) -> None:
    """Move and stretch the classifier, so that an untrained model tells every class somewhere."""
    weight = next(p for p in model.parameters() if p.dim() == 4 and len(p) == 4)
    bias = next(p for p in model.parameters() if p.shape == (4,))
    bands = pixels(next(model.parameters()).shape[1])
    with torch.no_grad():
        logits = model((torch.from_numpy(bands).float()[None, None, :, :, :128] - 127.5) / 127.5)
        scale = 4 / logits.std(dim=(0, 2, 3))
        bias.copy_((bias - logits.mean(dim=(0, 2, 3))) * scale)
        weight.mul_(scale[:, None, None, None])


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net of background and building, grown by road and water."""
    torch.manual_seed(3)
    config = UnetConfig(encoder_name="test_resnet", encoder_depth=3, decoder_channels=(16, 16, 16), classes=2)
    model = build_model(config).eval()
    larger, its = grow(model, config, heads=[2], added=2, initialisation="random")
    _balance(larger)
    folder = tmp_path_factory.mktemp("models") / "grown"
    save_model(folder, larger, card_of("grown", its))
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, grown: Path) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "grown-onnx"
    result = export_model(grown, folder, ExportOptions(to="onnx"))
    assert result.folder == folder, result.parity.reason
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.write_image(tmp_path_factory.mktemp("image") / "town.tif", pixels(), GRID, nodata=0)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, exported: Path, image: Path) -> MapResult:
    out = tmp_path_factory.mktemp("result") / "map"
    return map_classes(image, out, model=exported, min_area_m2=0, **WINDOWS)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)


def test_the_raster_is_the_argmax_of_the_model_in_pytorch_up_to_ties(mapped: MapResult, grown: Path) -> None:
    predicted = predict_scene(Predictor(load_model(grown)), pixels()[None], **WINDOWS)
    classes = read(mapped.folder / "classes.tif")
    first, second = np.sort(predicted, axis=0)[[-1, -2]]
    clear = first - second > 1e-3
    clear[0:60, 10:90] = False  # near what has no data, which the map hides from the model
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(classes[clear], predicted.argmax(axis=0)[clear])
    assert len(np.unique(classes[clear])) > 1
    confidence = read(mapped.folder / "confidence.tif")
    assert np.abs(confidence[clear] / 254 - first[clear]).max() < 0.5 / 254 + 1e-3


def test_the_georeference_and_the_gap_are_those_of_the_image(mapped: MapResult) -> None:
    for name in ("classes.tif", "confidence.tif"):
        with rasterio.open(mapped.folder / name) as raster:
            assert raster.transform == GRID.transform and raster.crs == GRID.crs and raster.nodata == 255
            gap = raster.read(1) == 255
        expected = np.zeros((120, 150), bool)
        expected[HOLE] = True
        np.testing.assert_array_equal(gap, expected)


def test_the_raster_names_and_colours_its_classes(mapped: MapResult) -> None:
    with rasterio.open(mapped.folder / "classes.tif") as raster:
        assert raster.tags()["class_3"] == "water" and raster.tags()["legend"] == "town-step-1"
        assert raster.colormap(1)[1][:3] == (0xC8, 0x20, 0x3C) and raster.descriptions == ("town-step-1",)
    names = ElementTree.parse(mapped.folder / "classes.tif.aux.xml").findall(".//Category")
    assert tuple(name.text for name in names) == LEGEND.names


def test_the_folder_holds_exactly_the_promised_files(mapped: MapResult) -> None:
    assert {path.name for path in mapped.folder.iterdir()} == FILES
    assert [path.name for path in mapped.folder.parent.iterdir()] == ["map"]


def test_areas_are_those_of_the_raster(mapped: MapResult) -> None:
    classes, told = read(mapped.folder / "classes.tif"), mapped.summary
    area = GRID.pixel_size_m[0] * GRID.pixel_size_m[1]
    for index, (name, row) in enumerate(told["classes"].items()):
        assert row["pixels"] == (classes == index).sum() and LEGEND.names[index] == name
        assert row["area_m2"] == pytest.approx(row["pixels"] * area, rel=1e-4, abs=0.06)
        assert row["area_ha"] == pytest.approx(row["area_m2"] / 10_000, abs=1e-4)
    assert sum(row["share"] for row in told["classes"].values()) == pytest.approx(1, abs=2e-4)
    total = sum(row["area_m2"] for row in told["classes"].values()) + told["not_assessed"]["area_m2"]
    assert total == pytest.approx(120 * 150 * area, rel=1e-4)
    assert told["not_assessed"]["reasons"] == {"no data": 200}
    with (mapped.folder / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [*LEGEND.names, "not-assessed"]
    assert [int(row["pixels"]) for row in rows] == [*(r["pixels"] for r in told["classes"].values()), 200]


def test_regions_have_the_area_of_the_raster_class_by_class(mapped: MapResult) -> None:
    frame = geopandas.read_file(mapped.folder / "classes.gpkg", layer="classes")
    assert "background" not in set(frame["class"]) and frame.crs == GRID.crs
    pixels, areas = frame.groupby("class")["area_px"].sum(), frame.groupby("class")["area_m2"].sum()
    for name in LEGEND.names[1:]:
        row = mapped.summary["classes"][name]
        assert pixels.get(name, 0) == row["pixels"] and (frame["class"] == name).sum() == row["regions"]
        assert areas.get(name, 0) == pytest.approx(row["area_m2"], abs=0.2)
        assert frame[frame["class"] == name].area.sum() == pytest.approx(row["pixels"] * 0.25)
    largest = frame.loc[frame["area_px"].idxmax()]
    assert largest["area_m2"] == pytest.approx(area_m2(largest.geometry, GRID.crs), rel=1e-4)
    assert frame["confidence"].between(0.25, 1).all()


def test_the_map_does_not_depend_on_how_it_is_cut_into_rows(
    tmp_path: Path, exported: Path, image: Path
) -> None:
    whole, rows = (
        map_classes(image, tmp_path / str(size), model=exported, min_area_m2=0, window_px=size, halo_px=0)
        for size in (512, 64)
    )
    first, second = (
        geopandas.read_file(result.folder / "classes.gpkg").drop(columns="confidence")
        for result in (whole, rows)
    )
    if (read(whole.folder / "classes.tif") == read(rows.folder / "classes.tif")).all():
        assert first.equals(second)
    assert abs(len(first) - len(second)) < 0.2 * len(first)


class Killed(BaseException):
    """Stands for a process that dies."""


def test_an_interrupted_run_resumes_to_the_same_bytes(
    tmp_path: Path, exported: Path, image: Path, mapped: MapResult
) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "predicting" and done >= 40 * GRID.width:
            raise Killed

    with pytest.raises(Killed):
        map_classes(image, tmp_path / "map", model=exported, min_area_m2=0, progress=progress, **WINDOWS)
    assert not (tmp_path / "map").exists()
    result = map_classes(image, tmp_path / "map", model=exported, min_area_m2=0, resume=True, **WINDOWS)
    assert result.resumed_rows >= 40
    for name in FILES - {"provenance.json", "summary.json"}:
        assert (result.folder / name).read_bytes() == (mapped.folder / name).read_bytes(), name


def test_small_regions_have_no_polygon_and_stay_in_the_raster(
    tmp_path: Path, exported: Path, image: Path, mapped: MapResult
) -> None:
    result = map_classes(image, tmp_path / "map", model=exported, min_area_m2=30, **WINDOWS)
    assert 0 < len(result.buildings) < len(mapped.buildings) and result.buildings["area_m2"].min() >= 30
    assert result.summary["classes"]["road"]["pixels"] == mapped.summary["classes"]["road"]["pixels"]


def test_a_plain_image_is_mapped_in_pixels(tmp_path: Path, exported: Path) -> None:
    path = colours.write_image(tmp_path / "plain.png", pixels())
    with pytest.warns(PixelCoordinatesWarning):
        result = map_classes(path, tmp_path / "map", model=exported, min_area_m2=0, **WINDOWS)
    assert result.summary["area_m2"] is None and result.summary["assessed_px"] == 120 * 150
    assert result.buildings["area_m2"].isna().all() and result.buildings.crs is None
    assert result.buildings.area.sum() == result.buildings["area_px"].sum()


def test_a_model_of_buildings_is_one_of_two_classes(tmp_path: Path) -> None:
    image = colours.write_town(tmp_path / "town")[0]
    model = colours.save_roof_model(tmp_path / "roofs")
    result = map_classes(image, tmp_path / "map", model=model, **WINDOWS)
    houses = map_buildings(image, tmp_path / "houses", model=model, **WINDOWS)
    np.testing.assert_array_equal(read(result.folder / "classes.tif"), read(houses.folder / "classes.tif"))
    assert (result.summary["regions"], set(result.buildings["class"])) == (16, {"building"})


def test_buildings_of_a_legend_are_its_class_of_that_name(tmp_path: Path, grown: Path, image: Path) -> None:
    result = map_buildings(image, tmp_path / "map", model=grown, **WINDOWS)
    predicted = predict_scene(Predictor(load_model(grown)), pixels()[None], **WINDOWS)[1]
    stored = read(result.folder / "building.tif")
    far = np.s_[80:, :]
    assert np.abs(stored[far] / 254 - predicted[far]).max() < 0.01


def test_a_legend_without_buildings_is_refused_for_buildings(
    tmp_path: Path, grown: Path, image: Path
) -> None:
    loaded = load_model(grown)
    other = LEGEND.model_copy(update={"names": ("background", "forest", "road", "water")})
    save_model(tmp_path / "forest", loaded.model, card_of("forest", loaded.card.model, legend=other))
    with pytest.raises(ModelError, match="none of them is called building: pass --task classes"):
        map_buildings(image, tmp_path / "map", model=tmp_path / "forest")


def test_what_makes_no_map_of_classes_is_refused(tmp_path: Path, exported: Path, image: Path) -> None:
    with pytest.raises(InputError, match="no use for footprints"):
        map_classes(image, tmp_path / "map", model=exported, footprints=tmp_path / "houses.gpkg")
    damage = colours.save_colour_model(tmp_path / "damage")
    with pytest.raises(InputError, match="compares two dates, --task classes maps one"):
        map_classes(image, tmp_path / "map", model=damage)
    four = colours.write_image(tmp_path / "four.tif", pixels(4), GRID)
    with pytest.raises(InputError, match="has 4 bands, the model expects 3"):
        map_classes(four, tmp_path / "map", model=exported)


def test_only_a_model_of_one_date_with_a_legend_maps_classes_by_default(
    tmp_path: Path, grown: Path, exported: Path
) -> None:
    assert has_legend(grown) and has_legend(exported) and has_legend(exported / "model.onnx")
    assert not has_legend("box") and not has_legend(colours.save_roof_model(tmp_path / "roofs"))


def test_the_legend_is_in_the_readme_and_in_the_exported_graph(grown: Path, exported: Path) -> None:
    for folder in (grown, exported):
        readme = (folder / "README.md").read_text()
        assert "| 2 | road | `#808080` |" in readme and "Building threshold" not in readme
    assert load_exported_card(exported / "model.onnx").legend == LEGEND == load_model(grown).card.legend
    parity = json.loads((exported / "exported.json").read_text())["graph"]["parity"]
    assert set(parity["classes"]) == set(LEGEND.names)


def test_a_model_of_four_bands_reads_them_in_its_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = UnetConfig(
        encoder_name="test_resnet", encoder_depth=3, decoder_channels=(16, 16, 16), classes=4, in_channels=4
    )
    model = build_model(config).eval()
    _balance(model)
    bands = ("red", "green", "blue", "nir")
    four = {"mean": (127.5,) * 4, "std": (60.0,) * 4}
    save_model(
        tmp_path / "model",
        model,
        card_of("nir", config, bands=bands, normalisation=four),
    )
    array = pixels(4)
    path = colours.write_image(tmp_path / "nir.tif", array[[3, 0, 1, 2]], GRID)
    result = map_classes(path, tmp_path / "map", model=tmp_path / "model", bands=(2, 3, 4, 1), **WINDOWS)
    predicted = predict_scene(Predictor(load_model(tmp_path / "model")), array[None], **WINDOWS)
    first, second = np.sort(predicted, axis=0)[[-1, -2]]
    clear = first - second > 1e-4
    classes = read(result.folder / "classes.tif")
    np.testing.assert_array_equal(classes[clear], predicted.argmax(axis=0)[clear])
    with pytest.raises(InputError, match=r"has 3 bands, the model expects 4 \(red, green, blue, nir\)"):
        three = colours.write_image(tmp_path / "rgb.tif", array[:3], GRID)
        map_classes(three, tmp_path / "other", model=tmp_path / "model")


def test_the_command_takes_classes_where_the_model_has_a_legend(
    tmp_path: Path, grown: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["-m", str(grown), "-o", str(tmp_path / "map"), "--backend", "torch", "--window", "96"]
    with pytest.raises(SystemExit) as left:
        main(["map", str(image), *options, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert left.value.code == 0 and told["summary"]["legend"] == "town-step-1"
    assert (tmp_path / "map" / "classes.gpkg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "mapping damage needs two dates"),
        (["--task", "classes"], "compares two dates, --task classes maps one"),
        (["other.tif", "--task", "classes"], "--task classes maps one date, found a second image other.tif"),
        (["--task", "classes", "--align", "off"], "--align off is about two dates"),
    ],
)
def test_the_command_refuses_what_is_no_map_of_classes(
    tmp_path: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(image, "other.tif")
    with pytest.raises(SystemExit) as left:
        main(["map", str(image), *arguments, "-o", str(tmp_path / "map")])
    told = capsys.readouterr().err
    assert left.value.code == 2 and message in " ".join(told.split()) and told.count("aftermap:") == 1


def test_a_model_of_four_bands_is_exported_on_scenes_that_have_them(tmp_path: Path) -> None:
    model, data = save_spectral_model(tmp_path / "model"), tmp_path / "data"
    data.mkdir()
    array = pixels(4)[:, :96, :128]
    scenes = []
    for name, split in (("one", "test"), ("two", "train")):
        path = colours.write_image(data / f"{name}.tif", array, photometric="MINISBLACK")
        bands = ("red", "green", "blue", "nir")
        scenes.append(Scene(name=name, event="e", split=split, pre=path, bands=bands, width=128, height=96))
    Manifest(kind="folder", scheme="isprs", legend=LEGENDS["isprs"], scenes=scenes).save(data)
    with pytest.raises(ModelError, match="pass --tiles with a prepared dataset that has these bands"):
        export_model(model, tmp_path / "onnx", ExportOptions(to="onnx"))
    with pytest.raises(ModelError, match="export it in fp16"):
        options = ExportOptions(to="onnx", precision="int8", tiles=data, calibrate=data)
        export_model(model, tmp_path / "onnx", options)
    result = export_model(model, tmp_path / "onnx", ExportOptions(to="onnx", tiles=data))
    assert result.parity.passed and result.card.legend == spectral_cover.LEGEND
    assert result.card.bands == ("nir", "red", "green", "blue")


@pytest.mark.real
def test_four_bands_of_sixteen_bits_give_the_vegetation_of_zurich(tmp_path: Path, shared_data: Path) -> None:
    scene = shared_data / "zurich-summer" / "sat" / "14.tif"
    model = save_spectral_model(tmp_path / "spectral")
    settings = {"bands": (4, 1, 2, 3), "stretch": (2, 98)}
    result = map_classes(scene, tmp_path / "map", model=model, **settings)
    with rasterio.open(result.folder / "classes.tif") as raster, rasterio.open(scene) as source:
        found = raster.read(1)
        assert raster.transform == source.transform and raster.crs == source.crs
    with rasterio.open(shared_data / "zurich-summer" / "gt" / "14.tif") as labels:
        colour = labels.read()
    green = (colour[0] == 0) & np.isin(colour[1], [125, 255]) & (colour[2] == 0)
    water = (colour == np.array([0, 0, 150])[:, None, None]).all(axis=0)
    assert (found[green] == 1).mean() > 0.7 and (found[water] == 2).mean() > 0.9
    areas = [row["area_m2"] for row in result.summary["classes"].values()]
    assert sum(areas) == pytest.approx(found.size * 0.36, rel=2e-3)


@pytest.mark.real
def test_a_mosaic_of_joplin_is_mapped_as_one(tmp_path: Path, shared_data: Path) -> None:
    model = colours.save_roof_model(tmp_path / "roofs")
    result = map_classes(shared_data / "joplin-geotiff" / "pre", tmp_path / "map", model=model)
    frame = geopandas.read_file(result.folder / "classes.gpkg")
    with rasterio.open(result.folder / "classes.tif") as raster:
        assert (raster.height, raster.width) == (2048, 2048) and frame.crs == raster.crs
        found = raster.read(1)
    assert result.summary["classes"]["building"]["pixels"] == (found == 1).sum()
    assert frame["area_px"].sum() <= (found == 1).sum() and frame["area_m2"].min() >= 10
