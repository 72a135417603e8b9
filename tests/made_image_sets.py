"""Small copies of the layouts of Open Cities and SpaceNet, made for tests: GeoTIFFs in UTM, labels in degrees."""

import json

import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from shapely.geometry import mapping

SIZE = 200
STEP_M = 0.1


def transform_at(place=0):
    """Upper left corner of an image; places lie 100 m apart."""
    return Affine(STEP_M, 0, 500_000 + 100 * place, 0, -STEP_M, 600_000)


def write_raster(path, *, place=0, count=3, dtype="uint8", size=SIZE, zero=False, seed=None):
    """A random image of `size` px in UTM zone 30 N."""
    path.parent.mkdir(parents=True, exist_ok=True)
    top = 250 if dtype == "uint8" else 2000
    pixels = np.random.default_rng(place if seed is None else seed).integers(1, top, (count, size, size))
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=count, dtype=dtype,
        crs="EPSG:32630", transform=transform_at(place),
    ) as file:  # fmt: skip
        file.write((0 * pixels if zero else pixels).astype(dtype))
    return pixels.astype(dtype)


def write_labels(path, boxes, *, place=0):
    """Boxes (left, top, right, bottom) in pixels of the image at a place, as GeoJSON in degrees."""
    t = transform_at(place)
    move = Transformer.from_crs("EPSG:32630", "EPSG:4326", always_xy=True).transform

    def degrees(xy):
        return np.column_stack(move(t.c + t.a * xy[:, 0], t.f + t.e * xy[:, 1]))

    features = [
        {
            "type": "Feature",
            "properties": {},
            "geometry": mapping(shapely.transform(shapely.box(*box), degrees)),
        }
        for box in boxes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


IMAGES = {
    "train_tier_1/acc/665946": [(20, 30, 60, 80), (120, 130, 160, 150)],
    "train_tier_1/nia/825a50": [(90, 90, 110, 110)],
    "train_tier_2/dar/f883a0": [(5, 5, 35, 25)],
}


def write_opencities(root, *, listing="csv", images=IMAGES, **raster):
    """The challenge's tree with its CSV, or with a STAC catalogue per tier whose labels are items of their own."""
    rows = ["img_uri,label_uri"]
    for place, (folder, boxes) in enumerate(images.items()):
        name = folder.rsplit("/", 1)[1]
        write_raster(root / folder / f"{name}.tif", place=place, **raster)
        label = root / f"{folder}-labels" / f"{name}.geojson"
        write_labels(label, boxes, place=place)
        rows.append(f"{folder}/{name}.tif,{folder}-labels/{name}.geojson")
    if listing == "csv":
        (root / "train_metadata.csv").write_text("\n".join(rows) + "\n")
    else:
        _write_stac(root, images, listing)
    return root


def _write_stac(root, images, listing):
    tiers = {}
    for folder in images:
        tier, area, name = folder.split("/")
        tiers.setdefault(tier, {}).setdefault(area, []).append(name)
    for tier, areas in tiers.items():
        links = [{"rel": "child", "href": f"./{area}/collection.json"} for area in areas]
        links.append({"rel": "root", "href": "./catalog.json"})
        _write_json(root / tier / "catalog.json", {"type": "Catalog", "id": tier, "links": links})
        for area, names in areas.items():
            folder = root / tier / area
            links = [{"rel": "item", "href": f"./{name}/{name}.json"} for name in names]
            if listing == "stac-label-items":
                links += [{"rel": "item", "href": f"./{name}-labels/{name}-labels.json"} for name in names]
            links.append({"rel": "parent", "href": "../catalog.json"})
            _write_json(folder / "collection.json", {"type": "Collection", "id": area, "links": links})
            for name in names:
                labels = {
                    "labels": {"href": f"../{name}-labels/{name}.geojson", "type": "application/geo+json"}
                }
                assets = {"image": {"href": f"./{name}.tif", "type": "image/tiff"}}
                item = {
                    "type": "Feature",
                    "id": name,
                    "links": [{"rel": "collection", "href": "../collection.json"}],
                }
                both = assets | labels if listing == "stac" else assets
                _write_json(folder / name / f"{name}.json", item | {"assets": both})
                own = {"labels": {"href": f"./{name}.geojson"}}
                source = {"links": [{"rel": "source", "href": f"../{name}/{name}.json"}]}
                _write_json(
                    folder / f"{name}-labels" / f"{name}-labels.json", item | source | {"assets": own}
                )


def _write_json(path, tree):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))
