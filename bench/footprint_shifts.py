"""Footprints beside their houses: what `aftermap map --align-footprints` makes of made-up offsets.

    python bench/footprint_shifts.py /tmp/events [--every 3] [--model box]

Scenes are those of events.py. The polygons that were drawn on them count as true; they are moved by made-up offsets, one
of a length for a whole scene plus one that changes from place to place (a random value at each of 5 x 5 nodes, linear
between), and measured and moved back on the image before.

    IoU       of the outlines with the true ones, mean over buildings, as given and once moved
    offset    mean distance from the true place in pixels, as given and once moved
    moved     share of the buildings that are moved
    worse     share of the buildings whose IoU falls by more than 0.05
    AUC       that a damaged building ranks above an undamaged one by the model, for outlines at their true place, as
              given and once moved; only with --model
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import shapely

import aftermap
from aftermap.data.readers.xbd import read_label_file
from aftermap.data.scene import Scene, read_image, read_images
from aftermap.geo.alignment.footprint_shifts import measure_footprint_shifts
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import Patch
from aftermap.inference.objects.buildings import Evidence
from aftermap.inference.objects.painting import Painter
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from events import LEVELS, SOURCE, auc, scenes_of

KINDS = {  # length in pixels over the scene, standard deviation from place to place, of each building by itself
    "none (as drawn)": (0.0, 0.0, 0.0),
    "3 px": (3.0, 0.0, 0.0),
    "5 px, places 1.5 px": (5.0, 1.5, 0.0),
    "10 px, places 2 px": (10.0, 2.0, 0.0),
    "places 3 px": (0.0, 3.0, 0.0),
    "each by itself 3 px": (0.0, 0.0, 3.0),
}


def moved(shapes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Shapes moved by offsets (n, 2)."""
    corners, owner = shapely.get_coordinates(shapes, return_index=True)
    return shapely.set_coordinates(shapes.copy(), corners + offsets[owner])


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    shared = shapely.area(shapely.intersection(first, second))
    return shared / (shapely.area(first) + shapely.area(second) - shared)


def made_up(
    rng: np.random.Generator, places: np.ndarray, size: tuple[int, int], kind: tuple[float, float, float]
) -> np.ndarray:
    """Offsets (n, 2) of buildings at places (n, 2)."""
    length, sideways, own = kind
    angle = rng.uniform(0, 2 * np.pi)
    nodes = rng.normal(0, 1, (2, 5, 5)).astype(np.float32) * sideways
    at = (places / (size[1], size[0]) * 4).astype(np.float32).reshape(-1, 1, 2)
    local = np.column_stack([cv2.remap(n, at, None, cv2.INTER_LINEAR)[:, 0] for n in nodes])
    alone = rng.normal(0, 1, (len(places), 2)) * own
    return length * np.array([np.cos(angle), np.sin(angle)]) + local + alone


def ranked(probabilities: np.ndarray, shapes: np.ndarray, model: AnyPredictor) -> np.ndarray:
    """1 - p(no damage) of every outline, nan where nothing is seen."""
    height, width = probabilities.shape[-2:]
    evidence = Evidence(len(shapes), model.damage_weights)
    for labels in Painter(list(shapes), width).paint(0, height):
        evidence.add(labels, probabilities, np.zeros((height, width), np.uint8))
    seen = evidence.pixels[:, :1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - evidence.levels[:, 4] / np.where(seen[:, 0] > 0, seen[:, 0], np.nan)


def of_scene(
    scene: Scene, rng: np.random.Generator, kind: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True, given and moved outlines, damage levels (-1 unknown), and whether each was moved."""
    label = read_label_file(scene.post.parent.parent / "labels" / f"{scene.post.stem}.json")
    true = np.array([polygon.buffer(0) for polygon in label.polygons], dtype=object)
    levels = np.array([LEVELS.index(s) if s in LEVELS else -1 for s in label.subtypes], int)
    solid = ~shapely.is_empty(true)
    true, levels = true[solid], levels[solid]
    size, image = (scene.height, scene.width), read_image(scene.pre)
    places = shapely.get_coordinates(shapely.centroid(true)).reshape(-1, 2)
    given = moved(true, made_up(rng, places, size, kind))

    def read(window: Window) -> Patch:
        there = image[:, *window.slices]
        grid = Grid.pixels(window.width, window.height)
        return Patch(there, np.ones(there.shape[1:], bool), grid)

    found = measure_footprint_shifts(list(given), read, size, resolution_m=scene.resolution_m)
    after = moved(given, np.column_stack([found.dx_px, found.dy_px]))
    return true, given, after, levels, found.moved


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="that of events.py")
    parser.add_argument("--data", type=Path, default=SOURCE)
    parser.add_argument("--every", type=int, default=1, help="only each so many scenes")
    parser.add_argument("--model", default="", help="measure AUC with it, too")
    parser.add_argument("--by-event", action="store_true", help="a row for each event")
    options = parser.parse_args()
    model = aftermap.open_model(options.model) if options.model else None
    events = scenes_of(options.folder, options.data)
    chosen = [(event, scene) for event, scenes in events.items() for scene in scenes[:: options.every]]
    seen = (
        {}
        if model is None
        else {scene.name: predict_scene(model, read_images(scene, dates=2)) for _, scene in chosen}
    )
    print(
        "| offsets | buildings | IoU | moved back | offset, px | moved back | moved | worse | ms each | AUC |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    for name, kind in KINDS.items():
        rng, rows = np.random.default_rng(0), []
        for event, scene in chosen:
            begun = time.process_time()
            true, given, after, levels, was_moved = of_scene(scene, rng, kind)
            spent = 1000 * (time.process_time() - begun) / max(len(true), 1)
            centres = [shapely.get_coordinates(shapely.centroid(s)) for s in (true, given, after)]
            ranks = [
                np.full(len(true), np.nan) if model is None else ranked(seen[scene.name], shapes, model)
                for shapes in (true, given, after)
            ]
            rows.append(
                np.column_stack(
                    [
                        np.full(len(true), list(events).index(event)),
                        overlap(given, true),
                        overlap(after, true),
                        np.hypot(*(centres[1] - centres[0]).T),
                        np.hypot(*(centres[2] - centres[0]).T),
                        was_moved,
                        np.full(len(true), spent),
                        levels,
                        *ranks,
                    ]
                )
            )
        table = np.concatenate(rows)
        groups = [("", np.ones(len(table), bool))]
        if options.by_event:
            groups += [(f", {event}", table[:, 0] == number) for number, event in enumerate(events)]
        for which, here in groups:
            print(line(f"{name}{which}", table[here], model is not None), flush=True)


def line(name: str, table: np.ndarray, with_auc: bool) -> str:
    before, after = table[:, 1], table[:, 2]
    cells = [
        f"{len(table):,}",
        *(f"{table[:, column].mean():.3f}" for column in (1, 2)),
        *(f"{table[:, column].mean():.2f}" for column in (3, 4, 5)),
        f"{(after < before - 0.05).mean():.3f}",
        f"{table[:, 6].mean():.1f}",
    ]
    known = (table[:, 7] >= 0) & np.isfinite(table[:, 8:]).all(axis=1)
    damaged = table[known, 7] > 0
    ranks = [f"{auc(table[known, column], damaged):.3f}" for column in (8, 9, 10)] if with_auc else []
    return f"| {name} | " + " | ".join([*cells, ", ".join(ranks)]) + " |"


if __name__ == "__main__":
    main()
