"""The Python face: names, signatures, what goes in from memory, and what a result is in a notebook."""

import base64
import dataclasses
import gc
import inspect
import io
import json
import re
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from affine import Affine
from geopandas.testing import assert_geodataframe_equal
from PIL import Image
from shapely.geometry import box

import aftermap
import colour_town as colours
from aftermap import api
from aftermap.config import override_words
from aftermap.data.checking.split_dataset import SplitOptions, split_dataset
from aftermap.data.preparing.prepare import _PLACES, DatasetKind
from aftermap.errors import (
    DataError,
    FootprintError,
    GeoreferenceError,
    InputError,
    PixelCoordinatesWarning,
    RasterError,
    RecipeError,
    TrainingError,
)
from aftermap.inference.ensemble import RunningKeywords
from aftermap.synthetic.write import SynthOptions, synthesise
from aftermap.workflows.benchmark.run import BenchmarkOptions, run_benchmark
from aftermap.workflows.comparing.run import CompareOptions, compare
from aftermap.workflows.fusing.run import FuseOptions, fuse
from aftermap.workflows.kinds import TrainOptions, train_named
from aftermap.workflows.mapping.result import MapResult
from aftermap.workflows.monitoring.run import MonitorOptions, monitor
from aftermap.workflows.scoring.evaluate import EvaluateOptions, evaluate_dataset
from aftermap.workflows.scoring.predict import PredictOptions, predict_dataset
from aftermap.workflows.scoring.score import ScoreOptions, score_folders

WINDOWS = {"window_px": 96, "halo_px": 16}
SIGNATURES = {
    "map": "pre post out * task model footprints aoi grid align progress ** options",
    "map_buildings": "image out ** options",
    "map_classes": "image out * model ** options",
    "map_many": "pairs out ** options",
    "footprints": "aoi out * source ** options",
    "collect": "maps out * name title licence",
    "find": "catalogue aoi * before after ** options",
    "learn": "out",
    "open_model": "model ** running",
    "predict": "model data out ** options",
    "evaluate": "model data ** options",
    "score": "prediction target ** options",
    "benchmark": "data out ** options",
    "compare": "out truth ** options",
    "fuse": "sources out ** options",
    "fuse_cells": "sources out * h3 ** options",
    "monitor": "maps out ** options",
    "train": "recipe out ** options",
    "adapt": "model data out * event labels on_progress ** keys",
    "adapt_map": "out run * parent on_progress ** keys",
    "totals": "out ** options",
    "areas": "out ** options",
    "agency_package": "out agency * to ** options",
    "package": "out formats * to name",
    "report": "out * to ** options",
    "answers": "out",
    "prepare": "source out * kind ** options",
    "check": "data * deep workers progress",
    "split": "data * out ** options",
    "synth": "out ** options",
}
OPTIONS = {
    CompareOptions: (compare, "kind column mapping within iou several unlisted area name as_answers"),
    FuseOptions: (
        fuse,
        "weights rule within column mapping probability reliability layers add_others title overwrite",
    ),
    MonitorOptions: (monitor, "dates allow_repair title overwrite"),
    EvaluateOptions: (
        evaluate_dataset,
        "split events threshold bootstrap boundary_m workers engine address on_scene",
    ),
    BenchmarkOptions: (
        run_benchmark,
        "models recipes protocol shots events tested informed adapt seeds seed bootstrap overrides include running "
        "resume overwrite progress",
    ),
    PredictOptions: (
        predict_dataset,
        "split targets coloured dice overwrite workers engine address on_scene",
    ),
    ScoreOptions: (score_folders, "events bootstrap seed iou progress"),
    SplitOptions: (
        split_dataset,
        "by fractions seed hold_out validate_on group_zoom folds fold compat_leak",
    ),
    SynthOptions: (synthesise, "scenes size_px seed kinds backdrop footprints workers geotiff"),
    TrainOptions: (train_named, "overrides resume step start on_progress"),
}
"""Keywords of the public functions, and the function that takes and explains them."""


def words(function) -> str:
    """Names of a function's parameters, with `*` before those that are keywords only."""
    found, starred = [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            found.append("*")
            starred = True
        found.append(f"** {name}" if parameter.kind is parameter.VAR_KEYWORD else name)
    return " ".join(found)


def test_the_public_names_and_their_parameters_are_these():
    assert {name: words(getattr(aftermap, name)) for name in api.__all__} == SIGNATURES
    assert set(api.__all__) <= set(aftermap.__all__)


@pytest.mark.parametrize("name", api.__all__)
def test_every_function_shows_an_example_and_explains_its_parameters(name: str):
    function = getattr(api, name)
    text = inspect.getdoc(function) or ""
    assert f"aftermap.{name}(" in text
    if "see `map`" not in text:
        unexplained = [p for p in inspect.signature(function).parameters if f"    {p}: " not in text]
        assert unexplained == []


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options.__name__)
def test_options_are_the_keywords_of_the_function_that_explains_them(options: type):
    function, names = OPTIONS[options]
    own = options.__annotations__.keys() - RunningKeywords.__annotations__.keys()
    assert set(names.split()) == own
    parameters = inspect.signature(function).parameters.values()
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == names.split()
    text = inspect.getdoc(function) or ""
    assert [name for name in names.split() if f"    {name}: " not in text] == []


def test_naming_a_function_loads_no_heavy_library():
    heavy = ("torch", "rasterio", "geopandas", "matplotlib", "timm")
    code = f"import aftermap, sys; aftermap.map; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.save_colour_model(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return colours.write_town(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, model: Path, pair: tuple[Path, Path]) -> MapResult:
    return aftermap.map(*pair, tmp_path_factory.mktemp("result") / "map", model=model, **WINDOWS)


def test_strings_are_paths(tmp_path: Path, model: Path, pair: tuple[Path, Path], mapped: MapResult):
    pre, post = map(str, pair)
    result = aftermap.map(pre, post, str(tmp_path / "map"), model=str(model), **WINDOWS)
    for name in ("damage.tif", "buildings.csv"):
        assert (result.folder / name).read_bytes() == (mapped.folder / name).read_bytes()


def test_arrays_with_a_grid_give_the_map_of_their_files(
    model: Path, pair: tuple[Path, Path], mapped: MapResult
):
    with rasterio.open(pair[0]) as pre, rasterio.open(pair[1]) as post:
        place = (pre.transform, pre.crs)
        result = aftermap.map(pre.read(), (post.read(), place), model=model, grid=place, **WINDOWS)
    np.testing.assert_array_equal(result.damage.array, mapped.damage.array)
    assert result.damage.grid == mapped.damage.grid
    left_out = ["pre_image", "post_image"]
    assert_geodataframe_equal(
        result.buildings.drop(columns=left_out), mapped.buildings.drop(columns=left_out)
    )


def test_masked_pixels_have_no_data(model: Path):
    pre, post, _ = colours.town()
    hidden = np.ma.masked_array(post, mask=np.zeros_like(post, bool))
    hidden[:, :, :96] = np.ma.masked
    result = aftermap.map(pre, hidden, model=model, grid=colours.town_grid(), **WINDOWS)
    assert (result.damage.array[:, :96] == 255).all() and (result.damage.array[:, 96:] != 255).all()


def test_an_array_without_a_grid_counts_pixels_and_warns(model: Path):
    pre, post, _ = colours.town()
    with pytest.warns(PixelCoordinatesWarning):
        result = aftermap.map(pre, post, model=model, **WINDOWS)
    assert result.buildings.crs is None and any("pixel" in text for text in result.warnings)


@pytest.mark.parametrize(
    ("array", "error", "said"),
    [
        (np.zeros((64, 80, 3), np.uint8), RasterError, "looks like bands last: pass .bands, height, width."),
        (np.zeros((1, 3, 64, 64), np.uint8), RasterError, "pass one of .bands, height, width."),
        (np.zeros((3, 64, 64), bool), RasterError, "array of bool"),
        (np.zeros((3, 64, 64), np.uint8), GeoreferenceError, "64 x 64 pixels, its grid has 192 x 192"),
    ],
)
def test_an_array_that_is_no_image_is_refused(model: Path, array: np.ndarray, error: type, said: str):
    with pytest.raises(error, match=said):
        aftermap.map(array, array, model=model, grid=colours.town_grid())


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"pre": 5}, RasterError, "pre is of type int, expected a path, an array"),
        ({"pre": [[1, 2]]}, RasterError, "pre is of type list"),
        ({"pre": np.zeros((3, 0, 9), np.uint8)}, RasterError, "which has no pixels"),
        (
            {"grid": (Affine.identity(), "banana")},
            GeoreferenceError,
            "reference system 'banana', which is not known",
        ),
        (
            {"grid": ("EPSG:32615", Affine.identity())},
            GeoreferenceError,
            "expected a transform and a reference",
        ),
        ({"grid": Affine.identity()}, GeoreferenceError, "expected a transform and a reference system"),
        (
            {"footprints": pd.DataFrame({"a": [1]})},
            FootprintError,
            "footprints is of type DataFrame, expected",
        ),
        (
            {"aoi": box(0, 0, 9, 9)},
            FootprintError,
            "aoi is of type Polygon, expected a path or a GeoDataFrame",
        ),
        ({"bands": "1,2,3"}, InputError, "bands is the text '1,2,3', expected numbers such as"),
        ({"stretch": "2,98"}, InputError, "stretch is the text '2,98'"),
        ({"nodata": "zero"}, RasterError, "nodata zero is no value"),
    ],
)
def test_arguments_of_another_kind_are_refused_in_one_line(changes: dict[str, Any], error: type, said: str):
    image = np.full((3, 64, 64), 90, np.uint8)
    given = {"pre": image, "post": image, "grid": (Affine(1, 0, 367000, 0, -1, 4104000), "EPSG:32615")}
    with pytest.raises(error, match=re.escape(said)) as raised:
        aftermap.map(**given | changes)
    assert "\n" not in str(raised.value)


def test_a_table_of_polygons_is_judged_as_its_file_is(tmp_path: Path, model: Path, pair: tuple[Path, Path]):
    shapes = {f"house {row}{col}": shape for (row, col), shape in colours.houses().items()}
    path = colours.write_footprints(tmp_path / "f.gpkg", shapes)
    table = geopandas.read_file(path)
    first, second = (aftermap.map(*pair, model=model, footprints=given, **WINDOWS) for given in (path, table))
    assert first.buildings["building_id"].tolist() == second.buildings["building_id"].tolist()
    assert first.buildings["damage"].tolist() == second.buildings["damage"].tolist()


def test_a_folder_that_nobody_named_lives_as_long_as_the_result(model: Path, pair: tuple[Path, Path]):
    result = aftermap.map(*pair, model=model, **WINDOWS)
    folder = result.folder
    assert (folder / "map.html").is_file()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del result
        gc.collect()
    assert not folder.exists()


def test_rasters_come_with_their_grid_and_names(mapped: MapResult):
    with rasterio.open(mapped.folder / "damage.tif") as file:
        np.testing.assert_array_equal(mapped.damage.array, file.read(1))
        assert mapped.damage.grid.transform == file.transform
    assert mapped.probabilities.array.shape == (5, 192, 192)
    assert mapped.probabilities.names[0] == "background"
    np.testing.assert_array_equal(np.asarray(mapped.damage), mapped.damage.array)
    with pytest.raises(InputError, match="a map of damage has no classes: it has damage, probabilities"):
        _ = mapped.classes


def test_a_notebook_shows_the_picture_the_counts_and_the_warnings(mapped: MapResult):
    text = mapped._repr_html_()
    assert text.startswith('<div><img src="data:image/webp;base64,') and str(mapped.page) in text
    assert text.count("<td>4</td><td>25.0 %</td>") == 4 and "Major damage" in text


def test_a_large_picture_is_small_in_a_notebook(mapped: MapResult, tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 1860, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "overview.png")
    assert (tmp_path / "overview.png").stat().st_size > 4_000_000
    text = dataclasses.replace(mapped, folder=tmp_path)._repr_html_()
    assert len(text) < 300_000
    picture = re.search('base64,([^"]+)', text)
    assert picture is not None
    with Image.open(io.BytesIO(base64.b64decode(picture[1]))) as shown:
        assert shown.format == "WEBP" and shown.width / shown.height == pytest.approx(1860 / 900, rel=0.01)


def test_a_result_is_one_short_line(mapped: MapResult):
    assert repr(mapped) == f"<map of damage: 16 buildings, 0.0 megapixels, in {mapped.folder}>"
    one = dataclasses.replace(mapped, buildings=mapped.buildings[:1], warnings=("a",), task="classes")
    assert repr(one) == f"<map of classes: 1 region, 0.0 megapixels, 1 warning, in {mapped.folder}>"


def test_plot_draws_every_building_in_its_colour(mapped: MapResult):
    axes = mapped.plot()
    drawn = axes.collections[0].get_facecolor()
    wanted = [mapped.legend[kind].colour for kind in mapped.kinds.tolist()]
    assert ["#" + "".join(f"{round(255 * v):02x}" for v in colour[:3]) for colour in drawn] == wanted
    assert axes.get_legend().get_texts()[3].get_text() == "Destroyed  4"


def test_explore_without_folium_says_what_to_install(mapped: MapResult, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aftermap.workflows.mapping.result.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install folium mapclassify"):
        mapped.explore()


def test_one_image_is_mapped_by_its_task(model: Path, pair: tuple[Path, Path]):
    result = aftermap.map_buildings(pair[0], model=model, **WINDOWS)
    assert (result.task, len(result.buildings)) == ("buildings", 16)
    assert result.classes.array.max() == 1 and set(result.kinds) == {0}
    with pytest.raises(InputError, match="needs two dates"):
        aftermap.map(pair[0], model=model)
    with pytest.raises(InputError, match="maps one date, found a second image"):
        aftermap.map(*pair, task="buildings", model=model)


def test_a_dataset_is_made_checked_split_predicted_and_scored(tmp_path: Path, model: Path):
    town = tmp_path / "town"
    made = aftermap.synth(town, scenes=3, size_px=128, seed=4, kinds=["wind"])
    assert len(made.scenes) == 3
    assert aftermap.check(town, deep=False).errors == []
    parted = aftermap.split(town, by="random", fractions=(0.34, 0.33, 0.33))
    assert sorted(scene.split for scene in parted.scenes) == ["test", "train", "validation"]
    stored = json.loads((town / "manifest.json").read_text())
    assert {scene["split"] for scene in stored["scenes"]} == {"test", "train", "validation"}
    predicted, truth = tmp_path / "p", tmp_path / "t"
    opened = aftermap.open_model(model)
    assert aftermap.predict(opened, town, predicted, split="test", targets=truth) == 1
    of_files = aftermap.score(predicted, truth, bootstrap=0).as_dict()
    of_model = aftermap.evaluate(model, town, bootstrap=0).as_dict()
    assert of_model["score"] == pytest.approx(of_files["score"], abs=1e-9)
    with pytest.raises(DataError, match="no labelled scenes in split test of nowhere"):
        aftermap.evaluate(opened, town, events=["nowhere"])


def test_overrides_may_be_a_mapping_or_words():
    mapping = {"steps": 20, "data.manifests": [Path("a b"), "c"], "name": "x: y", "records.store": None}
    tree = {"steps": 1, "data": {"manifests": []}, "name": "", "records": {"store": "s"}}
    for word in override_words(mapping):
        key, _, text = word.partition("=")
        *groups, last = key.split(".")
        place = tree
        for group in groups:
            place = place[group]
        place[last] = yaml.safe_load(text)
    wanted = {"steps": 20, "data": {"manifests": ["a b", "c"]}, "name": "x: y", "records": {"store": None}}
    assert tree == wanted
    assert override_words(["steps=3"]) == ["steps=3"]


def test_a_dataset_is_prepared_and_a_recipe_is_trained_and_gone_on_with(tmp_path: Path):
    aftermap.synth(tmp_path / "town", scenes=3, size_px=128, seed=4, kinds=["wind"])
    prepared = aftermap.prepare(tmp_path / "town", tmp_path / "prepared", workers=1)
    assert len(prepared.scenes) == 3
    aftermap.split(tmp_path / "prepared", by="random", fractions=(0.34, 0.33, 0.33))
    recipe = {
        "name": "tiny",
        "task": "building",
        "data": {"manifests": [str(tmp_path / "prepared")]},
        "model": {
            "kind": "unet",
            "encoder_name": "resnet10t",
            "encoder_depth": 3,
            "decoder_channels": [8, 8, 8],
        },
        "sampling": {"crop_px": 64, "batch_size": 2},
        "precision": "no",
        "steps": 99,
    }
    seen = []
    run = aftermap.train(recipe, tmp_path / "run", overrides={"steps": 2}, on_progress=seen.append)
    assert run.model == tmp_path / "run" / "model" and len(seen) >= 2
    assert aftermap.open_model(run.model).card.name == "tiny"
    with pytest.raises(TrainingError, match=r"\w"):
        aftermap.train(recipe, tmp_path / "run", resume=True)
    with pytest.raises(RecipeError, match="a recipe of kind 'none'"):
        aftermap.train(recipe | {"kind": "none"}, tmp_path / "other")


def test_every_kind_of_dataset_has_its_reader():
    for kind in DatasetKind.__args__:
        module = import_module(f"aftermap.data.readers.{_PLACES.get(kind, kind)}")
        assert callable(getattr(module, f"{kind}_dataset"))
