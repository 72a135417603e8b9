"""Small folders in the layouts of datasets of many classes, made for tests."""

import cv2
import numpy as np
import rasterio
from affine import Affine

ISPRS_COLOURS = np.array(
    [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)], np.uint8
)
BLACK = (0, 0, 0)


def stripes(height, width, classes, *, px=4):
    """Class indices (H, W) in columns of `px` pixels that go through `classes`."""
    row = np.asarray(classes, np.uint8)[(np.arange(width) // px) % len(classes)]
    return np.tile(row, (height, 1))


def noise(seed, height, width, bands=3, dtype="uint8", high=256):
    """Random pixels (C, H, W)."""
    return np.random.default_rng(seed).integers(0, high, (bands, height, width)).astype(dtype)


def write_raster(path, array, *, crs=None, transform=None, **options):
    """A TIFF of (C, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = array.shape
    place = {} if transform is None else {"transform": transform}
    profile = {"driver": "GTiff", "dtype": array.dtype, "count": count, "height": height, "width": width}
    with rasterio.open(path, "w", crs=crs, **place, **profile, **options) as file:
        file.write(array)
    return path


def write_png(path, array):
    """A PNG (or JPEG) of (H, W) or RGB (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array if array.ndim == 2 else array[..., ::-1])
    return path


def coloured(mask, colours=ISPRS_COLOURS, unknown=BLACK):
    """RGB (H, W, 3) of class indices, 255 in the colour of unknown pixels."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    table[255] = unknown
    return table[mask]


def write_potsdam(root, masks, *, folder="4_Ortho_RGBIR", labels="5_Labels_all", channels="RGBIR", bands=4):
    """Images of Potsdam with world files, their labels and surface models, as the release has them."""
    for number, (name, mask) in enumerate(masks.items()):
        height, width = mask.shape
        image = noise(number, height, width, bands)
        path = write_raster(root / folder / f"top_potsdam_{name}_{channels}.tif", image)
        world = f"0.05\n0\n0\n-0.05\n{366676.9 + 10 * number + 0.025}\n{5807729.0 - 0.025}\n"
        path.with_suffix(".tfw").write_text(world)
        label = root / labels / f"top_potsdam_{name}_label.tif"
        write_raster(label, coloured(mask).transpose(2, 0, 1))
        row, col = (int(part) for part in name.split("_"))
        surface = np.full((1, height - 1, width), 40 + number, np.uint8)
        write_raster(
            root / "1_DSM_normalisation" / f"dsm_potsdam_{row:02d}_{col:02d}_normalized_lastools.tif", surface
        )
    return root


def write_vaihingen(root, masks):
    """Images of Vaihingen, whose labels have the same file names, and surface models in metres."""
    for number, (name, mask) in enumerate(masks.items()):
        height, width = mask.shape
        place = Affine(0.09, 0, 496_000 + 90 * number, 0, -0.09, 5_420_000)
        file = f"top_mosaic_09cm_area{name}.tif"
        write_raster(root / "top" / file, noise(number, height, width), transform=place)
        write_raster(root / "gts_for_participants" / file, coloured(mask).transpose(2, 0, 1))
        heights = np.linspace(240, 361, height * width, dtype=np.float32).reshape(1, height, width)
        write_raster(root / "dsm" / f"dsm_09cm_matching_area{name}.tif", heights, transform=place)
    return root
