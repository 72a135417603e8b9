"""Which scenes show the same thing: identical images, or the same ground."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import Polygon

from aftermap.data.geotransform import to_grid
from aftermap.data.scene import Scene
from aftermap.errors import DataError

SHARED_GROUND = 1e-3
"""Share of the smaller scene above which two scenes overlap; tiles that only touch stay below it."""


@dataclass(frozen=True, slots=True)
class SharedPart:
    """Two scenes by position in a list, `first < second`; `share` of the smaller one's ground, 1 for equal images."""

    first: int
    second: int
    share: float


def ground(scene: Scene) -> Polygon | None:
    """Outline of a scene in longitude and latitude (EPSG:4326), or None without georeference.

    Outlines across the antimeridian go on beyond 180 degrees east.

    Raises:
        DataError: a georeference that leads to no place.
    """
    if scene.grid is None:
        return None
    grid = to_grid(scene.grid, height=scene.height, width=scene.width)
    cols, rows = np.array([(0, 0), (scene.width, 0), (scene.width, scene.height), (0, scene.height)], float).T
    if scene.grid.crs == "EPSG:4326":
        t = grid.transform
        lons, lats = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    else:
        lons, lats = grid.lonlat(cols, rows)
    if not np.isfinite([lons, lats]).all():
        raise DataError(f"the georeference of {scene.name} leads to no place on the ground")
    if np.ptp(lons) > 180:
        lons = np.where(lons < 0, lons + 360, lons)
    return Polygon(np.column_stack([lons, lats]))


def same_ground(scenes: Sequence[Scene]) -> list[SharedPart]:
    """Pairs of scenes whose ground overlaps by more than `SHARED_GROUND`.

    Tiles without georeference overlap where they do in the image that they are cut from.
    """
    pairs = _same_pixels(scenes)
    known = [(index, outline) for index, scene in enumerate(scenes) if (outline := ground(scene)) is not None]
    return sorted([*_same_outlines(known), *pairs], key=lambda pair: (pair.first, pair.second))


def _same_pixels(scenes: Sequence[Scene]) -> list[SharedPart]:
    """Pairs of tiles without georeference that overlap in the image that they are cut from."""
    by_image: dict[str, list[int]] = {}
    for index, scene in enumerate(scenes):
        if scene.tile is not None and scene.grid is None:
            by_image.setdefault(scene.tile.source, []).append(index)
    found = []
    for _, mine in sorted(by_image.items()):
        places = [(tile.row, tile.col) for index in mine if (tile := scenes[index].tile) is not None]
        sizes = np.array([(scenes[index].height, scenes[index].width) for index in mine])
        first = np.array(places)
        common = np.minimum((first + sizes)[:, None], (first + sizes)[None]) - np.maximum(
            first[:, None], first[None]
        )
        area = np.clip(common, 0, None).prod(axis=2)
        smaller = np.minimum.outer(sizes.prod(axis=1), sizes.prod(axis=1))
        for i, j in zip(*np.nonzero(np.triu(area > SHARED_GROUND * smaller, 1)), strict=True):
            found.append(SharedPart(mine[i], mine[j], float(area[i, j] / smaller[i, j])))
    return found


def _same_outlines(known: Sequence[tuple[int, Polygon]]) -> list[SharedPart]:
    """Pairs of scenes, by their numbers and outlines, that overlap on the ground."""
    if not known:
        return []
    indices = np.array([index for index, _ in known])
    outlines = np.array([outline for _, outline in known])
    left, right = shapely.STRtree(outlines).query(outlines, predicate="intersects")
    left, right = left[left < right], right[left < right]
    smaller = np.minimum(shapely.area(outlines[left]), shapely.area(outlines[right]))
    share = shapely.area(shapely.intersection(outlines[left], outlines[right])) / np.maximum(smaller, 1e-30)
    pairs = zip(indices[left], indices[right], share, strict=True)
    return [SharedPart(int(i), int(j), float(s)) for i, j, s in pairs if s > SHARED_GROUND]


def same_images(scenes: Sequence[Scene]) -> list[SharedPart]:
    """Pairs of scenes that share an image file's content, each with the first scene that has it."""
    first: dict[str, int] = {}
    pairs = set()
    for index, scene in enumerate(scenes):
        for role in ("pre", "post"):
            checksum = scene.checksums.get(role)
            if checksum is not None and first.setdefault(checksum, index) != index:
                pairs.add((first[checksum], index))
    return [SharedPart(i, j, 1.0) for i, j in sorted(pairs)]


def groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Connected components of `count` items joined by `pairs`, in order of their first item."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for i, j in pairs:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    found: dict[int, list[int]] = {}
    for item in range(count):
        found.setdefault(root(item), []).append(item)
    return list(found.values())


def by_place(scenes: Sequence[Scene]) -> list[list[Scene]]:
    """Scenes grouped by the ground, or the images, that they share."""
    ordered = sorted(scenes, key=lambda scene: scene.name)
    pairs = [(pair.first, pair.second) for pair in (*same_images(ordered), *same_ground(ordered))]
    return [[ordered[i] for i in group] for group in groups(len(ordered), pairs)]
