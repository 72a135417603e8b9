"""A probability sample of the buildings of a map, in an order in which a reviewer may stop at any time.

    OUT/review/sample.json      seed, strata, the order, and what the map said when it was drawn

Each stratum has a random permutation of its own. A timetable, fixed before anything is looked at, says which stratum
comes next: first each in turn until it has its floor, then always the one in which a further building tells most (Wright
2012, priority N S / sqrt(n (n + 1)), which is the exact optimum for each length). So

- the first m buildings are a simple random sample without replacement in each stratum, of n_h(m) of its N_h buildings;
- n_h(m) is known beforehand, and a building of stratum h is among the first m with probability n_h(m) / N_h;
- every m of at least the number of strata is valid: each stratum is there. Shorter ones say nothing of some strata;
- a longer sample goes on where a shorter one ended.

Who stops must not do so because of what was seen last. A building that was answered for another reason keeps its place
in the order, and brings nobody into the sample.

Source: Wright, "The equivalence of Neyman optimum allocation for sampling and equal proportions for apportioning the U.S.
House of Representatives", The American Statistician 66 (2012).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, NOT_ASSESSED
from aftermap.errors import InputError
from aftermap.files import read_json, write_text
from aftermap.products.vectors import PROBABILITIES
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import FOLDER
from aftermap.workflows.totals.strata import Stratum, stratify

FILE = "sample.json"
FORMAT = 1
FLOOR = 2
"""Buildings of each stratum that come before any third one."""

_PER_STRATUM = 8
_MOST_STRATA = 24
_STEPS = 10_000


@dataclass(frozen=True)
class Sample:
    """A probability sample, and the buildings that it was drawn from.

    Attributes:
        seed: of the permutations.
        outlines_sha256: of the map; see `FinishedMap`.
        strata: parts that are sampled apart.
        ids: of every building that was assessed, sorted, (N,).
        stratum: of each, int (N,).
        predicted: class that the map gave each when the sample was drawn, 0 for no damage to 3 for destroyed, int (N,).
        probabilities: the map's likewise, (N, 4).
        order: of the sample, as indices into `ids`, (n,).
        binary: whether the map tells destroyed from not alone: classes are then 0 and 3, and the probabilities of those
            between are 0.
    """

    seed: int
    outlines_sha256: str
    strata: tuple[Stratum, ...]
    ids: tuple[str, ...]
    stratum: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    order: np.ndarray
    binary: bool = False

    def __repr__(self) -> str:
        return f"<sample of {len(self)} of {len(self.ids)} buildings in {len(self.strata)} strata>"

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def drawn(self) -> list[str]:
        """`building_id` of the sample, in its order: the queue of a reviewer."""
        return [self.ids[number] for number in self.order]

    @cached_property
    def sizes(self) -> np.ndarray:
        """Buildings of each stratum, int (H,)."""
        return np.array([each.buildings for each in self.strata])

    @property
    def least(self) -> int:
        """The shortest valid prefix: each stratum has been visited."""
        return min(len(self.strata), len(self))

    def counts(self, length: int | None = None) -> np.ndarray:
        """Buildings of each stratum among the first `length` of the order, int (H,); by default of the whole."""
        return np.bincount(self.stratum[self.order[:length]], minlength=len(self.strata))

    def inclusion(self, length: int | None = None) -> np.ndarray:
        """Probability of each building to be among the first `length` of the order, (N,)."""
        return np.asarray((self.counts(length) / self.sizes)[self.stratum])

    def used(self, answered: Collection[str], in_turn: Collection[str]) -> np.ndarray:
        """What may be estimated from: in each stratum the order up to the first building without an answer.

        Of a sample that is not finished nothing is used beyond the last building that was answered because its turn had
        come: further down, only buildings that came up for another reason have answers.

        Args:
            answered: `building_id` of all that have an answer, whatever for.
            in_turn: of those with an answer that was given because they are in the sample.

        Returns:
            Places in the order, ascending, int (m,).
        """
        drawn, has = self.drawn, set(answered)
        turns = set(in_turn)
        reach = len(drawn)
        if not all(name in has for name in drawn):
            reach = max((place + 1 for place, name in enumerate(drawn) if name in turns), default=0)
        stopped: set[int] = set()
        places = []
        for place, number in enumerate(self.order[:reach]):
            part = int(self.stratum[number])
            if part in stopped:
                continue
            if drawn[place] in has:
                places.append(place)
            else:
                stopped.add(part)
        return np.array(places, np.int64)

    def extended(self, size: int) -> "Sample":
        """The same sample, longer: it begins with this one's order. A smaller size leaves it as it is."""
        size = min(size, len(self.ids))
        if size <= len(self):
            return self
        have = self.counts()
        generator = np.random.default_rng([self.seed, len(self)])
        order = list(self.order)
        taken = np.zeros(len(self.ids), bool)
        taken[self.order] = True
        waiting = [
            iter(generator.permutation(np.flatnonzero((self.stratum == part) & ~taken)))
            for part in range(len(self.strata))
        ]
        spreads = np.array([each.spread for each in self.strata])
        order += [next(waiting[part]) for part in timetable(self.sizes, spreads, size, have)]
        return replace(self, order=np.array(order, np.int64))

    def save(self, folder: Path) -> Path:
        """Write it into the folder of a map; returns the file.

        Raises:
            OutputError: it cannot be written; an older one stays.
        """
        tree = {
            "format": FORMAT,
            "scale": (DESTROYED_OR_NOT if self.binary else DAMAGE).name,
            "seed": self.seed,
            "size": len(self),
            "outlines_sha256": self.outlines_sha256,
            "strata": [
                {**asdict(each), "drawn": int(count)}
                for each, count in zip(self.strata, self.counts(), strict=True)
            ],
            "order": self.drawn,
            "buildings": {
                "building_id": self.ids,
                "stratum": self.stratum.tolist(),
                "predicted": self.predicted.tolist(),
                **{
                    name: np.round(self.probabilities[:, level] * _STEPS).astype(int).tolist()
                    for level, name in enumerate(PROBABILITIES)
                    if name in _probabilities(binary=self.binary)
                },
            },
            "about": f"probabilities in {_STEPS:,}ths; a building of a stratum is in the sample with probability "
            "drawn / buildings",
        }
        return write_text(place_of(folder), json.dumps(tree, ensure_ascii=False) + "\n", parents=True)

    @classmethod
    def load(cls, folder: Path) -> "Sample":
        """Read that of a map.

        Raises:
            InputError: there is none, or it cannot be used.
        """
        path = place_of(folder)
        if not path.exists():
            raise InputError(f"{folder} has no sample yet: 'aftermap review {folder}' draws one")
        tree = read_json(path)
        if not isinstance(tree, dict):
            raise InputError(f"{path} is not a sample")
        if tree.get("format") != FORMAT:
            raise InputError(f"{path} has format {tree.get('format')!r}, this version reads {FORMAT}")
        try:
            return _understood(tree)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path} is not a sample: {error}") from None


def draw_sample(
    buildings: "pandas.DataFrame | geopandas.GeoDataFrame",
    size: int,
    *,
    seed: int,
    outlines_sha256: str = "",
    strata: int | None = None,
    binary: bool = False,
) -> Sample:
    """Draw a sample from the buildings that a map has assessed.

    Args:
        buildings: the table of a map; those not assessed are left out.
        size: of the sample; at most all buildings.
        seed: the same one draws the same sample, whatever the order of the rows.
        outlines_sha256: of the map.
        strata: number of strata at most; by default about one for eight buildings of the sample.
        binary: whether the map is one of the image after alone.

    Raises:
        InputError: no building was assessed.
        ValueError: the size is below 1.
    """
    if size < 1:
        raise ValueError(f"a sample has at least one building, not {size}")
    told = list(_probabilities(binary=binary))
    frame = buildings[(buildings["damage"] != NOT_ASSESSED) & buildings[told].notna().all(axis=1)]
    if frame.empty:
        raise InputError("no building of the map was assessed: there is nothing to draw a sample from")
    names = frame["building_id"].astype(str).to_numpy()
    by_name = np.argsort(names, kind="stable")
    frame, names = frame.iloc[by_name], names[by_name]
    probabilities = _four({name: frame[name].to_numpy(np.float64) for name in told})
    levels = {name: level for level, name in enumerate(DAMAGE.names[1:])}
    predicted = frame["damage"].map(levels).fillna(0).to_numpy(np.int64)
    at_most = strata or max(1, min(_MOST_STRATA, size // _PER_STRATUM))
    areas, unit = _areas(frame)
    parts, stratum = stratify(
        predicted, 1 - probabilities[:, 0], areas, at_most=at_most, unit=unit, binary=binary
    )
    none = np.zeros(0, np.int64)
    empty = Sample(
        seed, outlines_sha256, parts, tuple(names), stratum, predicted, probabilities, none, binary
    )
    return empty.extended(size)


def sample_of(map_: FinishedMap, size: int, *, seed: int = 0) -> Sample:
    """The sample of a map: the one in its folder, extended where it is smaller, or a new one; it is saved.

    Raises:
        InputError: there is nothing to draw from, or the one in the folder is of other outlines.
        OutputError: it cannot be written.
    """
    if place_of(map_.folder).exists():
        before = Sample.load(map_.folder)
        check_outlines(before, map_)
        sample = before.extended(size)
        if len(sample) == len(before):
            return before
    else:
        sample = draw_sample(
            map_.buildings,
            size,
            seed=seed,
            outlines_sha256=map_.outlines_sha256,
            binary=map_.one_date == "post-only",
        )
    sample.save(map_.folder)
    return sample


def check_outlines(sample: Sample, map_: FinishedMap) -> None:
    """Refuse a sample of another map, or of other outlines.

    Raises:
        InputError: it is.
    """
    if sample.outlines_sha256 != map_.outlines_sha256 or sample.binary != (map_.one_date == "post-only"):
        what = (
            "other outlines than those"
            if sample.outlines_sha256 != map_.outlines_sha256
            else "other classes than those"
        )
        raise InputError(
            f"{place_of(map_.folder)} was drawn from {what} of the map: a sample belongs to one map; "
            "move the folder 'review' away to begin anew"
        )


def place_of(folder: Path) -> Path:
    """Where the sample of a map lies."""
    return folder / FOLDER / FILE


def timetable(sizes: np.ndarray, spreads: np.ndarray, size: int, have: np.ndarray) -> list[int]:
    """Which stratum comes next, up to a size; see the module.

    Args:
        sizes: buildings of each stratum, int (H,).
        spreads: standard deviation of each, (H,).
        size: of the sample, with those that it has.
        have: how many each stratum has already, int (H,).
    """
    turns: list[tuple[float, float, int]] = []
    for part, (buildings, spread, begun) in enumerate(zip(sizes, spreads, have, strict=True)):
        for n in range(int(begun), int(min(buildings, begun + size - have.sum()))):
            urgency = -buildings * spread / np.sqrt(n * (n + 1)) if n >= FLOOR else -buildings * spread
            turns.append((n if n < FLOOR else FLOOR, float(urgency), part))
    turns.sort()
    return [part for _, _, part in turns[: size - int(have.sum())]]


def _areas(frame: "pandas.DataFrame | geopandas.GeoDataFrame") -> tuple[np.ndarray, str]:
    """Area of each building and its unit: square metres, or pixels for a map without georeference."""
    areas = frame["area_m2"].astype(float).to_numpy()
    if np.isnan(areas).all() and isinstance(frame, geopandas.GeoDataFrame):
        return np.asarray(frame.geometry.area), "px"
    return np.asarray(areas), "m²"


def _probabilities(*, binary: bool) -> tuple[str, ...]:
    """Columns of the map's probabilities."""
    return PROBABILITIES[-1:] if binary else PROBABILITIES


def _four(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Probabilities (N, 4) of no damage to destroyed; without the others, p(no damage) is what p(destroyed) leaves."""
    found = {name: np.clip(values, 0, 1) for name, values in columns.items()}
    destroyed = found[PROBABILITIES[-1]]
    rest = {} if len(found) > 1 else {PROBABILITIES[0]: 1 - destroyed}
    return np.stack([(found | rest).get(name, 0 * destroyed) for name in PROBABILITIES], axis=1)


def _understood(tree: Any) -> Sample:
    columns = tree["buildings"]
    ids = tuple(str(name) for name in columns["building_id"])
    place = {name: number for number, name in enumerate(ids)}
    strata = tuple(
        Stratum(str(each["name"]), int(each["buildings"]), float(each["spread"])) for each in tree["strata"]
    )
    stratum, predicted = (np.array(columns[name], np.int64) for name in ("stratum", "predicted"))
    binary = tree.get("scale", DAMAGE.name) == DESTROYED_OR_NOT.name
    probabilities = _four(
        {name: np.array(columns[name], np.float64) / _STEPS for name in _probabilities(binary=binary)}
    )
    order = np.array([place[name] for name in tree["order"]], np.int64)
    sizes = [each.buildings for each in strata]
    if len(place) != len(ids) or len(set(order.tolist())) != len(order):
        raise ValueError("a building is in it twice")
    if (
        stratum.shape != (len(ids),)
        or len(probabilities) != len(ids)
        or predicted.shape != (len(ids),)
        or stratum.min(initial=0) < 0
        or np.bincount(stratum, minlength=len(strata)).tolist() != sizes
    ):
        raise ValueError("its strata do not have the buildings that they should")
    told = int(tree["seed"]), str(tree["outlines_sha256"])
    return Sample(*told, strata, ids, stratum, predicted, probabilities, order, binary)
