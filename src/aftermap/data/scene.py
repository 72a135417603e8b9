"""Scenes and manifests: what a prepared dataset holds, and how its pixels are read."""

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import Field

from aftermap.classes import IGNORE
from aftermap.config import Config
from aftermap.errors import DataError

MANIFEST_NAME = "manifest.json"

Split = Literal["train", "validation", "test", "unassigned"]


class SceneGrid(Config):
    """Georeference of a scene: `crs` as WKT or `EPSG:n`, `transform` as the six numbers a, b, c, d, e, f of an affine."""

    crs: str
    transform: tuple[float, float, float, float, float, float]
    residual_px: float | None = None


class Scene(Config):
    """One place, at one or two dates.

    Paths are absolute once the manifest is loaded. Masks are single-band 8-bit PNGs of the images' size:
    `building_mask` holds 0 and 1 (drawn on the first date), `damage_mask` 0 to 4 (drawn on the second), both 255
    where the class is unknown. A scene without labels has neither. `soft` holds what a model believes about a scene
    (see `data.soft`); it is no label.
    """

    name: str
    event: str
    split: Split = "unassigned"
    source_split: str | None = None
    pre: Path
    post: Path | None = None
    building_mask: Path | None = None
    damage_mask: Path | None = None
    soft: Path | None = None
    width: int
    height: int
    grid: SceneGrid | None = None
    resolution_m: float | None = None
    class_pixels: list[int] = Field(default_factory=list)
    polygons: dict[str, int] = Field(default_factory=dict)
    checksums: dict[str, str] = Field(default_factory=dict)

    @property
    def is_labelled(self) -> bool:
        """True where at least one mask exists."""
        return self.building_mask is not None or self.damage_mask is not None

    def without_labels(self) -> "Scene":
        """The images alone: nothing that was drawn on them, believed of them, or counted in them."""
        gone: dict[str, Any] = dict.fromkeys(("building_mask", "damage_mask", "soft"))
        gone |= {"class_pixels": [], "polygons": {}}
        gone["checksums"] = {role: self.checksums[role] for role in ("pre", "post") if role in self.checksums}
        return self.model_copy(update=gone)


class Manifest(Config):
    """A prepared dataset: `manifest.json` beside its masks.

    Attributes:
        kind: the reader that made it (`xbd`, `folder`, `synthetic`).
        scheme: name of the class scheme of the finest masks.
        options: choices that changed the masks, such as `unclassified`.
        scenes: in a fixed order (sorted by name).
    """

    format: Literal[1] = 1
    kind: str
    scheme: str
    licence: str | None = None
    options: dict[str, str] = Field(default_factory=dict)
    scenes: list[Scene]

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read a manifest from its file or folder; relative paths are resolved against its folder.

        Raises:
            DataError: there is none, or it cannot be understood.
        """
        file = path / MANIFEST_NAME if path.is_dir() else path
        if not file.is_file():
            raise DataError(f"{path} holds no {MANIFEST_NAME}: make one with 'aftermap data prepare'")
        try:
            manifest = cls.model_validate_json(file.read_bytes())
        except ValueError as error:
            reason = str(error).splitlines()
            raise DataError(f"{file} is not a manifest of this version: {' '.join(reason[:3])}") from None
        root = file.parent.resolve()
        return manifest.model_copy(
            update={"scenes": [_with_paths(s, root.joinpath) for s in manifest.scenes]}
        )

    def save(self, path: Path) -> Path:
        """Write the manifest to a `.json` file or, as `manifest.json`, into a folder. Returns the file.

        Paths below the file's folder become relative.
        """
        file = path if path.suffix == ".json" else path / MANIFEST_NAME
        root = file.parent.resolve()

        def shorten(path: Path) -> Path:
            path = path.resolve()
            return path.relative_to(root) if path.is_relative_to(root) else path

        scenes = [_with_paths(s, shorten) for s in self.scenes]
        text = self.model_copy(update={"scenes": scenes}).model_dump_json(indent=1)
        temporary = root / (file.name + ".part")
        temporary.write_text(text + "\n")
        return temporary.rename(root / file.name)

    def select(self, *splits: Split) -> list[Scene]:
        """The scenes of the given splits."""
        return [scene for scene in self.scenes if scene.split in splits]


def read_image(path: Path) -> np.ndarray:
    """Read an 8-bit image file as RGB uint8 (3, H, W); see `read_pixels`."""
    return np.ascontiguousarray(read_pixels(path).transpose(2, 0, 1))


def read_pixels(path: Path) -> np.ndarray:
    """Read an 8-bit image file as RGB uint8 (H, W, 3).

    Raises:
        DataError: the file is missing, truncated or no image.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise DataError(f"{path} is not a readable image (truncated, or another format)")
    pixels: np.ndarray = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return pixels


def read_images(scene: Scene, *, dates: int) -> np.ndarray:
    """Read the first `dates` dates of a scene as RGB uint8 (T, 3, H, W)."""
    if dates == 2 and scene.post is None:
        raise DataError(f"scene {scene.name} has no post image, and this model needs both dates")
    paths = [scene.pre, scene.post][:dates]
    return np.stack([read_image(path) for path in paths if path is not None])


def read_mask(scene: Scene, *, target: Literal["building", "damage"]) -> np.ndarray:
    """Read class indices uint8 (H, W); all IGNORE where the scene has no such labels.

    A building mask that is absent is derived from the damage mask.
    """
    path = scene.damage_mask if target == "damage" else scene.building_mask or scene.damage_mask
    if path is None:
        return np.full((scene.height, scene.width), IGNORE, np.uint8)
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.ndim != 2:
        raise DataError(f"{path} is not a readable single-band mask")
    if target == "building" and scene.building_mask is None:
        mask = np.where(mask == IGNORE, IGNORE, mask > 0).astype(np.uint8)
    return mask


def _with_paths(scene: Scene, change: object) -> Scene:
    assert callable(change)
    names = ("pre", "post", "building_mask", "damage_mask", "soft")
    return scene.model_copy(update={n: change(p) for n in names if (p := getattr(scene, n)) is not None})
