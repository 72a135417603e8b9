"""The table with what was learnt and what was answered; answers win."""

from collections.abc import Mapping

import geopandas
import numpy as np

from aftermap.classes import DAMAGE, NOT_ASSESSED
from aftermap.products.vectors import COLUMNS, DAMAGE_VALUES, PROBABILITIES
from aftermap.workflows.event_model.check import Check
from aftermap.workflows.event_model.described import Described
from aftermap.workflows.event_model.model import fit_levels, fit_phantoms, softened, unknown_levels
from aftermap.workflows.review.answers import NOT_A_BUILDING

NO_BUILDING = "not a building"
"""The reason why a phantom is not assessed."""

OWN = ("damage_model", "reviewed", "p_not_building")
"""Columns that learning adds, behind those that every map has."""


def judge(
    buildings: geopandas.GeoDataFrame,
    described: Described,
    check: Check | None,
    verdicts: Mapping[int, str],
    learnt: tuple[np.ndarray, np.ndarray, np.ndarray],
    weights: np.ndarray | None = None,
) -> geopandas.GeoDataFrame:
    """The table of buildings as it is from now on.

    Args:
        buildings: as the map's model left them.
        described: the same.
        check: of the event's own model; None, or one that is not better, leaves the map's classes.
        verdicts: what was answered, by row.
        learnt: rows with a level, their levels, and rows that are no building.
        weights: of the rows with a level, (m,); alike by default.
    """
    frame = buildings.copy()
    frame = frame.rename(columns={name: f"user_{name}" for name in OWN if name in frame.columns})
    frame["damage_model"] = frame["damage"]
    frame["reviewed"] = False
    frame["p_not_building"] = np.nan
    rows, levels, phantoms = learnt
    names = np.array(DAMAGE.names[1:], dtype=object)
    assessed = np.flatnonzero(described.assessed)
    before = np.array([DAMAGE_VALUES.index(name) for name in frame["damage"]])
    if check is not None and check.better:
        model = fit_levels(described, rows, levels, weights)
        few = unknown_levels(before, rows)
        learned = assessed[~few[before[assessed]]]
        shares = softened(model.probabilities, check.temperature)[learned]
        decided = model.decided[learned]
        frame.loc[learned, "damage"] = names[decided]
        frame.loc[learned, list(PROBABILITIES)] = shares
        frame.loc[learned, "confidence"] = (
            shares[np.arange(len(learned)), decided] * frame["seen"].to_numpy()[learned]
        )
    if check is not None and check.rejects:
        every = np.concatenate([rows, phantoms])
        is_phantom = np.arange(len(every)) >= len(rows)
        doubtful = fit_phantoms(described.values, every, is_phantom)[assessed]
        frame.loc[assessed, "p_not_building"] = doubtful.round(4)
        _reject(frame, assessed[doubtful > 0.5])
    told_rows = np.array(sorted(verdicts), np.int64)
    told = np.array([verdicts[row] for row in told_rows.tolist()], dtype=object)
    frame.loc[told_rows, "reviewed"] = True
    phantom = told == NOT_A_BUILDING
    _reject(frame, told_rows[phantom])
    levelled = told_rows[~phantom]
    frame.loc[levelled, "damage"] = told[~phantom]
    frame.loc[levelled, list(PROBABILITIES)] = (told[~phantom, None] == names).astype(float)
    frame.loc[levelled, "confidence"] = 1.0
    frame.loc[levelled, "reason"] = ""
    frame.loc[levelled, "p_building"] = frame.loc[levelled, "p_building"].fillna(1.0)
    if frame["p_not_building"].isna().all():
        frame = frame.drop(columns="p_not_building")
    added = [name for name in OWN if name in frame.columns]
    rest = [name for name in frame.columns if name not in (*COLUMNS, *added)]
    return frame[[*COLUMNS, *added, *rest]]


def _reject(frame: geopandas.GeoDataFrame, rows: np.ndarray) -> None:
    """Take buildings for none: not assessed, with the reason."""
    frame.loc[rows, "damage"] = NOT_ASSESSED
    frame.loc[rows, "reason"] = NO_BUILDING
    frame.loc[rows, [*PROBABILITIES, "confidence"]] = np.nan
