"""A network adapted with the answers to a map: colours that mean other damage than the network knows."""

import json

import cv2
import numpy as np
import pytest
from test_adapt import COLOURS, save

from aftermap.artefacts.store import load_model, save_model
from aftermap.classes import DAMAGE, IGNORE
from aftermap.cli.app import main
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import InputError
from aftermap.files import write_json
from aftermap.workflows.adaptation import answer_scenes as module
from aftermap.workflows.adaptation.config import AdaptConfig
from aftermap.workflows.adaptation.with_labels import fine_tune
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.mapping.provenance import describe_input
from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.review.images import open_images
from reviewed_map import GROUND, SIDE, make_map, write_image

pytestmark = pytest.mark.usefixtures("undrawn")


def painted(meaning):
    """Both dates of a town of 25 squares, and its mask: square n has colour n % 4."""
    pre = np.full((SIDE, SIDE, 3), 100, np.uint8)
    post, mask = pre.copy(), np.zeros((SIDE, SIDE), np.uint8)
    for n in range(25):
        top, left = 12 + 36 * (n // 5), 12 + 36 * (n % 5)
        area = slice(top, top + 16), slice(left, left + 16)
        pre[area], post[area], mask[area] = 230, COLOURS[n % 4], meaning[n % 4]
    return pre, post, mask


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """Knows where buildings are, and takes each colour for the damage that another one means."""
    folder = tmp_path_factory.mktemp("parent")
    pre, post, mask = painted((1, 2, 3, 4))
    files = {
        "pre": pre[..., ::-1],
        "post": post[..., ::-1],
        "building_mask": np.uint8(mask > 0),
        "damage_mask": mask,
    }
    for role, pixels in files.items():
        cv2.imwrite(str(folder / f"{role}.png"), pixels)
    paths = {role: folder / f"{role}.png" for role in files}
    counts = np.bincount(mask.ravel(), minlength=5).tolist()
    scene = Scene(name="town", event="known", width=SIDE, height=SIDE, class_pixels=counts, **paths)
    model = save(folder / "model")
    loaded = load_model(model)
    config = AdaptConfig(model=str(model), data=folder, event="known", steps=60, lr=0.02, norm="updated")
    config = config.model_copy(update={"shots": config.shots.model_copy(update={"crop_px": 64})})
    for _ in fine_tune(loaded, [scene], config):
        pass
    save_model(model, loaded.model, loaded.card)
    return model


@pytest.fixture
def reviewed(tmp_path, monkeypatch):
    """A map whose buildings were answered: colours mean the reverse. Squares of ground of 64 px."""
    monkeypatch.setattr(module, "SIDE_PX", 64)
    monkeypatch.setattr(module, "FEWEST", 20)
    found = make_map(tmp_path)
    pre, post, _ = painted((4, 3, 2, 1))
    for name, pixels in (("before", pre), ("after", post)):
        write_image(tmp_path / f"{name}.tif", np.moveaxis(pixels, -1, 0), GROUND)
    inputs = {
        date: describe_input([tmp_path / f"{name}.tif"], GROUND, dtype="uint8", bands=[1, 2, 3])
        for date, name in (("pre", "before"), ("post", "after"))
    }
    write_json(found.folder / "provenance.json", found.provenance | {"inputs": inputs})
    Journal(found.folder).add(
        Answer(building_id=f"b{n}", verdict=DAMAGE.names[4 - n % 4], reviewer="ana") for n in range(23)
    )
    told = [Answer(building_id="b23", verdict="not-a-building", reviewer="ana")]
    Journal(found.folder).add([*told, Answer(building_id="b24", verdict="cannot-tell", reviewer="ana")])
    return open_map(found.folder)


def test_answers_are_known_and_nothing_else_is(reviewed):
    folder = module.answer_scenes(reviewed, open_images(reviewed))
    scenes = Manifest.load(folder).scenes
    assert len(scenes) == 9 and sum(sum(scene.polygons.values()) for scene in scenes) == 23
    whole = np.full((SIDE, SIDE), IGNORE, np.uint8)
    for scene in scenes:
        row, col = (64 * int(part) for part in scene.name.split("_")[1:])
        whole[row : row + 64, col : col + 64] = cv2.imread(str(scene.damage_mask), cv2.IMREAD_UNCHANGED)
    assert whole[20, 20] == 4 and whole[20, 56] == 3 and whole[40, 40] == IGNORE
    assert whole[12 + 36 * 4 + 8, 12 + 36 * 3 + 8] == 0  # b23 is none
    assert whole[12 + 36 * 4 + 8, 12 + 36 * 4 + 8] == IGNORE  # of b24 nothing can be told


def test_the_network_learns_from_them_and_the_map_stays(reviewed, parent, tmp_path, capsys):
    before = (reviewed.folder / "buildings.gpkg").read_bytes()
    words = ["adapt", str(reviewed.folder), "--parent", str(parent), "--steps", "60", "--lr", "0.02"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--precision", "no", "-o", str(tmp_path / "run"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and told["kept"] == "adapted"
    assert told["after"]["score"] > told["before"]["score"] + 0.3
    assert told["after"]["building_share"] == pytest.approx(told["before"]["building_share"], rel=0.2)
    assert (reviewed.folder / "buildings.gpkg").read_bytes() == before
    assert "answers of reviewers" in (tmp_path / "run" / "model" / "card.json").read_text()


def test_too_few_answers_and_another_models_map_are_refused(reviewed, monkeypatch):
    with pytest.raises(InputError, match="was mapped by None: pass its folder with --parent"):
        module.adaptation_of_map(reviewed.folder)
    monkeypatch.setattr(module, "FEWEST", 30)
    with pytest.raises(
        InputError, match="23 answers that tell the damage of a building: a network needs at least 30"
    ):
        module.adaptation_of_map(reviewed.folder, parent="box")
