"""Writes the tiles that are cut from one image: pixels, mask, georeference."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.features import rasterize

from aftermap.classes import BUILDING, IGNORE
from aftermap.data.geotransform import scene_grid
from aftermap.data.preparing.cutting import Cut, CutConfig, grid_at, plan_cuts, scale_to
from aftermap.data.preparing.journal import IMAGES, MASKS, SOFT
from aftermap.data.preparing.prepare import Progress, checksum, class_pixels, read_bytes
from aftermap.data.scene import Scene
from aftermap.data.soft_labels import write_soft
from aftermap.data.stretch import Stretch
from aftermap.errors import DataError, OutputError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import RasterSource, require_bands


@dataclass
class Cutter:
    """Cuts one image; `windows` and `dropped` count while it does."""

    source: RasterSource
    shapes: np.ndarray | None
    out: Path
    config: CutConfig
    name: str
    event: str
    stretch: Stretch | None
    jpeg_quality: int | None
    source_split: str | None = None
    windows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Refuse an image whose pixels or resolutions do not fit; nothing is read or written.

        Raises:
            InputError: with what to do about it.
        """
        require_bands(self.source)
        if self.source.dtype != "uint8" and self.stretch is None:
            raise RasterError(
                f"{self.source.name} has pixels of {self.source.dtype}, tiles are of 8 bits: pass --stretch 2,98 to "
                "bring its 2nd and 98th percentiles to 0 and 255"
            )
        if not self.plans:
            raise DataError("no scale is given in compat_scales, expected some such as 1, 2 and 0.5")

    def run(
        self, known: Mapping[str, Scene], finished: Callable[[Scene], None] | None, progress: Progress | None
    ) -> Iterator[Scene]:
        """All tiles, resolution by resolution."""
        self.check()
        self.out = self.out.resolve()
        plans = self.plans
        for folder in (IMAGES, MASKS):
            try:
                (self.out / folder).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot make {self.out / folder}: {error.strerror or error}") from None
        planned = sum(len(plan.cuts) for plan in plans)
        done = 0
        for plan in plans:
            full = empty = 0
            for number, cut in enumerate(plan.cuts):
                if self._enough(full, empty, cut):
                    continue
                scene = self._known(known.get(plan.name(cut)))
                if scene is None and (scene := self._tile(plan, cut)) is not None and finished is not None:
                    finished(scene)
                self.windows += 1
                if scene is not None:
                    full, empty = full + bool(len(cut.buildings)), empty + (not len(cut.buildings))
                    yield scene
                if progress is not None:
                    progress(done + number + 1, planned)
            done += len(plan.cuts)
        if progress is not None:
            progress(planned, planned)

    @cached_property
    def plans(self) -> "list[Plan]":
        """The windows of each resolution.

        Raises:
            InputError: resolutions that fit neither the image nor each other.
        """
        if self.config.compat_every_building:
            return [self._original_plan(scale) for scale in self.config.compat_scales]
        wanted = self.config.resolutions
        plans = [self._plan(resolution) for resolution in wanted or (None,)]
        if len({plan.label for plan in plans}) < len(plans):
            shown = ", ".join(f"{resolution:g}" for resolution in wanted)
            raise DataError(f"resolutions {shown} are equal to the millimetre: give each once")
        return plans

    def _plan(self, resolution: float | None) -> "Plan":
        native = self.source.grid
        scale, grid = scale_to(native, resolution), grid_at(native, resolution)
        shapes = self._shapes_in(scale)
        coarsest = np.max([scale_to(native, r) for r in self.config.resolutions or (None,)], axis=0)
        side = coarsest * self.config.size_px * self.config.block_tiles / scale
        cuts = plan_cuts(shapes, grid, self.config, block_px=(float(side[0]), float(side[1])))
        metres = resolution if resolution is not None else native.resolution_m
        return Plan(
            self.name, "native" if metres is None else f"{round(metres * 1000)}mm", grid, shapes, cuts
        )

    def _original_plan(self, scale: float) -> "Plan":
        grid, shapes = self.source.grid, self._shapes_in((1.0, 1.0))
        label = f"{scale:g}".replace(".", "_")
        return Plan(self.name, label, grid, shapes, plan_cuts(shapes, grid, self.config), scale)

    def _shapes_in(self, scale: tuple[float, float]) -> np.ndarray:
        if self.shapes is None or scale == (1.0, 1.0):
            return np.zeros(0, object) if self.shapes is None else self.shapes
        scaled: np.ndarray = shapely.transform(self.shapes, lambda xy: xy / scale)
        return scaled

    def _enough(self, full: int, empty: int, cut: Cut) -> bool:
        """Whether no more tiles are wanted; tiles without building come last where their number is limited."""
        most, ratio = self.config.max_tiles, self.config.max_empty_ratio
        if most is not None and full + empty >= most:
            return True
        if ratio is None or self.config.by == "empty" or self.config.compat_every_building:
            return False
        if len(cut.buildings):  # leaves room for the empty ones that follow
            return most is not None and full >= math.ceil(most / (1 + ratio))
        return empty + 1 > ratio * full

    def _known(self, scene: Scene | None) -> Scene | None:
        """An earlier tile whose files are still there."""
        if scene is None:
            return None
        files = [path for path in (scene.pre, scene.building_mask, scene.soft) if path is not None]
        return scene if all(path.is_file() for path in files) else None

    def _tile(self, plan: "Plan", cut: Cut) -> Scene | None:
        if plan.original_scale is not None:
            return self._original_tile(plan, cut, plan.original_scale)
        grid, config = plan.grid.crop(cut.window), self.config
        whole = min(config.size_px, plan.grid.width) * min(config.size_px, plan.grid.height)
        # Narrow rests at the edges are judged before they cost a read.
        if grid.width * grid.height < config.min_valid * whole:
            self.dropped["too narrow"] += 1
            return None
        patch = self.source.read(grid)
        if patch.valid.sum() < config.min_valid * whole or not patch.valid.any():
            self.dropped["without enough data"] += 1
            return None
        mask = None
        if self.shapes is not None:
            mask = self._draw(plan, cut, all_touched=config.mask == "all-touched")
            share = float(mask[patch.valid].mean())
            mask[~patch.valid] = IGNORE
            if len(cut.buildings) and share < config.min_building:
                self.dropped["with too little building"] += 1
                return None
        pixels = self._eight_bit(patch.array)
        pixels[:, ~patch.valid] = 0
        return self._write(plan.name(cut), pixels, mask, grid, len(cut.buildings))

    def _original_tile(self, plan: "Plan", cut: Cut, scale: float) -> Scene:
        """A tile as the original cuts it: read in full, resized with its mask, cropped."""
        name, window, grid = plan.name(cut), cut.window, plan.grid.crop(cut.window)
        frame = shapely.box(window.col, window.row, window.col + window.width, window.row + window.height)
        cut = Cut(window, np.flatnonzero(shapely.intersects(plan.shapes, frame)))
        pixels = self._eight_bit(self.source.read(grid).array)
        grey = self._draw(plan, cut, all_touched=True) * np.uint8(255)
        if scale != 1:
            width, height = int(grid.width / scale), int(grid.height / scale)
            step = Affine.scale(grid.width / width, grid.height / height)
            grid = Grid(grid.crs, grid.transform * step, width, height)
            rows_first = np.ascontiguousarray(pixels.transpose(1, 2, 0))
            pixels = cv2.resize(rows_first, (width, height)).transpose(2, 0, 1)
            grey = cv2.resize(grey, (width, height))
        if self.config.compat_top_left:
            side = self.config.size_px
            grid = grid.crop(Window(0, 0, min(side, grid.height), min(side, grid.width)))
            pixels, grey = pixels[:, :side, :side], grey[:side, :side]
        mask = (grey >= 128).astype(np.uint8)
        scene = self._write(name, np.ascontiguousarray(pixels), mask, grid, len(cut.buildings))
        if scale == 1:
            return scene
        soft = write_soft(self.out / SOFT / f"{name}.tif", grey[None].astype(np.float32) / 255, scene.grid)
        return scene.model_copy(update={"soft": soft})

    def _draw(self, plan: "Plan", cut: Cut, *, all_touched: bool) -> np.ndarray:
        window = cut.window
        local = shapely.transform(plan.shapes[cut.buildings], lambda xy: xy - (window.col, window.row))
        return draw_mask(local, height=window.height, width=window.width, all_touched=all_touched)

    def _eight_bit(self, array: np.ndarray) -> np.ndarray:
        return array if self.stretch is None else self.stretch.apply(array)

    def _write(
        self, name: str, pixels: np.ndarray, mask: np.ndarray | None, grid: Grid, buildings: int
    ) -> Scene:
        image = self.out / IMAGES / f"{name}.tif"
        write_tile(image, pixels, grid, jpeg_quality=self.jpeg_quality)
        return Scene(
            name=name,
            event=self.event,
            source_split=self.source_split,
            pre=image,
            building_mask=None
            if mask is None
            else _write_mask(self.out / MASKS / f"{name}_building.png", mask),
            width=grid.width,
            height=grid.height,
            grid=scene_grid(grid),
            resolution_m=grid.resolution_m,
            class_pixels=[] if mask is None else class_pixels(mask, len(BUILDING)),
            polygons={} if mask is None else {"building": buildings},
            checksums={"pre": checksum(read_bytes(image))},
        )


def write_tile(path: Path, pixels: np.ndarray, grid: Grid, *, jpeg_quality: int | None = None) -> None:
    """Write uint8 (3, H, W) as a GeoTIFF, deflated or as JPEG; whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    profile: dict[str, object] = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": len(pixels),
        "height": grid.height,
        "width": grid.width,
    }
    if grid.crs is not None:
        profile |= {"crs": grid.crs, "transform": grid.transform}
    if jpeg_quality is None:
        profile |= {"compress": "deflate", "predictor": 2, "photometric": "RGB"}
    else:
        profile |= {
            "compress": "JPEG",
            "JPEG_QUALITY": jpeg_quality,
            "photometric": "YCBCR",
            "interleave": "pixel",
        }
    part = path.with_name(path.name + ".part")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(part, "w", **profile) as file:
                file.write(pixels)
        part.rename(path)
    except (OSError, RasterioError) as error:
        raise OutputError(f"cannot write {path}: {' '.join(str(error).split())}") from None


def draw_mask(
    shapes: Sequence[object] | np.ndarray, *, height: int, width: int, all_touched: bool
) -> np.ndarray:
    """Buildings as uint8 (H, W), 1 on the pixels whose centre lies in one, or on all that one touches.

    Args:
        shapes: polygons in pixels, x = column, y = row.
        height: rows of the mask.
        width: columns of the mask.
        all_touched: whether touching is enough.
    """
    if not len(shapes):
        return np.zeros((height, width), np.uint8)
    mask: np.ndarray = rasterize(
        [(shape, 1) for shape in shapes],
        out_shape=(height, width),
        transform=Affine.identity(),
        all_touched=all_touched,
        dtype="uint8",
    )
    return mask


@dataclass(frozen=True, slots=True)
class Plan:
    """The windows of one resolution.

    Attributes:
        source: begins the names of the tiles.
        label: of the resolution, in the names.
        grid: that the windows count in.
        shapes: buildings in pixels of `grid`.
        cuts: windows, in the order in which they are cut.
        original_scale: pixels of `grid` per pixel of a tile, where tiles are cut the original's way.
    """

    source: str
    label: str
    grid: Grid
    shapes: np.ndarray
    cuts: list[Cut]
    original_scale: float | None = None

    def name(self, cut: Cut) -> str:
        """Unique name of a tile."""
        if self.original_scale is not None:
            return f"{self.source}_{self.label}_{cut.buildings[0]}"
        return f"{self.source}_{self.label}_r{cut.window.row:05d}_c{cut.window.col:05d}"


def _write_mask(path: Path, mask: np.ndarray) -> Path:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 2])[1].tobytes())
        return part.rename(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
