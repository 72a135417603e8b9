"""The map of any classes: an image in, a folder with its land cover out; or two dates in, and what became of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import geopandas
import numpy as np

from aftermap.classes import BUILDING, IGNORE
from aftermap.errors import InputError
from aftermap.geo.ground_area import row_areas_m2
from aftermap.geo.pair import Alignment
from aftermap.inference.objects.class_regions import trace_regions
from aftermap.inference.postprocess import REASONS as PAIR_REASONS
from aftermap.inference.postprocess import SCALE, Decision, Missing
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import Band
from aftermap.products.class_layers import (
    Tally,
    class_tags,
    regions_frame,
    summarise_classes,
    write_classes,
)
from aftermap.products.cog import class_colormap, probability_colormap
from aftermap.products.styles import class_style, style_layer
from aftermap.products.view import Picture, View, cover_view
from aftermap.workflows.mapping.inputs.dates import Inputs, Reading, open_image, open_pair
from aftermap.workflows.mapping.objects import MIN_BUILDING_PX
from aftermap.workflows.mapping.result import MapResult
from aftermap.workflows.mapping.run import Progress, run_map, to_rgb
from aftermap.workflows.mapping.settings import MapKeywords, Settings
from aftermap.workflows.mapping.task import Raster, Task, thinned_rows
from aftermap.workflows.mapping.work import Rows

REASONS = {**PAIR_REASONS, Missing.PRE: "no data"}
"""Words for why a pixel of a single date was not assessed."""

_SHOWN_BANDS = ("red", "green", "blue")


def map_classes(
    image: Path,
    out: Path,
    *,
    post: Path | None = None,
    align: Alignment = "auto",
    progress: Progress | None = None,
    **settings: Unpack[MapKeywords],
) -> MapResult:
    """Map the classes of a single date, or of what became of two; see `run.run_map`.

    Every pixel gets the likeliest class of the model's legend. A model that only tells buildings is one of two classes,
    decided by its threshold.

    Args:
        image: image, or folder of tiles; of two dates that from before.
        out: the output folder.
        post: that from after, for a model of two dates.
        align: of two dates: `auto` takes a measured shift between them out where that helps.
        progress: called as the work goes on.
        settings: see `settings.Settings`; the smallest region that becomes a polygon is `min_area_m2`.

    Raises:
        InputError: the image or the model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    chosen = Settings(**settings)
    if chosen.footprints is not None:
        raise InputError(
            f"a map of classes has no use for footprints, found {chosen.footprints}: leave --footprints out, or pass "
            "--task buildings"
        )
    if chosen.part_touching:
        raise InputError("a map of classes parts no buildings: leave --part-touching out")
    images = [image] if post is None else [image, post]
    return run_map(
        out, chosen, images, lambda model: _ClassTask(model, images, align, chosen), progress=progress
    )


class _ClassTask(Task):
    """The classes of a single date, or of two."""

    name = "classes"

    def __init__(
        self, model: AnyPredictor, images: Sequence[Path], align: Alignment, settings: Settings
    ) -> None:
        card = model.card
        if card.dates == 1 and len(images) == 2:
            raise InputError(
                f"--task classes maps one date with {card.name}, found a second image {images[1]}: leave it out, or "
                "give a model of two dates"
            )
        if card.legend is not None and card.dates == 2 and len(images) == 1:
            raise InputError(f"{card.name} compares two dates: pass the image from after too")
        if card.dates == 2 and card.legend is None:
            raise InputError(
                f"{card.name} compares two dates, --task classes maps one: give a model of one date, or both images "
                "without --task classes"
            )
        if card.legend is None and card.scheme != BUILDING.name:
            raise InputError(
                f"{card.name} tells {card.scheme}; --task classes takes a model with a legend or one of buildings"
            )
        self.predictor, self.scheme = model, card.scheme
        self._classes, self._decision = card.classes, Decision.of(card)
        self._images, self._align, self._settings = tuple(images), align, settings
        self.mode = "one image" if len(images) == 1 else "pre+post"
        self._tally = Tally.empty(len(self._classes))
        named, sure = class_colormap(self._classes), probability_colormap(SCALE)
        tags = class_tags(self._classes)
        self.rasters = (
            Raster("classes", (card.classes.name,), colours=named, tags=tags, categories=card.classes),
            Raster("confidence", ("p(likeliest class)",), colours=sure, scale=1 / SCALE),
        )

    def open(self, reading: Reading) -> Inputs:
        card = self.predictor.card
        if len(self._images) == 1:
            return open_image(self._images[0], card, reading)
        pre, post = self._images
        return open_pair(pre, post, card, reading, align=self._align)

    def deciding(self) -> dict[str, Any]:
        decision = "likeliest" if self._decision.likeliest else list(self._decision.thresholds)
        decided = {"task": "classes", "classes": list(self._classes.names), "decision": decision}
        return decided if len(self._images) == 1 else decided | {"align": self._align}

    def pixels(self, band: Band) -> dict[str, np.ndarray]:
        seen = band.missing == 0
        classes = np.full(seen.shape, IGNORE, np.uint8)
        confidence = np.full(seen.shape, IGNORE, np.uint8)
        if len(band.probabilities):
            chosen = self._decision.choose(band.probabilities)
            classes[seen] = chosen[seen]
            sure = np.take_along_axis(band.probabilities, chosen[None].astype(np.intp), axis=0)[0]
            confidence[seen] = np.rint(np.clip(sure, 0, 1) * np.float32(SCALE)).astype(np.uint8)[seen]
        return {"classes": classes, "confidence": confidence, "missing": band.missing}

    def table(self, rows: Sequence[Rows], inputs: Inputs) -> geopandas.GeoDataFrame:
        """The table of regions; counts the pixels on the way."""
        grid, background = inputs.grid, self._classes.background
        areas = row_areas_m2(grid)
        self._tally = Tally.empty(len(self._classes))
        least = self._settings.min_area_m2
        if areas is None:
            least = MIN_BUILDING_PX if least else 0.0
            areas = np.ones(grid.height)
        regions = trace_regions(
            self._bands(rows, areas),
            areas,
            left_out=() if background is None else (background,),
            min_area=least,
        )
        return regions_frame(list(regions), self._classes, grid)

    def write_table(self, frame: geopandas.GeoDataFrame, inputs: Inputs, folder: Path) -> dict[str, Any]:
        summary = summarise_classes(self._tally, frame, self._classes, inputs.grid)
        write_classes(frame, summary, folder)
        columns = list(frame.columns)
        style_layer(folder, "classes", class_style(self._classes), columns, raster=self._classes)
        return summary

    def view(
        self, frame: geopandas.GeoDataFrame, rows: Sequence[Rows], inputs: Inputs, summary: dict[str, Any]
    ) -> View:
        names = ("Image",) if len(self._images) == 1 else ("Before", "After")
        bands = self.predictor.card.given_bands
        pictures = [
            Picture(name, _shown(image, valid, bands), valid)
            for name, image, valid in zip(names, *inputs.overview(), strict=True)
        ]
        cover = thinned_rows(rows, "classes", inputs.grid)
        return cover_view(
            pictures[-1], cover, inputs.grid, summary, before=pictures[0] if pictures[1:] else None
        )

    def _bands(self, rows: Sequence[Rows], areas: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Finished rows for the tracing, counted as they pass; confidences from 0 to 1."""
        tally, count = self._tally, len(self._classes)
        for each in rows:
            classes, stored, missing = each.load("classes", "confidence", "missing")
            confidence = stored / SCALE
            ground = np.broadcast_to(areas[each.start : each.stop, None], classes.shape)
            seen = classes != IGNORE
            kinds = classes[seen]
            tally.pixels += np.bincount(kinds, minlength=count)
            tally.area_m2 += np.bincount(kinds, weights=ground[seen], minlength=count)
            tally.confidence += np.bincount(kinds, weights=confidence[seen], minlength=count)
            tally.missing_m2 += float(ground[~seen].sum())
            for code, pixels in zip(*np.unique(missing[~seen], return_counts=True), strict=True):
                word = (REASONS if len(self._images) == 1 else PAIR_REASONS).get(
                    Missing(int(code)), "no data"
                )
                tally.missing[word] = tally.missing.get(word, 0) + int(pixels)
            yield each.start, classes, confidence


def _shown(image: np.ndarray, valid: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """The image in red, green and blue where it has these bands, else as `to_rgb` shows it."""
    if set(_SHOWN_BANDS) <= set(bands) and len(image) >= 3:
        image = image[[bands.index(band) for band in _SHOWN_BANDS]]
    return to_rgb(image, valid)
