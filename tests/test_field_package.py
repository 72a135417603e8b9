"""The package with the model `field`: its licence is said everywhere, it is no part of aftermap, and it maps."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

import aftermap
from aftermap.artefacts.folder import card_in
from aftermap.artefacts.installed import FIELD, FIELD_ONE_DATE, GROUP
from aftermap.inference.tiling import predict_scene

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "packages" / "aftermap-field"
MODEL = PACKAGE / "src" / "aftermap_field" / "model"
ONE_DATE = PACKAGE / "src" / "aftermap_field_one_date" / "model"
LICENCE = "CC BY-NC-SA 4.0"


def test_the_licence_stands_in_package_card_and_notice():
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    assert project["license"] == "CC-BY-NC-SA-4.0"
    assert project["entry-points"][GROUP] == {
        FIELD: "aftermap_field",
        FIELD_ONE_DATE: "aftermap_field_one_date",
    }
    for model in (MODEL, ONE_DATE):
        card = card_in(model, model)
        assert card.licence == LICENCE and card.training.data_licence.startswith(LICENCE)
        assert LICENCE in (model / "README.md").read_text()
    notice = (PACKAGE / "LICENSE").read_text()
    assert "by-nc-sa/4.0/legalcode" in notice and "xBD" in notice and "Maxar" in notice


def test_aftermaps_own_wheel_and_archive_hold_nothing_of_it():
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["packages"] == ["src/aftermap"]
    assert not [path for path in targets["sdist"]["include"] if path.startswith("packages")]
    assert not list((ROOT / "src").rglob("*field*/model.safetensors"))


def test_one_of_its_models_maps_from_one_date():
    assert card_in(MODEL, MODEL).one_date == ()
    card = card_in(ONE_DATE, ONE_DATE)
    assert card.one_date == ("post-only", "pre-only") and card.destroyed_threshold < 0.5
    graph = json.loads((ONE_DATE / "exported" / "openvino-int8" / "exported.json").read_text())
    assert (graph["one_date"], graph["destroyed_threshold"]) == (
        list(card.one_date),
        card.destroyed_threshold,
    )


@pytest.mark.parametrize("model", [MODEL, ONE_DATE], ids=["field", "one date"])
def test_its_card_says_how_it_does_on_events_that_it_has_not_seen(model):
    card = card_in(model, model)
    unseen = [name for name in card.metrics if name.startswith("unseen: ")]
    assert len(unseen) >= 4
    assert all(
        {"localization", "phantoms", "found", "AUC", "ECE"} <= card.metrics[name].keys() for name in unseen
    )
    assert card.calibration is not None and set(card.calibration.events) == {n[8:] for n in unseen}
    assert card.object_threshold > 0


def test_network_and_graph_see_the_same_houses():
    rng = np.random.default_rng(4)
    pre = np.full((3, 256, 256), 90, np.uint8) + rng.integers(0, 12, (3, 256, 256), dtype=np.uint8)
    pre[1] += 15  # a meadow
    for row in range(40, 220, 60):
        for col in range(40, 220, 60):
            pre[:, row : row + 24, col : col + 30] = rng.integers(150, 220, (3, 1, 1), dtype=np.uint8)
    images = np.stack([pre, pre])
    network, graph = (
        predict_scene(aftermap.open_model(path), images)
        for path in (MODEL, MODEL / "exported" / "openvino-int8")
    )
    assert network.shape == graph.shape == (5, 256, 256)
    houses = 1 - network[0, 52, 55], 1 - network[0, 112, 115]
    assert min(houses) > 0.5 > 1 - network[0, 10, 10]
    assert np.abs((network[0] > 0.6) ^ (graph[0] > 0.6)).mean() < 0.02
