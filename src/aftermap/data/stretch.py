"""Percentile stretch: images of any range of values to 8 bits."""

import math
from dataclasses import dataclass

import numpy as np
from affine import Affine

from aftermap.errors import RasterError
from aftermap.geo.grid import Grid
from aftermap.geo.raster import RasterSource

PERCENTILES = (2.0, 98.0)
_SAMPLE_PX = 1 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """Brings values between two limits into 0 to 255.

    Attributes:
        low: value per band that becomes 0, or one value for all bands.
        high: value per band that becomes 255, or one value for all bands.
        compat_truncate: drop the fraction, as the third place of Open Cities does, instead of rounding.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    compat_truncate: bool = False

    @classmethod
    def measure(
        cls,
        image: np.ndarray,
        percentiles: tuple[float, float] = PERCENTILES,
        *,
        valid: np.ndarray | None = None,
        per_band: bool = False,
        name: str = "the image",
        compat_truncate: bool = False,
    ) -> "Stretch":
        """Take percentiles of an image's values, with linear interpolation between ranks.

        Args:
            image: (C, H, W).
            percentiles: those that become 0 and 255.
            valid: bool (H, W), the pixels that count; all of them by default. Values that are not finite never do.
            per_band: limits for each band, which changes colours; by default all bands share theirs.
            name: of the image, for messages.
            compat_truncate: of the stretch.

        Raises:
            RasterError: no pixel counts, or both percentiles have one value.
            ValueError: percentiles that are not 0 <= low < high <= 100.

        Source: Open Cities AI Challenge, third place, preparation of SpaceNet (all bands together, every pixel).
        """
        if not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError(f"percentiles are {percentiles}, expected two rising numbers from 0 to 100")
        values = image.reshape(len(image), -1) if valid is None else image[:, valid]
        values = values.astype(np.float64)
        values = values[:, np.isfinite(values).all(axis=0)]
        if values.size == 0:
            raise RasterError(f"{name} holds no data, so its stretch cannot be measured")
        rows = values if per_band else values.reshape(1, -1)
        low, high = np.percentile(rows, percentiles, axis=1)
        if not (high > low).all():
            value = low[int(np.argmin(high > low))]
            raise RasterError(
                f"{name} is {value:g} at both percentiles, {percentiles[0]:g} and {percentiles[1]:g}: "
                "pass a wider stretch, or leave it out"
            )
        return cls(tuple(low.tolist()), tuple(high.tolist()), compat_truncate)

    @classmethod
    def measure_source(
        cls,
        source: RasterSource,
        percentiles: tuple[float, float] = PERCENTILES,
        *,
        per_band: bool = False,
    ) -> "Stretch":
        """The same from a thinned reading of a raster of any size, of the pixels that hold data.

        Raises:
            RasterError: as for `measure`.
        """
        grid = source.grid
        step = max(1.0, math.sqrt(grid.width * grid.height / _SAMPLE_PX))
        thin = Grid(
            grid.crs,
            grid.transform * Affine.scale(step),
            math.ceil(grid.width / step),
            math.ceil(grid.height / step),
        )
        patch = source.read(thin, "nearest")
        return cls.measure(patch.array, percentiles, valid=patch.valid, per_band=per_band, name=source.name)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Values (C, H, W) as uint8; values that are not finite become 0."""
        low, high = (np.asarray(limits, np.float64)[:, None, None] for limits in (self.low, self.high))
        values = np.where(np.isfinite(image), image, low).astype(np.float64)
        scaled = (np.clip(values, low, high) - low) * 255 / (high - low)
        if not self.compat_truncate:
            scaled = np.rint(scaled)
        pixels: np.ndarray = scaled.astype(np.uint8)
        return pixels
