"""Disasters painted on real single-date images whose buildings are known."""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import shapely
from shapely.geometry import Polygon

from aftermap.geo.grid import Grid
from aftermap.synthetic.brush import Window
from aftermap.synthetic.canvas import CROP, GRASS, PAVED, SUBPIXEL_BITS, Canvas, Materials, fixed
from aftermap.synthetic.damage import Kind, strike
from aftermap.synthetic.pair import Footprint, Pair, draw_masks, move, sample_shift
from aftermap.synthetic.photos import Cutout, Photo, cut
from aftermap.synthetic.render import View, char, sample_view
from aftermap.synthetic.scars import Painter
from aftermap.synthetic.sensor import Sensor, cover, expose, sample_clouds
from aftermap.synthetic.texture import BROAD, COARSE, NoiseBank
from aftermap.synthetic.towns.buildings import Building, Part


@dataclass
class KnownBuilding(Building):
    """A building of a photograph: its outline is known, its roof is the picture's."""

    ring: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))

    def rectangles(self) -> list[np.ndarray]:
        """The outline itself as the only part."""
        return [self.ring]

    def outline(self) -> Polygon:
        """The outline as a polygon."""
        return Polygon(self.ring)


class PhotoPainter(Painter):
    """Paints scars over the picture; what is intact stays as it was photographed."""

    def stand(self, canvas: Canvas, building: Building, view: View, squash: float) -> Window | None:
        """The window and pixels of a roof; nothing is painted."""
        ring = building.rectangles()[0]
        window = canvas.window(ring)
        if window is None:
            return None
        rows, cols = window
        mask = np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.uint8)
        cv2.fillPoly(mask, [fixed(ring - (cols.start, rows.start))], 1, shift=SUBPIXEL_BITS)
        return rows, cols, mask > 0


def paint_disaster(seed: int, photo: Photo, *, size_px: int, kind: Kind) -> tuple[Pair, Grid]:
    """Make a pair from one real image: the picture as it is, and a painted second date.

    Args:
        seed: of everything random.
        photo: the image and its known buildings.
        size_px: largest width and height; smaller images give smaller pairs.
        kind: of the disaster.

    Returns:
        The pair and the grid of its pixels (in pixels where the photo has no georeference).
    """
    rng = np.random.default_rng([seed, size_px, 1])
    scene = cut(rng, photo, size_px)
    size = scene.image.shape[0]
    buildings = [_known(rng, scene, outline) for outline in scene.buildings]
    noise = NoiseBank.make(rng, size, scene.gsd_m)
    view = sample_view(rng, scene.gsd_m, 0.0)
    light = scene.image.astype(np.float32) / 255
    struck = bool(rng.random() > 0.1)
    levels = np.ones(len(buildings), np.int64)
    after = _season(rng, light, noise)
    if struck:
        elevation = noise.layers[BROAD] + 0.35 * noise.layers[COARSE]
        disaster = strike(rng, kind, list(buildings), noise, elevation, scene.gsd_m)
        levels = disaster.levels
        after = _paint(
            rng, after, scene, buildings, PhotoPainter(rng, disaster, noise, scene.gsd_m), noise, view
        )
    shift = sample_shift(rng)
    after = move(rng, after, shift, scene.gsd_m)
    cloud = np.zeros((size, size), np.uint8)
    if rng.random() < 0.2:
        clouds = sample_clouds(rng, size, scene.gsd_m)
        after = cover(after, clouds)
        cloud = np.round(clouds.opacity * 100).astype(np.uint8)
    post = expose(np.ascontiguousarray(after), _sensor_near(rng, scene.image), rng)
    black = (scene.image.max(axis=2) == 0).astype(np.uint8)  # no data comes in areas, dark pixels come alone
    post[cv2.morphologyEx(black, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8)) > 0] = 0
    footprints = [
        Footprint(shapely.normalize(shapely.set_precision(outline, 0.01)), int(level))
        for outline, level in zip(scene.buildings, levels, strict=True)
    ]
    footprints = [f for f in footprints if f.polygon.geom_type == "Polygon" and not f.polygon.is_empty]
    building_mask, damage_mask = draw_masks(footprints, size)
    pair = Pair(
        pre=np.ascontiguousarray(scene.image.transpose(2, 0, 1)),
        post=np.ascontiguousarray(post.transpose(2, 0, 1)),
        building_mask=building_mask,
        damage_mask=damage_mask,
        footprints=footprints,
        kind=kind,
        struck=struck,
        gsd_m=scene.gsd_m,
        shift_px=shift,
        cloud=cloud,
        sun=((0.0, 0.0), (0.0, 0.0)),
        off_nadir=(0.0, 0.0),
    )
    return pair, scene.grid


def _sensor_near(rng: np.random.Generator, image: np.ndarray) -> Sensor:
    """Another sensor, half way towards the picture's own brightness and contrast."""
    sensor = Sensor.sample(rng)
    own = float(image.mean()), float(np.clip(image.mean(axis=2).std(), 15, 70))
    return replace(
        sensor,
        mean=(sensor.mean + own[0]) / 2,
        contrast=(sensor.contrast + own[1]) / 2,
        saturation=float(np.clip(rng.normal(0.85, 0.2), 0.35, 1.3)),
    )


def _known(rng: np.random.Generator, scene: Cutout, outline: Polygon) -> KnownBuilding:
    """A building with the frame and colour that painting scars on it needs."""
    corners = np.array(outline.minimum_rotated_rectangle.exterior.coords)[:4]
    sides = np.diff(np.concatenate([corners, corners[:1]]), axis=0)
    half = np.hypot(*sides[0]) / 2, np.hypot(*sides[1]) / 2
    ring = np.array(outline.exterior.coords)[:-1]
    col, row = np.clip(
        np.array(outline.representative_point().coords[0]).astype(int), 0, scene.image.shape[0] - 1
    )
    red, green, blue = (float(value) / 255 for value in scene.image[row, col])
    centre = corners.mean(axis=0)
    return KnownBuilding(
        centre=(float(centre[0]), float(centre[1])),
        angle=float(np.arctan2(sides[0][1], sides[0][0])),
        parts=[Part(0, 0, float(half[0]), float(half[1]), "flat")],
        eaves_m=float(rng.uniform(2.5, 5)),
        pitch=0.0,
        roof="photo",
        colour=(red, green, blue),
        wall=(red, green, blue),
        block="informal" if outline.area * scene.gsd_m**2 < 35 else "photo",
        ring=ring,
    )


def _season(rng: np.random.Generator, light: np.ndarray, noise: NoiseBank) -> np.ndarray:
    """Another date: vegetation greener or drier, and slow changes of brightness."""
    leafy = greenness(light)[..., None] * np.float32(rng.normal(0, 0.5))
    changed = light * (1 + leafy * np.array([-0.3, 0.15, -0.2], np.float32))
    slow = (
        1
        + np.float32(rng.uniform(0, 0.06)) * noise.layers[COARSE]
        + np.float32(rng.uniform(0, 0.06)) * noise.layers[BROAD]
    )
    result: np.ndarray = np.clip(changed * slow[..., None], 0, 1)
    return result


def greenness(light: np.ndarray) -> np.ndarray:
    """0 on roofs, streets and soil to 1 on vegetation, float32 (H, W), from excess green over brightness."""
    excess = (2 * light[..., 1] - light[..., 0] - light[..., 2]) / (light.sum(axis=2) + 0.05)
    green: np.ndarray = np.clip((cv2.GaussianBlur(excess, (0, 0), 1.0) - 0.03) / 0.1, 0, 1)
    return green


def _paint(
    rng: np.random.Generator,
    light: np.ndarray,
    scene: Cutout,
    buildings: list[KnownBuilding],
    painter: PhotoPainter,
    noise: NoiseBank,
    view: View,
) -> np.ndarray:
    canvas = Canvas.blank(light.shape[0], Materials())
    scars = painter.scars(None)
    roofs = np.zeros(light.shape[:2], np.uint8)
    for building in buildings:
        cv2.fillPoly(roofs, [fixed(building.ring)], 1, shift=SUBPIXEL_BITS)
    green = greenness(light)
    tall = (green > 0.5) & (light.mean(axis=2) < np.quantile(light.mean(axis=2), 0.3))  # dark green: crowns
    scars.before(canvas)
    canvas.numbers[(roofs > 0) | tall] = 0
    if scars.burnt is not None:
        kinds = np.where(roofs > 0, 0, np.where(green > 0.3, np.where(tall, CROP, GRASS), PAVED)).astype(
            np.uint8
        )
        loose = (kinds == PAVED) & (light.std(axis=2) > 0.04)  # coloured ground is soil rather than concrete
        kinds[loose] = GRASS
        char(light, kinds, scars.burnt, scars.char, noise)
    for index, building in enumerate(buildings):
        scars.building(canvas, index, building, view)
    scars.after(canvas)
    painted = canvas.numbers > 0
    albedo = canvas.materials.albedo(canvas.numbers, noise)
    usual = float(np.clip(light.mean() / 0.42, 0.7, 1.2))
    soft = cv2.GaussianBlur(painted.astype(np.float32), (0, 0), 0.6)[..., None]
    albedo = np.where(painted[..., None], albedo * np.float32(usual), light)
    whole: np.ndarray = light + np.maximum(soft, painted[..., None] * np.float32(0.8)) * (albedo - light)
    return whole
