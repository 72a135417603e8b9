"""How a large image is cut into tiles."""

from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from aftermap.config import Config

LEAST_PX = 16
"""No tile, and no image at its resolution, is smaller."""


class CutConfig(Config):
    """How an image is cut into tiles.

    Attributes:
        by: `building`: windows in which every building lies whole (those larger than a tile in parts), few of them
            over the same ground. `grid`: side by side. `empty`: side by side where no building is near.
        size_px: width and height of a tile; at the image's edges, and where the image is smaller, tiles are smaller.
        resolutions: metres per pixel, each a set of tiles of its own; empty for the image's own pixels.
        padding_px: `building`: ground kept around a building where the tile has room for it.
        jitter_px: `building`: windows are moved at random by up to so much, as far as their buildings stay inside.
        overlap_px: `grid`: how far neighbours overlap inside a block.
        margin_px: `empty`: no building may come nearer to the tile.
        max_tiles: at most so many per image and resolution, drawn at random.
        max_empty_ratio: tiles without building per tile with buildings, at most. `grid`: all by default.
            `building`: none by default, else as many empty areas are added.
        min_valid: tiles with a smaller share of pixels that hold data (of a whole tile) are left out.
        min_building: tiles with buildings on a smaller share of their pixels are left out.
        block_tiles: side of a block in tiles of the coarsest resolution; 0 for one block over everything.
        mask: pixels whose centre lies in a building, or all that a building touches.
        seed: of every draw.
        compat_every_building: the original's way in place of all the above: one window per building, whatever
            others hold, see `building_window`; the mask `all-touched` and then resized with the image, which makes
            it grey at other scales.
        compat_scales: with it, pixels of the image per pixel of a tile, each a set of tiles of its own.
        compat_top_left: with it, keep only the upper left `size_px` of each window.
    """

    by: Literal["building", "grid", "empty"] = "grid"
    size_px: int = Field(512, ge=LEAST_PX)
    resolutions: tuple[float, ...] = ()
    padding_px: int | None = Field(None, ge=0)
    jitter_px: int = Field(0, ge=0)
    overlap_px: int = Field(0, ge=0)
    margin_px: int = Field(16, ge=0)
    max_tiles: int | None = Field(None, ge=1)
    max_empty_ratio: float | None = Field(None, ge=0)
    min_valid: float = Field(0.5, ge=0, le=1)
    min_building: float = Field(0.0, ge=0, le=1)
    block_tiles: int = Field(2, ge=0)
    mask: Literal["pixel-centre", "all-touched"] = "pixel-centre"
    seed: int = Field(0, ge=0)
    compat_every_building: bool = False
    compat_scales: tuple[PositiveFloat, ...] = (1.0, 2.0, 0.5)
    compat_top_left: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "CutConfig":
        if self.compat_every_building and self.resolutions:
            raise ValueError(
                "compat_every_building cuts at compat_scales, not at resolutions: leave them out"
            )
        for key, way in (("overlap_px", "grid"), ("jitter_px", "building"), ("margin_px", "empty")):
            if getattr(self, key) != type(self).model_fields[key].default and self.by != way:
                raise ValueError(f"{key} is for tiles by {way}, these are by {self.by}: leave it out")
        if self.padding_px is not None and self.by != "building" and not self.compat_every_building:
            raise ValueError(f"padding_px is for tiles by building, these are by {self.by}: leave it out")
        for key in ("compat_scales", "compat_top_left"):
            if getattr(self, key) != type(self).model_fields[key].default and not self.compat_every_building:
                raise ValueError(f"{key} goes with compat_every_building alone: leave it out, or give both")
        if self.overlap_px >= self.size_px:
            raise ValueError(
                f"tiles of {self.size_px} px cannot overlap by {self.overlap_px} px: take less than their size"
            )
        return self
