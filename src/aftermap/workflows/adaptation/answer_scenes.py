"""The answers to a map as a dataset: cut-outs of its images in which single buildings are known and nothing else is.

    OUT/review/scenes/manifest.json     one scene for each square of ground with an answer
    OUT/review/scenes/*.png             both dates as the map read them, and the masks

A building that was answered has its class within its outline, the reviewer's where they moved or drew it; one that is no
building is ground there. All other pixels, and what nobody could tell, are unknown (`IGNORE`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely

from aftermap.artefacts.store import load_card
from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.loading.sampling import ShotConfig
from aftermap.data.masks import paint
from aftermap.data.scene import MANIFEST_NAME, Manifest, Scene
from aftermap.errors import InputError
from aftermap.files import replacing_folder
from aftermap.geo.grid import Window
from aftermap.workflows.adaptation.config import AdaptConfig, wanted_adaptation
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.review.answers import FOLDER, NOT_A_BUILDING, Answer, Journal, check_shown, settle
from aftermap.workflows.review.crops import from_geojson, in_pixels
from aftermap.workflows.review.images import MapImages, open_images

SCENES = "scenes"
SIDE_PX = 512
LEARNT = 2 / 3
LEARNING_RATE = 5e-4
"""Half of what whole scenes take: answers are few, and say little of what lies between."""

FEWEST = 30
"""Answers with a class below which nothing is learnt."""

_LEVELS = {name: level for level, name in enumerate(DAMAGE.names) if level} | {NOT_A_BUILDING: 0}


@dataclass(frozen=True)
class Told:
    """An answered building: its outline in pixels of the map, and its value in a mask (0 for none)."""

    shape: shapely.geometry.base.BaseGeometry
    value: int


def answer_scenes(found: FinishedMap, images: MapImages) -> Path:
    """Write the answers to a map as a prepared dataset; its folder.

    Raises:
        InputError: too few answers, all in one square, or of another map.
        RasterError: the images cannot be read.
        OutputError: the dataset cannot be written.
    """
    answers = Journal(found.folder).answers()
    check_shown(answers, found.outlines_sha256, found.folder)
    squares: dict[tuple[int, int], list[Told]] = {}
    for told in told_buildings(found, settle(answers).values()):
        middle = shapely.centroid(told.shape)
        key = int(middle.y // SIDE_PX), int(middle.x // SIDE_PX)
        squares.setdefault(key, []).append(told)
    known = sum(told.value > 0 for square in squares.values() for told in square)
    if known < FEWEST:
        raise InputError(
            f"{found.folder} has {known} answers that tell the damage of a building: a network needs at least {FEWEST}; "
            f"give them with 'aftermap review {found.folder}'"
        )
    if sum(any(told.value for told in square) for square in squares.values()) < 2:
        raise InputError(
            f"all answers lie within one square of {SIDE_PX} px: nothing is left to measure on; answer elsewhere too"
        )
    folder = found.folder / FOLDER / SCENES
    with replacing_folder(folder, ours=(MANIFEST_NAME, "*.png")) as part:
        scenes = [_scene(part, found, images, key, squares[key]) for key in sorted(squares)]
        Manifest(
            kind="answers",
            scheme=DAMAGE.name,
            licence="imagery of the map, answers of its reviewers",
            scenes=scenes,
        ).save(part)
    return folder


def adaptation_of_map(
    folder: Path, *, parent: str | None = None, pre: Path | None = None, post: Path | None = None, **said: Any
) -> AdaptConfig:
    """How the network of a map is adapted with the answers to it; they are written as a dataset first.

    Two thirds of the squares with answers are learned from, the others say whether it helped.

    Args:
        folder: of the map.
        parent: the model to adapt; by default the one in the box, where the map is its.
        pre: the image from before, where it does not lie near the map.
        post: the image from after.
        said: other keys of `AdaptConfig`.

    Raises:
        InputError: the images are not there, too few answers, or the map is another model's.
        OutputError: the dataset cannot be written.
        RecipeError: a key or value is wrong.
    """
    found = open_map(folder)
    made_by = str((found.provenance.get("model") or {}).get("name"))
    if parent is None and made_by != load_card("box").name:
        raise InputError(
            f"{folder} was mapped by {made_by}: pass its folder with --parent, or another model to adapt"
        )
    images = open_images(found, pre, post)
    try:
        data = answer_scenes(found, images)
    finally:
        images.close()
    scenes = Manifest.load(data).scenes
    rich = sum(bool(scene.polygons) for scene in scenes)
    given: dict[str, Any] = {
        "answers": True,
        "event": scenes[0].event,
        "scenes": max(1, min(rich - 1, round(rich * LEARNT))),
    }
    given |= {"shots": ShotConfig(class_share=1.0, turn=True), "lr": LEARNING_RATE}
    config = wanted_adaptation(parent or "box", data, **(given | said))
    assert isinstance(config, AdaptConfig), "answers are labels"
    return config


def told_buildings(found: FinishedMap, answers: Iterable[Answer]) -> list[Told]:
    """Buildings of which something was said; those that cannot be told are not among them.

    Args:
        found: the map.
        answers: one for each building, see `settle`.
    """
    shapes = dict(zip(found.buildings["building_id"].astype(str), found.buildings.geometry, strict=True))
    placed, values = [], []
    for answer in answers:
        own = shapes.get(answer.building_id)
        shape = own if answer.geometry is None else from_geojson(answer.geometry, found)
        if shape is not None and answer.verdict in _LEVELS:
            placed.append(shape)
            values.append(_LEVELS[answer.verdict])
    moved = in_pixels(np.array(placed, object), found.grid) if placed else ()
    whole = shapely.box(0, 0, found.grid.width, found.grid.height)
    return [Told(shape, value) for shape, value in zip(moved, values, strict=True) if shape.intersects(whole)]


def _scene(
    folder: Path, found: FinishedMap, images: MapImages, key: tuple[int, int], told: list[Told]
) -> Scene:
    """A square of ground: its pictures, and masks that know the buildings whose middle lies in it."""
    row, col = key
    height = min(SIDE_PX, found.grid.height - row * SIDE_PX)
    width = min(SIDE_PX, found.grid.width - col * SIDE_PX)
    window = Window(row * SIDE_PX, col * SIDE_PX, height, width)
    damage = np.full((height, width), IGNORE, np.uint8)
    for each in sorted(told, key=lambda each: each.value):
        moved = shapely.transform(each.shape, lambda xy: xy - (window.col, window.row))
        for polygon in shapely.get_parts(moved):
            paint(damage, polygon, each.value)
    building = np.where(damage == IGNORE, IGNORE, np.minimum(damage, 1)).astype(np.uint8)
    pre, post = images.read(window, SIDE_PX)
    name = f"answers_{row:03d}_{col:03d}"
    files = {"pre": pre[..., ::-1], "post": post[..., ::-1], "building_mask": building, "damage_mask": damage}
    paths = {role: folder / f"{name}_{role}.png" for role in files}
    for role, pixels in files.items():
        if not cv2.imwrite(str(paths[role]), pixels):
            raise OSError(f"cannot write {paths[role]}")
    counts = np.bincount(damage[damage != IGNORE], minlength=5).tolist()
    polygons = {
        level: sum(each.value == value for each in told)
        for value, level in enumerate(DAMAGE.names)
        if value and any(each.value == value for each in told)
    }
    return Scene(
        name=name,
        event=found.folder.absolute().name,
        pre=paths["pre"],
        post=paths["post"],
        building_mask=paths["building_mask"],
        damage_mask=paths["damage_mask"],
        width=width,
        height=height,
        resolution_m=found.grid.resolution_m,
        class_pixels=counts,
        polygons=polygons,
    )
