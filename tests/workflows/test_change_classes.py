"""Classes of one's own between two dates: prepared, learned, scored, exported, mapped."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine

from aftermap import api
from aftermap.artefacts.store import load_card
from aftermap.classes import IGNORE
from aftermap.cli.app import main
from aftermap.config import build_config
from aftermap.data.legends import legend_named
from aftermap.data.preparing.prepare import prepare
from aftermap.data.readers.samples.dataset import Meaning, Part, samples_dataset
from aftermap.data.scene import Manifest, read_mask
from aftermap.errors import DataError, InputError, RecipeError
from aftermap.inference.ensemble import opened
from aftermap.workflows.incremental.config import IncrementalRecipe
from aftermap.workflows.incremental.run import learn_incrementally
from aftermap.workflows.mapping.classes import map_classes
from aftermap.workflows.scoring.evaluate import evaluate_legend
from aftermap.workflows.training.config import DataConfig
from aftermap.workflows.training.training_kind import data_licence
from incremental_runs import TINY, tiny_recipe

pytestmark = pytest.mark.usefixtures("undrawn")

NAMES = ("unchanged", "built", "torn_down")
RECIPE = {
    "task": None,
    "classes": list(NAMES),
    "model": TINY["model"] | {"kind": "siamese-unet", "fuse": "difference"},
    "objective": {"method": "fine-tuning"},
    "sampling": {"crop_px": 32, "batch_size": 4},
    "optimizer": {"lr": 0.02},
    "steps": 40,
    "evaluate_every": 40,
}


def pair(seed):
    """Two dates uint8 (64, 64, 3) of a house that stays, one that comes, one that goes; and what became of it."""
    rng = np.random.default_rng(seed)
    corners = rng.permutation([(4, 4), (4, 36), (36, 4), (36, 36)])
    dates = [rng.integers(60, 90, (64, 64, 3)).astype(np.uint8) for _ in range(2)]
    mask = np.zeros((64, 64), np.uint8)
    for kind, (row, col) in zip(("stays", "comes", "goes"), corners, strict=False):
        place = slice(row, row + 22), slice(col, col + 22)
        for date, image in enumerate(dates):
            if kind == "stays" or (kind == "comes") == (date == 1):
                image[place] = 220
        mask[place] = {"stays": 0, "comes": 1, "goes": 2}[kind]
    return dates, mask


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    def sample(seed):
        dates, mask = pair(seed)
        return {"image": np.stack(dates).transpose(0, 3, 1, 2), "mask": mask}

    parts = {"train": range(6), "val": range(6, 8), "test": range(8, 10)}
    dataset = samples_dataset(
        {name: Part([sample(seed) for seed in seeds]) for name, seeds in parts.items()},
        meaning=Meaning(legend_named(NAMES, "moves")),
        licence="CC BY-NC 4.0",
    )
    folder = tmp_path_factory.mktemp("data") / "pairs"
    prepare(dataset, folder)
    return folder


@pytest.fixture(scope="module")
def model(pairs, tmp_path_factory):
    return learn_incrementally(tiny_recipe(pairs, **RECIPE), tmp_path_factory.mktemp("runs") / "moves").model


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A pair that no model has seen, in metres, with a corner that the second date does not show."""
    folder = tmp_path_factory.mktemp("images")
    for name, image in zip(("pre", "post"), pair(20)[0], strict=True):
        if name == "post":
            image[:3, :3] = 0
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8",
            crs="EPSG:32630", transform=Affine(0.5, 0, 500_000, 0, -0.5, 600_000), nodata=0,
        ) as file:  # fmt: skip
            file.write(image.transpose(2, 0, 1))
    return folder


def test_what_came_and_went_between_two_dates_is_learned_under_its_own_names(pairs, model):
    card = load_card(model)
    assert (card.dates, card.classes.names, card.legend.background) == (2, NAMES, 0)
    manifest = Manifest.load(pairs)
    scores = evaluate_legend(opened(model), manifest, manifest.select("test"))
    assert min(scores.iou[1:]) > 0.7, scores.iou  # one date alone cannot tell what came from what stayed


def test_a_map_of_two_dates_has_the_classes_of_the_model(model, images, tmp_path):
    made = api.map(images / "pre.tif", images / "post.tif", tmp_path / "map", model=model, align="off")
    assert made.task == "classes"
    with rasterio.open(tmp_path / "map" / "classes.tif") as file:
        told = file.read(1)
    truth = pair(20)[1]
    assert (told[:3, :3] == IGNORE).all() and (told == truth).mean() > 0.9
    summary = json.loads((tmp_path / "map" / "summary.json").read_text())
    assert list(summary["classes"]) == list(NAMES)
    assert summary["not_assessed"]["reasons"] == {"no data after": 9}
    regions = geopandas.read_file(tmp_path / "map" / "classes.gpkg", layer="classes")
    assert {"built", "torn_down"} == set(regions["class"])
    page = (tmp_path / "map" / "map.html").read_text()
    assert "The model was learned from data under CC BY-NC 4.0: no commercial use." in page
    assert '"under"' in page and '"views":["Before","After"]' in page.replace(", ", ",").replace(": ", ":")


def test_the_licence_of_the_data_is_on_card_and_page_with_the_use_that_it_leaves(pairs, model, tmp_path):
    assert load_card(model).training.data_licence == "CC BY-NC 4.0"
    assert "- Use of the data: no commercial use" in (model / "README.md").read_text()
    other = Manifest.load(pairs).model_copy(update={"licence": None})
    other.save(tmp_path)
    both = DataConfig(manifests=[pairs, tmp_path, pairs])
    assert data_licence(both) == "CC BY-NC 4.0; not stated"
    assert data_licence(both.model_copy(update={"licence": "ours"})) == "ours"


def test_a_pixel_that_either_date_does_not_show_has_no_class(pairs, images):
    scene = Manifest.load(pairs).scenes[0].model_copy(update={"post": images / "post.tif"})
    mask = read_mask(scene, target="classes")
    assert (mask[:3, :3] == IGNORE).all() and (mask[3:] != IGNORE).all()


def test_classes_of_pairs_are_refused_where_they_cannot_be_learned_or_mapped(
    pairs, model, images, tmp_path, capsys
):
    with pytest.raises(RecipeError, match="task and classes both say what is learned"):
        build_config(IncrementalRecipe, TINY | {"classes": list(NAMES), "data": {"manifests": [str(pairs)]}})
    with pytest.raises(RecipeError, match="a model of two dates is shown red, green and blue"):
        bands = {"bands": ["red", "green"], "normalisation": {"mean": [127.5] * 2, "std": [127.5] * 2}}
        learn_incrementally(tiny_recipe(pairs, **RECIPE, **bands), tmp_path / "a")
    single = Manifest.load(pairs)
    single = single.model_copy(
        update={"scenes": [s.model_copy(update={"post": None}) for s in single.scenes]}
    )
    single.save(tmp_path / "single")
    with pytest.raises(DataError, match="the scenes have one date, the model looks at two"):
        learn_incrementally(tiny_recipe(tmp_path / "single", **RECIPE), tmp_path / "b")
    with pytest.raises(InputError, match="compares two dates: pass the image from after too"):
        map_classes(images / "pre.tif", tmp_path / "c", model=model)
    with pytest.raises(SystemExit) as left:
        main(
            [
                "map",
                str(images / "pre.tif"),
                str(images / "post.tif"),
                "--task",
                "classes",
                "-o",
                str(tmp_path / "d"),
            ]
        )
    assert (
        left.value.code == 2
        and "--task classes maps one date, found a second image" in capsys.readouterr().err
    )
