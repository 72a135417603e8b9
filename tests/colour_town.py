"""A town of coloured houses, and a model that reads the colours: every pixel of its map is known."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
import torch
from affine import Affine
from rasterio.crs import CRS
from torch import Tensor

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.store import save_model
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import from_pixels
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel

UTM = CRS.from_epsg(32615)
SIZE_PX = 192
HOUSE_PX = 20
PITCH_PX = 48
ROOF_RED = 230
LEVELS = {(row, col): 1 + (row + col) % 4 for row in range(4) for col in range(4)}
"""Damage level of the house in each row and column of houses."""


class ColourModel(DenseModel):
    """Buildings are red before; their level is the quarter of the range that green is in after."""

    dates, classes, stride = 2, 5, 32

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = torch.nn.Parameter(torch.tensor(6.0))

    def forward_features(self, image: Tensor) -> Tensor:
        return image * 127.5 + 127.5

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        red, green = features[:, 0, 0], features[:, 1, 1]
        level = (green / 64).floor().clamp(0, 3)
        logits = [torch.where(red > 200, -self.sharpness, 2 * self.sharpness)]
        logits += [torch.where(level == k, self.sharpness, -self.sharpness) for k in range(4)]
        return torch.stack(logits, dim=1)


class RoofModel(DenseModel):
    """Buildings are red on the first date."""

    dates, classes, stride = 1, 2, 32

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = torch.nn.Parameter(torch.tensor(6.0))

    def forward_features(self, image: Tensor) -> Tensor:
        return image[:, 0, :1] * 127.5 + 127.5

    def forward_head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        roof = torch.where(features > 200, self.sharpness, -self.sharpness)
        return torch.cat([-roof, roof], dim=1)


def save_roof_model(folder: Path, **card: Any) -> Path:
    """A model folder of `RoofModel`; entries of the card can be given."""
    values: dict[str, Any] = {
        "name": "roofs",
        "model": CustomConfig(target="colour_town:RoofModel", classes=2),
        "dates": 1,
        "scheme": "building",
        "training": TrainingRecord(data="none", data_licence="none"),
        "licence": "CC0-1.0",
    }
    save_model(folder, RoofModel(), Card(**values | card))
    return folder


def save_colour_model(folder: Path, **card: Any) -> Path:
    """A model folder; entries of the card can be given."""
    values: dict[str, Any] = {
        "name": "colours",
        "model": CustomConfig(target="colour_town:ColourModel", classes=5),
        "dates": 2,
        "scheme": "joint-damage-scale",
        "training": TrainingRecord(data="none", data_licence="none"),
        "licence": "CC0-1.0",
    }
    save_model(folder, ColourModel(), Card(**values | card))
    return folder


def town_grid(size: int = SIZE_PX) -> Grid:
    """Half a metre per pixel, UTM zone 15."""
    return Grid(UTM, Affine(0.5, 0, 300_000, 0, -0.5, 4_000_000), size, size)


def houses() -> dict[tuple[int, int], shapely.Polygon]:
    """Outlines in pixels by row and column of houses."""
    margin = (PITCH_PX - HOUSE_PX) // 2
    corner = {(r, c): (c * PITCH_PX + margin, r * PITCH_PX + margin) for r, c in LEVELS}
    return {place: shapely.box(x, y, x + HOUSE_PX, y + HOUSE_PX) for place, (x, y) in corner.items()}


def town(size: int = SIZE_PX) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images before and after, uint8 (3, H, W), and the damage level of every pixel."""
    rng = np.random.default_rng(7)
    ground = rng.integers(40, 120, (3, size // 4, size // 4), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    pre, post, truth = ground.copy(), ground.copy(), np.zeros((size, size), np.uint8)
    for place, outline in houses().items():
        left, top, right, bottom = map(int, outline.bounds)
        inside = slice(top, bottom), slice(left, right)
        pre[(0, *inside)] = ROOF_RED
        post[(0, *inside)] = ROOF_RED
        post[(1, *inside)] = 64 * (LEVELS[place] - 1) + 32
        truth[inside] = LEVELS[place]
    return pre, post, truth


def write_image(path: Path, array: np.ndarray, grid: Grid | None = None, **profile: Any) -> Path:
    """Write (C, H, W) as the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {} if grid is None else {"crs": grid.crs, "transform": grid.transform}
    driver = {".tif": "GTiff", ".png": "PNG"}[path.suffix]
    count, height, width = array.shape
    with rasterio.open(
        path,
        "w",
        driver=driver,
        width=width,
        height=height,
        count=count,
        dtype=array.dtype,
        **place,
        **profile,
    ) as file:
        file.write(array)
    return path


def write_town(folder: Path) -> tuple[Path, Path]:
    """Both dates as GeoTIFFs."""
    pre, post, _ = town()
    grid = town_grid()
    return write_image(folder / "pre.tif", pre, grid), write_image(folder / "post.tif", post, grid)


def write_footprints(path: Path, shapes: dict[str, shapely.Polygon], crs: str = "EPSG:4326") -> Path:
    """Buildings given in pixels of the town, as a vector file."""
    grid = town_grid()
    geometry = [from_pixels(shape, grid) for shape in shapes.values()]
    frame = geopandas.GeoDataFrame({"building_id": list(shapes)}, geometry=geometry, crs=UTM.to_wkt())
    frame.to_crs(crs).to_file(path)
    return path
