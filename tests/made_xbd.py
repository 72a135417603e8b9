"""Small xBD folders and manifests, made for tests."""

import json
from pathlib import Path

import cv2
import numpy as np
import rasterio
from affine import Affine

from aftermap.data.scene import Manifest, Scene, SceneGrid

STEP = 5e-6


def box(col, row, size=6):
    """WKT of a square with its upper left corner at (col, row)."""
    right, low = col + size, row + size
    return f"POLYGON (({col} {row}, {right} {row}, {right} {low}, {col} {low}, {col} {row}))"


def degrees(wkt, lon, lat):
    """The same WKT in degrees: `STEP` per pixel, north up, upper left corner at (lon, lat)."""
    points = [pair.split() for pair in wkt[len("POLYGON ((") : -2].split(", ")]
    return (
        "POLYGON (("
        + ", ".join(f"{lon + STEP * float(x)!r} {lat - STEP * float(y)!r}" for x, y in points)
        + "))"
    )


def label(wkts, subtypes=None, *, lon=-85.5, lat=30.25, event="storm", size=32):
    """Content of a label file."""
    xy, lng_lat = [], []
    for number, wkt in enumerate(wkts):
        properties = {"feature_type": "building", "uid": f"u{number}"}
        if subtypes is not None:
            properties["subtype"] = subtypes[number]
        xy.append({"properties": properties, "wkt": wkt})
        lng_lat.append({"properties": properties, "wkt": degrees(wkt, lon, lat)})
    metadata = {"disaster": event, "width": size, "height": size, "gsd": 1.9}
    return {"features": {"xy": xy, "lng_lat": lng_lat}, "metadata": metadata}


def image(seed, size=32):
    """A random RGB image."""
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)


def write_image(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)
    return path


def write_pair(
    root: Path, number, wkts, subtypes, *, event="storm", size=32, lon=-85.5, lat=30.25, labelled=True
):
    """One xBD pair below `root`; images differ by number."""
    stem = f"{event}_{number:08d}"
    for date, seed in (("pre", 2 * number), ("post", 2 * number + 1)):
        write_image(root / "images" / f"{stem}_{date}_disaster.png", image(seed + 1000 * len(event), size))
        if labelled:
            classes = subtypes if date == "post" else None
            text = json.dumps(label(wkts, classes, lon=lon, lat=lat, event=event, size=size))
            file = root / "labels" / f"{stem}_{date}_disaster.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return stem


def write_tiff(path, *, crs="EPSG:32616", origin=(500_000, 3_300_000), dtype="uint8", count=3):
    """A georeferenced image of 32 x 32 pixels of 0.5 m."""
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(0.5, 0, origin[0], 0, -0.5, origin[1])
    with rasterio.open(
        path, "w", driver="GTiff", width=32, height=32, count=count, dtype=dtype, crs=crs, transform=transform
    ) as file:
        file.write(np.full((count, 32, 32), 7, dtype))


def scene(name, *, event="storm", col=0, row=0, polygons=None, split="unassigned", size=100, **more):
    """A scene of a grid of touching tiles; no files behind it."""
    side = STEP * size
    grid = SceneGrid(crs="EPSG:4326", transform=(STEP, 0, -85.5 + side * col, 0, -STEP, 30.25 - side * row))
    fields = {
        "name": name,
        "event": event,
        "split": split,
        "pre": Path(f"{name}_pre.png"),
        "post": Path(f"{name}_post.png"),
        "width": size,
        "height": size,
        "grid": grid,
        "polygons": polygons or {},
        "checksums": {"pre": f"{name}-pre", "post": f"{name}-post"},
    }
    return Scene(**(fields | more))


def manifest(scenes, **more):
    return Manifest(**({"kind": "xbd", "scheme": "joint-damage-scale", "scenes": list(scenes)} | more))
