"""Maps of one of two dates: what one image tells, what it does not, and who is refused."""

import io
import json
import shutil

import numpy as np
import pandas
import pytest
import rasterio
from PIL import Image

import colour_town as colours
from aftermap.classes import DESTROYED_OR_NOT
from aftermap.errors import InputError, ModelError
from aftermap.inference.objects import one_date
from aftermap.inference.objects.one_date import DestroyedEvidence, DestroyedPredictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.mapping.inputs.images import map_images
from aftermap.workflows.mapping.one_date import map_one_date
from aftermap.workflows.review.opened import open_review
from aftermap.workflows.totals.run import totals

WINDOWS = {"window_px": 96, "halo_px": 16}
MODES = ("post-only", "pre-only")


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return colours.write_town(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return colours.save_colour_model(tmp_path_factory.mktemp("models") / "colours", one_date=MODES)


@pytest.fixture(scope="module")
def after(tmp_path_factory, town, model):
    return map_images(None, town[1], tmp_path_factory.mktemp("post") / "map", model=model, **WINDOWS)


@pytest.fixture(scope="module")
def before(tmp_path_factory, town, model):
    return map_one_date(
        town[0], tmp_path_factory.mktemp("pre") / "map", mode="pre-only", model=model, **WINDOWS
    )


def test_the_image_from_after_tells_destroyed_houses_from_others(after):
    frame, to_pixels = after.buildings, ~colours.town_grid().transform
    found = {
        tuple(int(v // colours.PITCH_PX) for v in to_pixels * (p.x, p.y))[::-1]: damage
        for p, damage in zip(frame.geometry.centroid, frame["damage"], strict=True)
    }
    assert found == {
        place: "destroyed" if level == 4 else "not-destroyed" for place, level in colours.LEVELS.items()
    }
    assert set(frame["mode"]) == {"post-only"} and set(frame["reason"]) == {""}
    # four logits of -6 or 6: destroyed is e^6 of e^6 + 3 e^-6, or e^-6 of it
    assert frame.loc[frame["damage"] == "destroyed", "p_destroyed"].to_numpy() == pytest.approx(1, abs=0.004)
    assert frame.loc[frame["damage"] != "destroyed", "p_destroyed"].to_numpy() == pytest.approx(0, abs=0.004)
    assert (frame["confidence"] > 0.99).all() and (frame["p_building"] > 0.99).all()


def test_its_rasters_hold_two_classes_and_their_probabilities(after):
    truth = colours.town()[2]
    with rasterio.open(after.folder / "destroyed.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), np.select([truth == 4, truth > 0], [2, 1], 0))
    with rasterio.open(after.folder / "probabilities.tif") as raster:
        assert raster.descriptions == DESTROYED_OR_NOT.names
        np.testing.assert_array_equal(
            raster.read().argmax(axis=0), np.select([truth == 4, truth > 0], [2, 1], 0)
        )
    assert not (after.folder / "damage.tif").exists()


def test_table_summary_page_and_provenance_say_the_mode(after):
    table = pandas.read_csv(after.folder / "buildings.csv")
    assert set(table["mode"]) == {"post-only"} and set(table["post_image"]) == {"post.tif"}
    assert not {"p_no_damage", "p_minor", "p_major", "pre_image"} & set(table.columns)
    assert after.summary["mode"] == "post-only"
    assert after.summary["classes"]["destroyed"]["buildings"] == 4
    assert after.summary["classes"]["not-destroyed"] | {"area_share": 0} == after.summary["classes"][
        "not-destroyed"
    ] | {"buildings": 12, "share": 0.75, "area_share": 0}
    told = json.loads((after.folder / "provenance.json").read_text())
    assert (told["mode"], told["scale"]) == ("post-only", "destroyed-or-not")
    assert (
        told["inputs"]["post"]["files"][0]["name"] == "post.tif"
        and "as both of its dates" in told["notes"][0]
    )
    page = (after.folder / "map.html").read_text()
    assert "Mode: post-only" in page and "of 16 assessed buildings are destroyed" in page


def test_the_image_from_before_gives_outlines_that_nobody_assessed(before):
    frame = before.buildings
    assert len(frame) == 16 and set(frame["damage"]) == {"not-assessed"}
    assert set(frame["reason"]) == {"no image after"} and set(frame["mode"]) == {"pre-only"}
    assert frame["p_destroyed"].isna().all() and frame["confidence"].isna().all()
    assert (frame["p_building"] > 0.99).all()
    assert before.summary["assessed"] == 0 and before.summary["not_assessed"]["reasons"] == {
        "no image after": 16
    }
    assert json.loads((before.folder / "provenance.json").read_text())["mode"] == "pre-only"
    assert "none assessed: there is no image from after" in (before.folder / "map.html").read_text()


def test_footprints_are_judged_and_one_without_ground_has_the_reason(tmp_path, town, model):
    shapes = {"a": colours.houses()[0, 3], "b": colours.houses()[0, 0]}
    footprints = colours.write_footprints(tmp_path / "two.geojson", shapes)
    pixels = colours.town()[1]
    pixels[:, :48, :48] = 0
    image = colours.write_image(tmp_path / "post.tif", pixels, colours.town_grid(), nodata=0)
    found = map_one_date(
        image, tmp_path / "map", mode="post-only", model=model, footprints=footprints, **WINDOWS
    ).buildings.set_index("building_id")
    assert found.loc["a", "damage"] == "destroyed"
    assert (found.loc["b", "damage"], found.loc["b", "reason"]) == ("not-assessed", "no data after")


def test_its_review_shows_the_one_image_and_takes_destroyed_or_not(after, town, tmp_path):
    folder = shutil.copytree(after.folder, tmp_path / "map")
    found = open_map(folder, also=("post-only",))
    with pytest.raises(InputError, match="is a map of the image after alone: leave --pre out"):
        open_review(found, pre=town[0], post=town[1])
    with pytest.raises(InputError, match="cannot learn from a map of the image after alone: leave it out"):
        open_review(found, post=town[1], active=0.3)
    review = open_review(found, post=town[1], budget=16, double=0)
    state = review.state()
    assert (state["dates"], state["active"], state["sample"]) == (("post",), [0, 0], [0, 16])
    assert [level["name"] for level in state["levels"]] == ["not-destroyed", "destroyed"]
    first, second = review.crop(0, "near")
    assert first is second
    shown = np.asarray(Image.open(io.BytesIO(second)).convert("RGB"))
    window = review.crops.window(0, "near")
    middle = window.row + window.height // 2, window.col + window.width // 2
    assert shown[window.height // 2, window.width // 2] == pytest.approx(
        colours.town()[1][:, middle[0], middle[1]], abs=20
    )
    for item in review.take("ana", "b1", count=16):
        said = "destroyed" if item["map"]["damage"] == "destroyed" else "not-destroyed"
        review.answer("ana", {"key": f"key-{item['id']}", "building_id": item["id"], "verdict": said})
    review.crops.close()
    assert totals(folder).words[0] == "4 destroyed buildings: every one was looked at"


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_does_not_declare_it_is_refused_before_anything_is_read(
    tmp_path, town, mode, monkeypatch
):
    monkeypatch.setattr(one_date, "installed_models", dict)
    other = "pre-only" if mode == "post-only" else "post-only"
    model = colours.save_colour_model(tmp_path / "other", one_date=(other,))
    said = f"was not trained for {mode} maps .its card has {other}.: pass both images"
    with pytest.raises(ModelError, match=f"{said}, a model whose card says so .-m field_one_date or"):
        map_one_date(town[0], tmp_path / "map", mode=mode, model=model)
    able = colours.save_colour_model(tmp_path / "able", one_date=(mode,))
    monkeypatch.setattr(one_date, "installed_models", lambda: {"none": model, "able": able})
    with pytest.raises(ModelError, match=f"{said}, -m able, or"):
        map_one_date(town[0], tmp_path / "map", mode=mode, model=model)
    assert not (tmp_path / "map").exists() and not (tmp_path / "map.work").exists()


def test_a_map_of_one_date_is_opened_by_who_can_use_it_and_refused_with_its_name(after, before):
    with pytest.raises(
        InputError, match=r"is a map of the image after alone, .*: this needs one of two dates"
    ):
        open_map(after.folder, also=("pre-only",))
    with pytest.raises(InputError, match=r"is a map of the image before alone, .*: map the image after too"):
        open_map(before.folder, also=("post-only",))
    opened = open_map(after.folder, also=("post-only",))
    assert (opened.one_date, opened.scheme, opened.raster.name) == (
        "post-only",
        DESTROYED_OR_NOT,
        "destroyed.tif",
    )
    assert len(open_map(before.folder, also=("pre-only",)).buildings) == 16


def test_the_card_says_from_which_probability_on_a_building_is_destroyed(tmp_path, town, after):
    sure = colours.save_colour_model(tmp_path / "sure", one_date=MODES, destroyed_threshold=0.0)
    found = map_one_date(town[1], tmp_path / "map", mode="post-only", model=sure, **WINDOWS)
    assert set(found.buildings["damage"]) == {"destroyed"}
    assert found.buildings["p_destroyed"].tolist() == after.buildings["p_destroyed"].tolist()
    with rasterio.open(found.folder / "destroyed.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), 2 * (colours.town()[2] > 0))


def test_the_day_of_the_image_is_its_own(tmp_path, town, model):
    from datetime import date

    with pytest.raises(InputError, match="--pre-date is the day of an image that is not given"):
        map_one_date(town[1], tmp_path / "map", mode="post-only", model=model, pre_date=date(2011, 5, 20))
    told = map_one_date(
        town[1], tmp_path / "map", mode="post-only", model=model, post_date=date(2011, 5, 24), **WINDOWS
    )
    inputs = json.loads((told.folder / "provenance.json").read_text())["inputs"]
    assert list(inputs) == ["post"] and inputs["post"]["acquired"] == "2011-05-24"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("pre", "post", "post-only"), "--task post-only maps one date, found a second image"),
        ((None, "post", "buildings"), "--task buildings does not map the image from after alone"),
        ((None, None, None), "pass the images, or the one from after alone"),
    ],
)
def test_images_and_task_go_together(town, model, tmp_path, given, said):
    images = {"pre": town[0], "post": town[1], None: None}
    with pytest.raises(InputError, match=said):
        map_images(images[given[0]], images[given[1]], tmp_path / "map", task=given[2], model=model)


class Told(AnyPredictor):
    """A model that says the same of every pixel, with decision weights in it."""

    multiple, sha256 = 1, ""

    def __init__(self, card, shares):
        self.card, self.shares = card, shares

    def predict(self, images, valid=None):
        assert images.shape[1] == 2 and (images[:, 0] == images[:, 1]).all()
        return np.broadcast_to(
            np.float32(self.shares)[None, :, None, None], (len(images), 5, *images.shape[-2:])
        )


def test_degrees_short_of_destroyed_are_one_class_without_the_decision_weights(model):
    from aftermap.artefacts.store import load_card

    # background 0.2; the model's own 0.4, 0.1, 0.1, 0.2, of which weights (1, 1, 1, 3) make 4, 1, 1, 6 by 0.8 / 12
    card = load_card(model).model_copy(update={"damage_weights": (1.0, 1.0, 1.0, 3.0)})
    decided = [0.2, 0.8 / 3, 0.2 / 3, 0.2 / 3, 0.4]
    found = DestroyedPredictor(Told(card, decided)).predict(np.zeros((1, 1, 3, 2, 2), np.uint8))
    assert found[0, :, 0, 0] == pytest.approx([0.2, 0.6, 0.2], abs=1e-6)


def test_a_building_is_judged_by_the_mean_share_of_its_pixels():
    evidence = DestroyedEvidence(1)
    # shares of destroyed in buildings 0.2 / 0.8 and 0.6 / 0.6, their mean 0.625; presence 0.8 and 0.6
    pixels = np.array([[0.2, 0.6, 0.2], [0.4, 0.0, 0.6]], np.float32).T[:, None]
    evidence.add(np.array([[1, 1]]), pixels, np.zeros((1, 2), np.uint8))
    assert evidence.levels[0] == pytest.approx([1.25, 1.4])
