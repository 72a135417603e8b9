"""Disasters painted on real single-date images whose buildings are known (not yet part of this slice)."""

from dataclasses import dataclass
from pathlib import Path

from aftermap.data.synthetic.pair import Pair
from aftermap.errors import DataError
from aftermap.geo.grid import Grid


@dataclass(frozen=True)
class Photo:
    """A real image with known buildings."""

    path: Path


def find_photos(backdrop: Path, footprints: Path | None) -> list[Photo]:
    raise DataError(f"cannot paint on {backdrop} yet")


def paint_disaster(seed: int, photo: Photo, *, size_px: int, kind: str) -> tuple[Pair, Grid]:
    raise DataError(f"cannot paint on {photo.path} yet")
