"""Estimates with intervals by area, where a probability sample of the map has answers."""

import warnings

import geopandas
import numpy as np

from aftermap.errors import DataWarning
from aftermap.extras import lacking
from aftermap.wording import counted
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import Journal, check_shown
from aftermap.workflows.totals.sampling import Sample, check_outlines, place_of

MOST_ESTIMATED = 2000
KINDS = ("damaged", "destroyed")


def add_estimates(frame: geopandas.GeoDataFrame, found: FinishedMap, area: np.ndarray) -> None:
    """Put `<kind>_estimate`, `_low` and `_high`, `estimate_kind` and `answers` into a table of areas.

    Nothing is added where the map has no sample, or nothing was answered of it. Estimates of areas do not sum to that of
    the map.

    Args:
        frame: the table.
        found: the map.
        area: row of the table of each building, int (n,).

    Raises:
        InputError: sample or answers are of another map, or cannot be read.
    """
    if not place_of(found.folder).is_file():
        return
    sample, answers = Sample.load(found.folder), Journal(found.folder).answers()
    check_outlines(sample, found)
    check_shown(answers, found.outlines_sha256, found.folder)
    if lacking("learn"):
        _skip("the sample of the map needs SciPy", "pip install 'aftermap[learn]'")
        return
    from aftermap.workflows.totals.estimate import estimate, looked_at

    looked = looked_at(sample, answers)
    if not (looked.codes >= 0).any():
        return
    some = np.flatnonzero(frame["assessed"].to_numpy() > 0)
    if len(some) > MOST_ESTIMATED:
        _skip(
            f"{counted(len(some), 'area')} have buildings, more than {MOST_ESTIMATED:,}",
            "choose larger areas",
        )
        return
    kinds = KINDS[1:] if sample.binary else KINDS
    columns = [f"{kind}_{what}" for kind in kinds for what in ("estimate", "low", "high")]
    values = {name: np.full(len(frame), np.nan) for name in columns}
    rests, answered = np.full(len(frame), None, dtype=object), np.zeros(len(frame), np.int64)
    ids = found.buildings["building_id"].astype(str).to_numpy()
    for row in some.tolist():
        told = estimate(ids[area == row], sample, looked)
        answered[row] = told.answers
        if told.totals:
            rests[row] = told.kind
        for kind in kinds:
            if (total := told.totals.get(kind)) is not None:
                for what, number in (("estimate", total.estimate), ("low", total.low), ("high", total.high)):
                    values[f"{kind}_{what}"][row] = round(number, 1)
    for name in columns:
        frame[name] = values[name]
    frame["estimate_kind"], frame["answers"] = rests, answered


def _skip(reason: str, remedy: str) -> None:
    warnings.warn(f"no intervals by area: {reason}: {remedy}", DataWarning, stacklevel=5)
