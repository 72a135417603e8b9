"""A map of three classes, its summary and its page."""

from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from aftermap.classes import ClassScheme
from aftermap.geo.grid import Grid
from aftermap.geo.ground_area import row_areas_m2
from aftermap.inference.objects.class_regions import trace_regions
from aftermap.products.class_layers import Tally, regions_frame, summarise_classes
from aftermap.products.page.page import write_page
from aftermap.products.view import Picture, cover_view

SCHEME = ClassScheme(
    "town", ("background", "low_vegetation", "<b>water</b>"), ("#000000", "#20c040", "#2040e0"), 0
)
GRID = Grid(CRS.from_epsg(32632), Affine(0.5, 0, 465_000, 0, -0.5, 5_250_000), 240, 160)
CLASSES = np.zeros((160, 240), np.uint8)
CLASSES[:, 80:160], CLASSES[:, 160:], CLASSES[:20, :20] = 1, 2, 255
RGB = np.full((3, 160, 240), 90, np.uint8)


def summary() -> dict[str, Any]:
    areas = row_areas_m2(GRID)
    assert areas is not None
    seen = CLASSES != 255
    weights = np.broadcast_to(areas[:, None], CLASSES.shape)
    tally = Tally(
        pixels=np.bincount(CLASSES[seen], minlength=3),
        area_m2=np.bincount(CLASSES[seen], weights=weights[seen], minlength=3),
        confidence=np.bincount(CLASSES[seen], minlength=3) * 0.75,
        missing={"cloud": 400},
        missing_m2=float(weights[~seen].sum()),
    )
    regions = list(trace_regions([(0, CLASSES, np.ones(CLASSES.shape))], areas, left_out=(0,)))
    return summarise_classes(tally, regions_frame(regions, SCHEME, GRID), SCHEME, GRID)


def page(folder: Path, **options: Any) -> Path:
    options = {"title": "A town </script>", "model": "cover 1", **options}
    view = cover_view(Picture("Image", RGB), CLASSES, GRID, summary())
    return write_page(folder / "map.html", view, GRID, **options)
