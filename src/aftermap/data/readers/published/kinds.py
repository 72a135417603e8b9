"""Kinds of change: what was built and what was torn down, of S2Looking's two masks and of FOTBCD's outlines.

What each layout was taken from, and what could not be confirmed, stands with its release in `releases.RELEASES`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from aftermap.classes import IGNORE
from aftermap.data.band_files import read_file
from aftermap.data.legends import CHANGE_KINDS, FOTBCD_KINDS
from aftermap.data.preparing.cutter import draw_mask
from aftermap.data.preparing.dataset import Labels, SourceScene
from aftermap.data.readers.class_labels import LABEL
from aftermap.data.readers.published.pairs import Meaning, find_change
from aftermap.data.readers.published.release import Found, folders_named, split_of
from aftermap.errors import DataError
from aftermap.files import read_json

GONE = "torn_down"
"""Role of the mask of what was torn down."""

_CATEGORIES = {"unchanged": 1, "demolished": 2, "new": 3}
_MOST_POINTS = 100_000


def find_kinds(source: Path) -> Found:
    """S2Looking: images in `Image1/` and `Image2/`, what was built in `label1/`, what was torn down in `label2/`.

    A pair that lacks one of the two masks is without labels.
    """
    found = find_change(source, ("Image1", "Image2", "label1"))
    scenes = []
    for scene in found.scenes:
        gone = scene.pre.parent.parent / "label2" / scene.pre.name
        both = {**scene.labels, GONE: gone} if scene.labels and gone.is_file() else {}
        scenes.append(replace(scene, labels=both))
    return Found(tuple(scenes), found.unpaired)


def find_outlines(source: Path) -> Found:
    """FOTBCD-Instances: `images/SET/before/N.png` and `after/N.png`, with COCO outlines in `annotations/SET.json`."""
    scenes: list[SourceScene] = []
    unpaired: list[Path] = []
    for folder in folders_named(source, "annotations"):
        for file in sorted(folder.glob("*.json")):
            root = folder.parent / "images" / file.stem
            split, published = split_of(file.stem)
            for name in sorted(_by_image(file, file.stat().st_mtime_ns)):
                before, after = root / "before" / name, root / "after" / name
                if not before.is_file() or not after.is_file():
                    unpaired.append(before)
                    continue
                scenes.append(
                    SourceScene(
                        name=f"{file.stem}-{before.stem}",
                        event=source.resolve().name,
                        pre=before,
                        post=after,
                        labels={LABEL: file},
                        split=split,
                        source_split=published,
                    )
                )
    return Found(tuple(scenes), tuple(unpaired))


@dataclass(frozen=True, slots=True)
class KindLabels:
    """Reads what became of the buildings of a pair.

    Attributes:
        outlines: whether labels are COCO outlines, and not two masks.
        meaning: what the classes are on the Joint Damage Scale; None keeps them.
    """

    outlines: bool
    meaning: Meaning | None = None

    def __call__(self, scene: SourceScene, /, *, height: int, width: int) -> Labels:
        """The labels of one pair.

        Raises:
            DataError: masks or outlines that do not fit.
        """
        if LABEL not in scene.labels:
            return Labels()
        mask = self._drawn(scene, height, width) if self.outlines else self._painted(scene)
        if mask.shape != (height, width):
            raise DataError(
                f"the masks of {scene.name} have {mask.shape[1]} x {mask.shape[0]} pixels, its images {width} x {height}"
            )
        if self.meaning is None:
            return Labels({"classes": mask})
        lookup = np.full(256, IGNORE, np.uint8)
        names = (FOTBCD_KINDS if self.outlines else CHANGE_KINDS).names
        lookup[: len(names)] = [self.meaning[name] for name in names]
        return Labels({"damage": lookup[mask]})

    def _painted(self, scene: SourceScene) -> np.ndarray:
        """Built 1, torn down 2; unknown where both are said, or the masks differ in size."""
        built, gone = (_is_painted(scene.labels[role]) for role in (LABEL, GONE))
        if built.shape != gone.shape:
            raise DataError(f"{scene.labels[LABEL]} and {scene.labels[GONE]} differ in size")
        mask: np.ndarray = (built + 2 * gone).astype(np.uint8)
        mask[built & gone] = IGNORE
        return mask

    def _drawn(self, scene: SourceScene, height: int, width: int) -> np.ndarray:
        """Buildings that stayed 1, that were torn down 2, that are new 3; of two that overlap the higher number."""
        file = scene.labels[LABEL]
        outlines = _by_image(file, file.stat().st_mtime_ns).get(scene.pre.name, {})
        mask = np.zeros((height, width), np.uint8)
        for value in sorted(outlines):
            drawn = draw_mask(outlines[value], height=height, width=width, all_touched=False)
            mask[drawn > 0] = value
        return mask


def _is_painted(path: Path) -> np.ndarray:
    """Where a mask, grey or coloured, is not black."""
    bands = read_file(path).array[:3]
    painted: np.ndarray = np.asarray((bands > 0).any(axis=0))
    return painted


@lru_cache(maxsize=4)
def _by_image(path: Path, _changed: int) -> Mapping[str, Mapping[int, Sequence[Any]]]:
    """Polygons of each image, by the file's name and the class; images without buildings among them.

    Raises:
        DataError: no COCO file, other categories, or outlines that are not polygons.
    """
    tree = read_json(path, error=DataError)
    if not isinstance(tree, dict) or not all(
        isinstance(tree.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise DataError(f"{path} is no COCO file: expected images, annotations and categories")
    try:
        values = {one["id"]: _CATEGORIES[str(one["name"]).lower()] for one in tree["categories"]}
        names = {one["id"]: Path(one["file_name"]).name for one in tree["images"]}
        found: dict[str, dict[int, list[Any]]] = {name: defaultdict(list) for name in names.values()}
        for one in tree["annotations"]:
            for ring in one["segmentation"]:
                points = np.asarray(ring, np.float64).reshape(-1, 2)
                if not 3 <= len(points) <= _MOST_POINTS or not np.isfinite(points).all():
                    raise ValueError(f"a ring of {len(points)} points")
                found[names[one["image_id"]]][values[one["category_id"]]].append(shapely.Polygon(points))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is not FOTBCD's: expected polygons of the categories {', '.join(_CATEGORIES)}, found {error}"
        ) from None
    return found
