"""docs/extending.md is followed as a newcomer would: every file is written, every command is run, on tiny images."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from document_commands import ROOT

from aftermap.cli.app import main
from aftermap.data.scene import Manifest, read_mask
from squares import make_dataset

BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)
TINY = [
    *("sampling.crop_px=32", "sampling.batch_size=2", "optimizer.schedule.warmup_steps=1", "precision=no"),
    *("steps=1", "evaluate_every=1", "validation_scenes=1"),
]
NARROW = ["model.encoder_depth=2", "model.decoder_channels=[8,8]"]
EXTRA = {"edges.yaml": TINY + NARROW, "recipes/localization.yaml": TINY + NARROW, "plain.yaml": TINY}


def call(*words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def run(line, folder, patch):
    """A line of a shell, in this process."""
    words = shlex.split(line)
    if words[0] == "export":
        patch.syspath_prepend(folder / words[1].removeprefix("PYTHONPATH="))
    elif words[0] == "python":
        patch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
    else:
        assert words[0] == "aftermap", line
        extra = EXTRA[words[2]] if words[1] == "train" else []
        assert call(*words[1:], *extra) == 0, line


def make_images(folder):
    """What the page's two readers read: pairs with grades of damage, and photographs with water."""
    for name in ("storm", "fields"):
        (folder / name).mkdir()
    grade = np.full((64, 64), 255, np.uint8)
    grade[8:24, 8:24], grade[8:24, 36:52], grade[36:52, 8:24], grade[36:52, 36:52] = 0, 10, 79, 100
    random = np.random.default_rng(0)
    for number in range(4):
        for role in ("before", "after"):
            cv2.imwrite(f"{folder}/storm/{number}_{role}.png", random.integers(0, 255, (64, 64, 3), np.uint8))
        cv2.imwrite(f"{folder}/storm/{number}_damage.png", grade)
        cv2.imwrite(f"{folder}/fields/{number}.jpg", random.integers(0, 255, (64, 64, 3), np.uint8))
        cv2.imwrite(f"{folder}/fields/{number}.water.png", np.where(grade == 255, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder in which the whole page was followed."""
    folder = tmp_path_factory.mktemp("newcomer")
    make_dataset(folder / "xbd-prepared", scenes=4)
    make_images(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for _, title, text in BLOCK.findall((ROOT / "docs" / "extending.md").read_text()):
            if title:
                Path(title).write_text(text)
                continue
            for line in text.strip().splitlines():
                run(line, folder, patch)
        yield folder
    for name in ("losses", "networks"):
        sys.modules.pop(name, None)


def test_the_loss_of_the_page_is_learned_from(followed):
    line = json.loads((followed / "runs/edges/metrics.jsonl").read_text().splitlines()[-1])
    assert line["loss_edges"] > 0 and line["loss_dice"] > 0
    function = re.search(
        r'title="losses.py"\n(.*?)^```', (ROOT / "docs/extending.md").read_text(), re.M | re.S
    )
    assert function is not None and len(function[1].splitlines()) <= 15


def test_the_encoders_of_the_page_are_trained(followed):
    cards = {
        name: json.loads((followed / f"runs/{name}/model/card.json").read_text())
        for name in ("b0", "own", "plain")
    }
    assert cards["b0"]["model"]["encoder_name"] == "efficientnet_b0"
    assert cards["plain"]["model"]["target"] == "networks:Plain"


def test_the_reader_of_the_page_makes_the_masks_that_it_says(followed):
    manifest = Manifest.load(followed / "storm-prepared")
    mask = read_mask(manifest.scenes[0], target="damage")
    # grades 0, 10, 79 and 100 of four squares of 16 pixels
    assert len(manifest.scenes) == 4
    assert mask[[10, 10, 40, 40, 0], [10, 40, 10, 40, 0]].tolist() == [1, 2, 3, 4, 0]


def test_the_reader_of_many_classes_cuts_tiles(followed):
    manifest = Manifest.load(followed / "fields-prepared")
    assert len(manifest.scenes) == 16 and manifest.legend is not None
    # a square of 16 x 16 pixels lies in every tile of 32
    assert all(scene.class_pixels[1] == 256 for scene in manifest.scenes)
