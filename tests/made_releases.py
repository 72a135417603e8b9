"""Small folders in the layouts of published datasets, made for tests from their public descriptions."""

import json

import cv2
import numpy as np
from affine import Affine

from made_classes import noise, write_raster

SIZE = 8


def image(path, seed=0, bands=3, **options):
    """A random image; a PNG or JPEG of three bands, or a TIFF of any."""
    pixels = noise(seed, SIZE, SIZE, bands)
    if path.suffix == ".tif":
        write_raster(path, pixels, **options)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels.transpose(1, 2, 0))


def mask(path, *rows):
    """A mask whose rows repeat the values that are given, each row's from the left."""
    values = np.zeros((SIZE, SIZE), np.uint8)
    for number, row in enumerate(rows):
        values[number, : len(row)] = row
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        write_raster(path, values[None])
    else:
        cv2.imwrite(str(path), values)
    return values


def drone_photographs(root, last=10):
    """RescueNet (`last` 10) or FloodNet (9): one image of each set."""
    for number, subset in enumerate(("train", "val", "test")):
        folder = root / subset
        image(folder / f"{subset}-org-img" / f"{10778 + number}.jpg", number)
        mask(folder / f"{subset}-label-img" / f"{10778 + number}_lab.png", [0, 2, 5], [last])
    return root


def flair(root):
    """FLAIR #1: an image of the training set and one of the test set, which is a folder of its own."""
    for subset, number in (("train", "000001"), ("test", "061713")):
        place = f"D0{12 + len(subset)}_2021/Z1_NN"
        image(root / f"flair_1_aerial_{subset}" / place / "img" / f"IMG_{number}.tif", bands=5)
        values = np.full((1, SIZE, SIZE), 12, np.uint8)
        values[0, 0, :3] = 1, 13, 19
        write_raster(root / f"flair_1_labels_{subset}" / place / "msk" / f"MSK_{number}.tif", values)
    return root


def change(root, folders, names=("1",), suffix=".png", changed=255):
    """Two dates with a mask of change."""
    before, after, label = folders
    for number, name in enumerate(names):
        image(root / before / f"{name}{suffix}", number)
        image(root / after / f"{name}{suffix}", number + 50)
        mask(root / label / f"{name}{suffix}", [0, changed, changed])
    return root


def change_kinds(root, names=("1", "2")):
    """S2Looking: what was built in red, what was torn down in blue; the last pair lacks one of the masks."""
    for number, name in enumerate(names):
        for role, folder in enumerate(("Image1", "Image2")):
            image(root / folder / f"{name}.png", number + 50 * role)
        for folder, channel, column in (("label1", 2, 1), ("label2", 0, 2)):
            painted = np.zeros((SIZE, SIZE, 3), np.uint8)
            painted[0, column : column + 2, channel] = 255
            if (number, folder) != (len(names) - 1, "label2"):
                (root / folder).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / folder / f"{name}.png"), painted)
    return root


def outlines(root, ring=(0, 0, 2, 0, 2, 2, 0, 2)):
    """FOTBCD-Instances: a building of each category, and an image without one."""
    for role, folder in enumerate(("before", "after")):
        for number in (1, 2):
            image(root / "images" / "train" / folder / f"{number}.png", number + 50 * role)
    moved = [np.add(ring, np.resize([step, step], len(ring))).tolist() for step in (0, 2, 4)]
    tree = {
        "images": [{"id": k, "file_name": f"before/{k}.png", "width": SIZE, "height": SIZE} for k in (1, 2)],
        "categories": [
            {"id": k + 1, "name": name} for k, name in enumerate(("UNCHANGED", "DEMOLISHED", "NEW"))
        ],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": k + 1, "segmentation": [moved[k]], "iscrowd": 0}
            for k in range(3)
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "train.json").write_text(json.dumps(tree))
    return root


def bright(root, names=("bata-explosion_00000000", "ukraine-conflict_00000003")):
    """BRIGHT: three bands before, one of SAR after; the last pair lacks its image before."""
    for number, name in enumerate(names):
        if number + 1 < len(names) or len(names) == 1:
            image(root / "pre-event" / f"{name}_pre_disaster.tif", number)
        image(root / "post-event" / f"{name}_post_disaster.tif", number + 50, bands=1)
        mask(root / "target" / f"{name}_building_damage.tif", [0, 1, 2, 3])
    return root


def levels(root, masks="masks", ending="", both=True):
    """Ida-BD, or EBD: pairs with masks of 0 to 4."""
    image(root / "images" / "ida_0001_pre_disaster.png", 1)
    image(root / "images" / "ida_0001_post_disaster.png", 2)
    mask(root / masks / f"ida_0001_post_disaster{ending}.png", [0, 1, 2, 3, 4, 255])
    if both:
        mask(root / masks / f"ida_0001_pre_disaster{ending}.png", [0, 1, 1, 1, 1, 0])
    return root


def sentinel(root):
    """xBD-S12: patches of 8 px with masks of 64 px, two events, one in each set."""
    entries = []
    for name, split in (("hurricane-harvey_00000001", "train"), ("sunda-tsunami_00000002", "test")):
        for date in ("pre", "post"):
            image(root / "s2_tci" / f"{name}_{date}_disaster_s2_tci.tif", len(entries) + (date == "post") * 9)
        cells = np.zeros((SIZE, SIZE), np.uint8)
        cells[0, :7] = 0, 1, 2, 3, 4, 5, 6
        values = cells.repeat(8, axis=0).repeat(8, axis=1)
        values[8:16, :5] = 4  # five of eight columns of a cell
        values[8:16, 8:12] = 4  # half of one: the lower class
        write_raster(root / "masks" / f"{name}_mask.tif", values[None])
        properties = {"xbd_uid": name, "disaster": name[:-9], "event_split": split, "xbd_tier": "train"}
        entries.append({"type": "Feature", "geometry": None, "properties": properties})
    tree = {"type": "FeatureCollection", "features": entries}
    (root / "xbd_s12_metadata.geojson").write_text(json.dumps(tree))
    return root


def droids(root, vectors=(((0, 0), (10, 0)), ((90, 0), (90, 20)))):
    """CRASAR-U-DROIDs: an orthomosaic of 100 px with an opaque and a transparent part, and three buildings."""
    pixels = noise(0, 100, 100, 4)
    pixels[3] = 255
    pixels[3, 60:] = 0
    place = Affine(0.05, 0, 500_000, 0, -0.05, 3_000_000)
    path = root / "train" / "imagery" / "UAS" / "1001-Palm.geo.tif"
    write_raster(path, pixels, crs="EPSG:32617", transform=place, photometric="RGB", alpha="YES")
    below = root / "train" / "annotations" / "UAS"

    def building(left, top, label, source):
        corners = ((left, top), (left + 9, top), (left + 9, top + 9), (left, top + 9))
        return {
            "pixels": [{"x": x, "y": y} for x, y in corners],
            "EPSG:4326": [],
            "label": label,
            "source": source,
            "id": f"{left}",
        }

    buildings = [
        building(5, 5, "destroyed", "Microsoft"),
        building(80, 5, "minor damage", "Microsoft"),
        building(40, 40, "un-classified", "custom"),
    ]
    for folder, tree in (
        ("building_damage_assessment", buildings),
        ("building_alignment_adjustments", vectors),
    ):
        (below / folder).mkdir(parents=True, exist_ok=True)
        (below / folder / f"{path.name}.json").write_text(json.dumps(tree))
    (root / "statistics.csv").write_text("Orthomosaic,Event\n1001-Palm.geo.tif,Hurricane Ian\n")
    return root


def floods(root):
    """SpaceNet 8: a tile of Germany whose image from after is coarser, and one of the test set."""
    step, west, north = 1e-5, 7.0, 50.5
    for area, name in (
        ("Germany_Training_Public", "1050_0_15_63"),
        ("Louisiana-West_Test_Public", "1040_1_2_3"),
    ):
        folder = root / area
        for date, scale in (("PRE-event", 1), ("POST-event", 2)):
            side = 32 // scale
            place = Affine(step * scale, 0, west, 0, -step * scale, north)
            stem = name if scale == 1 else name.replace("0_", "9_", 1)
            write_raster(
                folder / date / f"{stem}.tif", noise(scale, side, side), crs="EPSG:4326", transform=place
            )
        columns = "label,pre-event image,post-event image 1,post-event image 2"
        row = f"0_15_63.geojson,{name}.tif,{name.replace('0_', '9_', 1)}.tif,"
        (folder / f"{area}_label_image_mapping.csv").write_text(f"{columns}\n{row}\n")

    def square(left, top, side=4):
        x, y = west + left * step, north - top * step
        far_x, far_y = x + side * step, y - side * step
        return f"POLYGON (({x} {y}, {far_x} {y}, {far_x} {far_y}, {x} {far_y}, {x} {y}))"

    middle = north - 20.5 * step
    road = f"LINESTRING ({west} {middle}, {west + 32 * step} {middle})"
    lines = [
        ("Building", "False", square(2, 2)),
        ("Building", "True", square(10, 2)),
        ("Building", "", square(20, 2)),
        ("Building", "True", square(2, 18)),
        ("Road", "True", road),
        ("Building", "Null", "POLYGON EMPTY"),
    ]
    table = "".join(f'1050_0_15_63,{kind},{wet},POLYGON EMPTY,"{wkt}"\n' for kind, wet, wkt in lines)
    path = root / "Germany_Training_Public" / "Germany_Training_Public_reference.csv"
    path.write_text(f"ImageId,Object,Flooded,Wkt_Pix,Wkt_Geo\n{table}")
    return root
