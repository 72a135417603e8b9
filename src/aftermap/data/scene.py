"""Scenes and manifests: what a prepared dataset holds, and how its pixels are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import AfterValidator, Field, ValidationError

from aftermap.classes import IGNORE, SCHEMES, ClassScheme
from aftermap.config import Config, explain
from aftermap.data.legends import Legend
from aftermap.data.mask_png import read_plain
from aftermap.errors import DataError, RasterError, shown
from aftermap.files import write_text
from aftermap.geo.opening.whole import WholeImage, find_unseen
from aftermap.wording import counted

MANIFEST_NAME = "manifest.json"
_LONGEST_NAME = 200

RGB = ("red", "green", "blue")
Target = Literal["building", "damage", "classes"]
"""What a mask tells: buildings or their damage by our schemes, or the classes of a dataset's legend."""

Split = Literal["train", "validation", "test", "unassigned"]


def _can_be_a_file(name: str) -> str:
    if not name.isprintable() or name[:1] in ("", ".") or set(name) & set("/\\") or len(name) > _LONGEST_NAME:
        raise ValueError(f"found {shown(name)}, expected what a file can be called, such as storm_00000001")
    return name


FileName = Annotated[str, AfterValidator(_can_be_a_file)]
"""A name that results are called by, as files."""


class SceneGrid(Config):
    """Georeference of a scene: `crs` as WKT or `EPSG:n`, `transform` as the six numbers a, b, c, d, e, f of an affine."""

    crs: str
    transform: tuple[float, float, float, float, float, float]
    residual_px: float | None = None


class Tile(Config):
    """Which part of a larger image a scene is.

    Attributes:
        source: name of that image, unique in the dataset.
        row, col: where the scene begins, in its pixels; what reaches beyond its edge is padding.
        height, width: its size.
    """

    source: FileName
    row: int
    col: int
    height: int
    width: int


class Scene(Config):
    """One place, at one or two dates.

    Paths are absolute once the manifest is loaded. Masks are single-band 8-bit PNGs of the images' size:
    `building_mask` holds 0 and 1 (drawn on the first date), `damage_mask` 0 to 4 (drawn on the second), both 255
    where the class is unknown. A scene without labels has neither. `class_mask` holds the classes of the manifest's
    legend, 255 where unknown: on the image of one date, or what became of two. `soft` holds what a model believes about
    a scene (see `data.soft`); it is no label. `bands` names the bands of the first date's file in their order, `layers`
    files of one band each beside it; all are 8-bit.
    """

    name: FileName
    event: str
    split: Split = "unassigned"
    source_split: str | None = None
    pre: Path
    post: Path | None = None
    building_mask: Path | None = None
    damage_mask: Path | None = None
    class_mask: Path | None = None
    soft: Path | None = None
    bands: tuple[str, ...] = RGB
    layers: dict[str, Path] = Field(default_factory=dict)
    tile: Tile | None = None
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
        return any(path is not None for path in (self.building_mask, self.damage_mask, self.class_mask))

    def without_labels(self) -> "Scene":
        """The images alone: nothing that was drawn on them, believed of them, or counted in them."""
        gone: dict[str, Any] = dict.fromkeys(("building_mask", "damage_mask", "class_mask", "soft"))
        gone |= {"class_pixels": [], "polygons": {}}
        images = ("pre", "post", *self.layers)
        gone["checksums"] = {role: self.checksums[role] for role in images if role in self.checksums}
        return self.model_copy(update=gone)


POOLED = "pooled"
"""Kind of a manifest of scenes of several datasets, in which a name may occur more than once."""


class Manifest(Config):
    """A prepared dataset: `manifest.json` beside its masks.

    Attributes:
        kind: the reader that made it (`xbd`, `folder`, `synthetic`), or POOLED.
        scheme: name of the class scheme of the finest masks; that of the legend where there is one.
        legend: the classes of the masks of `class_mask`.
        options: choices that changed the masks, such as `unclassified`.
        scenes: in a fixed order (sorted by name).
    """

    format: Literal[1] = 1
    kind: str
    scheme: str
    legend: Legend | None = None
    licence: str | None = None
    options: dict[str, str] = Field(default_factory=dict)
    scenes: list[Scene]

    @property
    def class_scheme(self) -> ClassScheme:
        """The classes of the finest masks."""
        return SCHEMES[self.scheme] if self.legend is None else self.legend.scheme

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read a manifest from its file or folder; relative paths are resolved against its folder.

        Raises:
            DataError: there is none, or it cannot be understood.
        """
        file = manifest_file(path)
        if not file.is_file():
            raise DataError(f"{path} holds no {MANIFEST_NAME}: make one with 'aftermap data prepare'")
        try:
            manifest = cls.model_validate_json(file.read_bytes())
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror or error}") from None
        except ValidationError as error:
            raise DataError(explain(error, cls, f"{file} is not a manifest of this version")) from None
        places: dict[str, int] = {}
        for number, scene in enumerate(() if manifest.kind == POOLED else manifest.scenes, 1):
            if (first := places.setdefault(scene.name, number)) != number:
                raise DataError(
                    f"{file} has two scenes of the name {scene.name}, number {first} and number {number} "
                    f"({manifest.scenes[first - 1].pre} and {scene.pre}): give each a name of its own"
                )
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
        return write_text(root / file.name, text + "\n", parents=True)

    def select(self, *splits: Split) -> list[Scene]:
        """The scenes of the given splits."""
        return [scene for scene in self.scenes if scene.split in splits]


def manifest_file(data: Path) -> Path:
    """The manifest of a prepared dataset that is named by its folder or by this file."""
    return data / MANIFEST_NAME if data.is_dir() else data


def scenes_of(data: Path, split: str) -> list[Scene]:
    """Scenes of a prepared dataset: of a split, or `all`."""
    return [scene for scene in Manifest.load(data).scenes if split in (scene.split, "all")]


def labelled_scenes(data: Path, split: str, events: Sequence[str] = ()) -> list[Scene]:
    """Labelled scenes of a prepared dataset, of all events or of some.

    Raises:
        DataError: there are none.
    """
    scenes = [s for s in scenes_of(data, split) if s.is_labelled and (not events or s.event in events)]
    if not scenes:
        of = f" of {', '.join(events)}" if events else ""
        raise DataError(f"{data} has no labelled scenes in split {split}{of}: pass another --split, or all")
    return scenes


def read_image(path: Path) -> np.ndarray:
    """Read an 8-bit image file as RGB uint8 (3, H, W), in the order in which its pixels are stored.

    Pixels are 0 where the file says that no ground was seen.

    Raises:
        DataError: the file is missing, truncated, no image, or not of 8 bits.
    """
    try:
        return WholeImage.read(path).rgb()
    except RasterError as error:
        raise DataError(str(error)) from None


def read_pixels(path: Path) -> np.ndarray:
    """The same as (H, W, 3)."""
    pixels: np.ndarray = cv2.merge(list(read_image(path)))
    return pixels


def read_images(scene: Scene, *, dates: int) -> np.ndarray:
    """Read the first `dates` dates of a scene as RGB uint8 (T, 3, H, W).

    Raises:
        DataError: a date is missing or cannot be read, or the dates differ in size.
    """
    if dates == 2 and scene.post is None:
        raise DataError(f"scene {scene.name} has no post image, and this model needs both dates")
    paths = [scene.pre, scene.post][:dates]
    images = [read_image(path) for path in paths if path is not None]
    if len({image.shape for image in images}) > 1:
        sizes = " and ".join(f"{image.shape[2]} x {image.shape[1]}" for image in images)
        raise DataError(
            f"the images of scene {scene.name} have {sizes} pixels: both dates must have one size"
        )
    return np.stack(images)


def read_bands(scene: Scene, bands: Sequence[str]) -> np.ndarray:
    """Read bands of the first date as uint8 (C, H, W), in the order asked for.

    Raises:
        DataError: the scene does not have such a band, or its file cannot be read.
    """
    missing = [band for band in bands if band not in scene.bands and band not in scene.layers]
    if missing:
        had = ", ".join([*scene.bands, *scene.layers])
        raise DataError(f"scene {scene.name} has no band {', '.join(missing)}: it has {had}")
    own = [band for band in bands if band in scene.bands]
    read: dict[str, np.ndarray] = {}
    if own:
        image = read_image(scene.pre) if scene.bands == RGB else _read_raster(scene.pre)
        if len(image) < len(scene.bands):
            raise DataError(
                f"{scene.pre} has {counted(len(image), 'band')}, expected {len(scene.bands)}: {', '.join(scene.bands)}"
            )
        read = {band: image[scene.bands.index(band)] for band in own}
    read |= {band: _read_raster(scene.layers[band])[0] for band in bands if band not in scene.bands}
    sizes = {plane.shape for plane in read.values()}
    if len(sizes) > 1:
        raise DataError(f"scene {scene.name} has bands of different sizes: {sorted(sizes)}")
    return np.stack([read[band] for band in bands])


def read_mask(scene: Scene, *, target: Target) -> np.ndarray:
    """Read class indices uint8 (H, W); all IGNORE where the scene has no such labels.

    A building mask that is absent is derived from the damage mask. What an image says that it does not show is IGNORE:
    on the first date, for damage and for classes of pairs on either.

    Raises:
        DataError: the mask, or the image, cannot be read.
    """
    path = _mask_path(scene, target)
    if path is None:
        return np.full((scene.height, scene.width), IGNORE, np.uint8)
    try:
        plain = read_plain(path)
        stored = WholeImage.read(path).array if plain is None else plain[None]
        if len(stored) != 1 or stored.dtype != np.uint8:
            raise DataError(f"{path} is not a readable single-band mask")
        mask: np.ndarray = stored[0]
        unseen = [find_unseen(image) for image in _shown(scene, target) if image.is_file()]
    except RasterError as error:
        raise DataError(str(error)) from None
    if target == "building" and scene.building_mask is None:
        mask = np.where(mask == IGNORE, IGNORE, mask > 0).astype(np.uint8)
    for hidden in unseen:
        if hidden is not None and hidden.shape == mask.shape:
            mask = np.where(hidden, np.uint8(IGNORE), mask)
    return mask


def has_labels(scene: Scene, target: Target) -> bool:
    """Whether a scene has the mask that the target is learned from; see `read_mask`."""
    return _mask_path(scene, target) is not None


def _shown(scene: Scene, target: Target) -> list[Path]:
    """The images on which a target can be seen."""
    return [scene.pre] if target == "building" or scene.post is None else [scene.pre, scene.post]


def _mask_path(scene: Scene, target: Target) -> Path | None:
    """The file that a target is read from."""
    match target:
        case "building":
            return scene.building_mask or scene.damage_mask
        case "damage":
            return scene.damage_mask
        case "classes":
            return scene.class_mask


def _with_paths(scene: Scene, change: object) -> Scene:
    assert callable(change)
    names = ("pre", "post", "building_mask", "damage_mask", "class_mask", "soft")
    changed: dict[str, Any] = {n: change(p) for n in names if (p := getattr(scene, n)) is not None}
    if scene.layers:
        changed["layers"] = {band: change(path) for band, path in scene.layers.items()}
    return scene.model_copy(update=changed)


def _read_raster(path: Path) -> np.ndarray:
    """All bands of an 8-bit raster or image file, uint8 (C, H, W); 0 where it says that no ground was seen."""
    try:
        image = WholeImage.read(path)
    except RasterError as error:
        raise DataError(str(error)) from None
    if image.array.dtype != np.uint8:
        raise DataError(f"{path} holds {image.array.dtype} pixels, prepared images are 8-bit")
    return image.hide(image.array)
