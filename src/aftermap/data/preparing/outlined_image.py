"""An image of any size with the outlines of its buildings, cut window by window at one or several resolutions."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
import shapely
from affine import Affine

from aftermap.classes import BUILDING, IGNORE
from aftermap.data.geotransform import scene_grid
from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.preparing.cut_plan import Cut, grid_at, plan_cuts, scale_to
from aftermap.data.preparing.cutter import CutTile, TileForm, draw_mask
from aftermap.data.preparing.dataset import Labels
from aftermap.data.stretch import Stretch
from aftermap.errors import DataError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import RasterSource, require_bands


@dataclass(frozen=True, slots=True)
class ResolutionPlan:
    """The windows of one resolution.

    Attributes:
        label: of the resolution, in the names of tiles.
        grid: that the windows count in.
        shapes: buildings in pixels of `grid`.
        cuts: windows, in the order in which they are cut.
        original_scale: pixels of `grid` per pixel of a tile, where tiles are cut the original's way.
    """

    label: str
    grid: Grid
    shapes: np.ndarray
    cuts: list[Cut]
    original_scale: float | None = None


@dataclass
class OutlinedImage:
    """One image and the outlines of its buildings in its pixels; None where it has no labels.

    While tiles are cut, `windows` counts those that are looked at, and `dropped` those that are left out, by reason.
    """

    source: RasterSource
    shapes: np.ndarray | None
    config: CutConfig
    name: str
    stretch: Stretch | None = None
    jpeg_quality: int | None = None
    windows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    full: int = 0
    empty: int = 0

    def __post_init__(self) -> None:
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

    @property
    def form(self) -> TileForm:
        """Three bands without names."""
        return TileForm(len(BUILDING), jpeg_quality=self.jpeg_quality)

    @property
    def planned(self) -> int:
        """How many windows there are."""
        return sum(len(plan.cuts) for plan in self.plans)

    def tiles(self) -> "Iterator[_Window]":
        """The windows of all resolutions, until there are enough tiles of each."""
        for plan in self.plans:
            self.full = self.empty = 0
            for window in plan.cuts:
                if not self._enough(window):
                    self.windows += 1
                    yield _Window(self, plan, window)

    @cached_property
    def plans(self) -> list[ResolutionPlan]:
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

    def _plan(self, resolution: float | None) -> ResolutionPlan:
        native = self.source.grid
        scale, grid = scale_to(native, resolution), grid_at(native, resolution)
        shapes = self._shapes_in(scale)
        coarsest = np.max([scale_to(native, r) for r in self.config.resolutions or (None,)], axis=0)
        side = coarsest * self.config.size_px * self.config.block_tiles / scale
        cuts = plan_cuts(shapes, grid, self.config, block_px=(float(side[0]), float(side[1])))
        metres = resolution if resolution is not None else native.resolution_m
        return ResolutionPlan("native" if metres is None else f"{round(metres * 1000)}mm", grid, shapes, cuts)

    def _original_plan(self, scale: float) -> ResolutionPlan:
        grid, shapes = self.source.grid, self._shapes_in((1.0, 1.0))
        label = f"{scale:g}".replace(".", "_")
        return ResolutionPlan(label, grid, shapes, plan_cuts(shapes, grid, self.config), scale)

    def _shapes_in(self, scale: tuple[float, float]) -> np.ndarray:
        if self.shapes is None or scale == (1.0, 1.0):
            return np.zeros(0, object) if self.shapes is None else self.shapes
        scaled: np.ndarray = shapely.transform(self.shapes, lambda xy: xy / scale)
        return scaled

    def _enough(self, window: Cut) -> bool:
        """Whether no more tiles are wanted; tiles without building come last where their number is limited."""
        most, ratio = self.config.max_tiles, self.config.max_empty_ratio
        if most is not None and self.full + self.empty >= most:
            return True
        if ratio is None or self.config.by == "empty" or self.config.compat_every_building:
            return False
        if len(window.buildings):  # leaves room for the empty ones that follow
            return most is not None and self.full >= math.ceil(most / (1 + ratio))
        return self.empty + 1 > ratio * self.full

    def eight_bit(self, array: np.ndarray) -> np.ndarray:
        """Pixels (C, H, W) as tiles hold them."""
        return array if self.stretch is None else self.stretch.apply(array)


@dataclass(frozen=True, slots=True)
class _Window:
    """A window that may become a tile."""

    image: OutlinedImage
    plan: ResolutionPlan
    window: Cut
    place: None = None

    @property
    def name(self) -> str:
        start = f"{self.image.name}_{self.plan.label}"
        if self.plan.original_scale is not None:
            return f"{start}_{self.window.buildings[0]}"
        return f"{start}_r{self.window.window.row:05d}_c{self.window.window.col:05d}"

    def keep(self) -> None:
        """Count it with its like."""
        if len(self.window.buildings):
            self.image.full += 1
        else:
            self.image.empty += 1

    def cut(self) -> CutTile | None:
        """Its pixels and mask; None where it holds too little."""
        if self.plan.original_scale is not None:
            return self._original(self.plan.original_scale)
        image, config, buildings = self.image, self.image.config, self.window.buildings
        grid = self.plan.grid.crop(self.window.window)
        whole = min(config.size_px, self.plan.grid.width) * min(config.size_px, self.plan.grid.height)
        # Narrow rests at the edges are judged before they cost a read.
        if grid.width * grid.height < config.min_valid * whole:
            image.dropped["too narrow"] += 1
            return None
        patch = image.source.read(grid)
        if patch.valid.sum() < config.min_valid * whole or not patch.valid.any():
            image.dropped["without enough data"] += 1
            return None
        labels = Labels(grid=scene_grid(grid))
        if image.shapes is not None:
            mask = self._draw(buildings, all_touched=config.mask == "all-touched")
            share = float(mask[patch.valid].mean())
            mask[~patch.valid] = IGNORE
            if len(buildings) and share < config.min_building:
                image.dropped["with too little building"] += 1
                return None
            labels = Labels({"building": mask}, {"building": len(buildings)}, scene_grid(grid))
        pixels = image.eight_bit(patch.array)
        pixels[:, ~patch.valid] = 0
        return _tile(pixels, labels, grid)

    def _original(self, scale: float) -> CutTile:
        """A tile as the original cuts it: read in full, resized with its mask, cropped."""
        image, config, window = self.image, self.image.config, self.window.window
        grid = self.plan.grid.crop(window)
        frame = shapely.box(window.col, window.row, window.col + window.width, window.row + window.height)
        buildings = np.flatnonzero(shapely.intersects(self.plan.shapes, frame))
        pixels = image.eight_bit(image.source.read(grid).array)
        grey = self._draw(buildings, all_touched=True) * np.uint8(255)
        if scale != 1:
            width, height = int(grid.width / scale), int(grid.height / scale)
            step = Affine.scale(grid.width / width, grid.height / height)
            grid = Grid(grid.crs, grid.transform * step, width, height)
            rows_first = np.ascontiguousarray(pixels.transpose(1, 2, 0))
            pixels = cv2.resize(rows_first, (width, height)).transpose(2, 0, 1)
            grey = cv2.resize(grey, (width, height))
        if config.compat_top_left:
            side = config.size_px
            grid = grid.crop(Window(0, 0, min(side, grid.height), min(side, grid.width)))
            pixels, grey = pixels[:, :side, :side], grey[:side, :side]
        labels = Labels(
            {"building": (grey >= 128).astype(np.uint8)},
            {"building": len(buildings)},
            scene_grid(grid),
            soft=None if scale == 1 else grey[None].astype(np.float32) / 255,
        )
        return _tile(np.ascontiguousarray(pixels), labels, grid)

    def _draw(self, buildings: np.ndarray, *, all_touched: bool) -> np.ndarray:
        window = self.window.window
        local = shapely.transform(self.plan.shapes[buildings], lambda xy: xy - (window.col, window.row))
        return draw_mask(local, height=window.height, width=window.width, all_touched=all_touched)


def _tile(pixels: np.ndarray, labels: Labels, grid: Grid) -> CutTile:
    """A tile; one without reference system says nothing of where it lies."""
    return CutTile(
        pixels, labels, grid if grid.crs else Grid(None, Affine.identity(), grid.width, grid.height)
    )
