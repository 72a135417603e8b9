"""Outlines that look like buildings, against staircases and another library, on what the model in the box sees.

    pip install buildingregulariser==0.2.5      # optional, in an environment of its own
    python bench/outlines.py /tmp/events [--scenes 40]

The masks are those of the box on scenes of ../shared/data/xbd-real (kept in the folder, see events.py); every traced
shape that overlaps a true building by more than half is fitted in each way and compared with what was drawn by hand:

    IoU       overlap of the fitted outline with the true one, mean over buildings
    mask IoU  overlap with the mask that it was traced from: what the fit costs
    corners   mean number of corners; right: share of corners within 5 degrees of a right angle
"""

import argparse
import time
from pathlib import Path

import numpy as np
import shapely
from rasterio.features import shapes as trace_shapes
from shapely import Polygon

import aftermap
from aftermap.data.readers.xbd import read_label_file
from aftermap.geo.outlines import regularise
from events import SOURCE, kept_in, predicted, scenes_of, traced_shapes

TOLERANCE_PX = 1.0


def staircases(labels: np.ndarray) -> np.ndarray:
    """Outlines along pixel edges, holes filled."""
    rings = [
        outline["coordinates"][0] for outline, _ in trace_shapes(labels, mask=labels > 0, connectivity=4)
    ]
    return np.array([Polygon(ring) for ring in rings], dtype=object)


def theirs(shapes: np.ndarray) -> np.ndarray:
    """By buildingregulariser, its own defaults, pixels as metres."""
    import geopandas
    from buildingregulariser import regularize_geodataframe

    frame = geopandas.GeoDataFrame(geometry=shapes, crs="EPSG:32633")
    fitted = regularize_geodataframe(frame, simplify_tolerance=TOLERANCE_PX, num_cores=1)
    return np.array(fitted.geometry, dtype=object)


def corners(shapes: np.ndarray) -> np.ndarray:
    return np.array(
        [len(shape.exterior.coords) - 1 if shape.geom_type == "Polygon" else np.nan for shape in shapes]
    )


def right(shapes: np.ndarray) -> float:
    """Share of corners within 5 degrees of a right angle."""
    found = []
    for shape in shapes:
        if shape.geom_type != "Polygon":
            continue
        points = np.array(shape.exterior.coords)[:-1]
        before, after = np.roll(points, 1, 0) - points, np.roll(points, -1, 0) - points
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        cosine = (before * after).sum(axis=1) / np.maximum(lengths, 1e-9)
        found.append(np.abs(np.degrees(np.arccos(np.clip(cosine, -1, 1))) - 90) <= 5)
    return float(np.concatenate(found).mean())


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    shared = shapely.area(shapely.intersection(first, second))
    return shared / (shapely.area(first) + shapely.area(second) - shared)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="that of events.py")
    parser.add_argument("--data", type=Path, default=SOURCE)
    parser.add_argument("--scenes", type=int, default=40)
    options = parser.parse_args()
    model = aftermap.open_model("box")
    kept = kept_in(options.folder, "box", model)
    scenes = [scene for group in scenes_of(options.folder, options.data).values() for scene in group]
    picked = scenes[:: max(len(scenes) // options.scenes, 1)]
    traced, truth = [], []
    for scene in picked:
        stored = predicted(model, scene, kept)
        label = read_label_file(scene.post.parent.parent / "labels" / f"{scene.post.stem}.json")
        true = np.array([p.buffer(0) for p in label.polygons], dtype=object)
        labels = traced_shapes(stored["building"], model.card.building_threshold, scene)
        if not len(true) or not labels.max():
            continue
        shapes = staircases(labels)
        mine, other = shapely.STRtree(true).query(shapes, predicate="intersects")
        shares = overlap(shapes[mine], true[other])
        for a, b in zip(mine[shares > 0.5], other[shares > 0.5], strict=True):
            traced.append(shapes[a])
            truth.append(true[b])
    shapes, true = np.array(traced, dtype=object), np.array(truth, dtype=object)
    solid = shapely.get_type_id(true) == shapely.GeometryType.POLYGON
    shapes, true = shapes[solid], true[solid]
    ways = {
        "along pixel edges": lambda: shapes,
        "simplified by a pixel": lambda: shapely.simplify(shapes, TOLERANCE_PX),
        "ours": lambda: regularise(shapes, tolerance=TOLERANCE_PX),
        "buildingregulariser": lambda: theirs(shapes),
    }
    print(
        f"{len(shapes):,} buildings of {len(picked)} scenes; drawn by hand: {corners(true).mean():.1f} corners, "
        f"{right(true):.2f} right\n"
    )
    print("| outlines | IoU | mask IoU | corners | right | ms each |\n|---|---:|---:|---:|---:|---:|")
    for name, way in ways.items():
        begun = time.process_time()
        try:
            fitted = way()
        except ModuleNotFoundError:
            print(f"| {name} | not installed | | | | |")
            continue
        spent = 1000 * (time.process_time() - begun) / len(shapes)
        print(
            f"| {name} | {overlap(fitted, true).mean():.3f} | {overlap(fitted, shapes).mean():.3f} | "
            f"{np.nanmean(corners(fitted)):.1f} | {right(fitted):.2f} | {spent:.2f} |"
        )


if __name__ == "__main__":
    main()
