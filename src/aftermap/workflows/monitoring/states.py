"""States of buildings over time out of what maps of single dates say: damage grows and does not heal by itself.

Where the classes of a building never fall from date to date they stay as the maps have them. Where they fall, one of
the maps is wrong: of all sequences that never fall, the one is taken that the maps' probabilities make most likely
(the dates count as independent; equally likely ones give the lower class). With repair allowed every map is taken at
its word. A date on which a building was not assessed says nothing: the state before stays, and there is none before
the first.
"""

import numpy as np

UNKNOWN = -1
"""State of a building that was not assessed up to then."""

_LEAST = 1e-6  # of a probability, so that one map alone never rules a class out


def states(said: np.ndarray, probabilities: np.ndarray, *, allow_repair: bool) -> np.ndarray:
    """The state of each building on each date, int (n, T), `UNKNOWN` before it was first assessed.

    Args:
        said: int (n, T), index of the class from none to destroyed; `UNKNOWN` where a map did not assess it.
        probabilities: float (n, T, K) of the classes; ignored where not assessed.
        allow_repair: states may fall.
    """
    found = _held(said)
    if allow_repair:
        return found
    falls = (np.diff(found, axis=1) < 0).any(axis=1)
    for row in np.flatnonzero(falls).tolist():
        seen = said[row] != UNKNOWN
        path = np.full(said.shape[1], UNKNOWN, np.int64)
        path[seen] = _rising(probabilities[row, seen])
        found[row] = _held(path[None])[0]
    return found


def contradictions(said: np.ndarray) -> np.ndarray:
    """Bool (n,), buildings whose class falls from one date to a later one."""
    return np.asarray((np.diff(_held(said), axis=1) < 0).any(axis=1))


def _held(said: np.ndarray) -> np.ndarray:
    """The last class that was said up to each date."""
    found = said.copy()
    for date in range(1, said.shape[1]):
        gap = found[:, date] == UNKNOWN
        found[gap, date] = found[gap, date - 1]
    return found


def _rising(probabilities: np.ndarray) -> np.ndarray:
    """The most likely sequence that never falls, int (T,), of probabilities (T, K)."""
    logs = np.log(np.maximum(probabilities, _LEAST))
    dates, classes = logs.shape
    best = np.full((dates, classes), -np.inf)
    before = np.zeros((dates, classes), np.int64)
    best[0] = logs[0]
    for date in range(1, dates):
        for state in range(classes):
            before[date, state] = int(np.argmax(best[date - 1, : state + 1]))
            best[date, state] = best[date - 1, before[date, state]] + logs[date, state]
    path = np.zeros(dates, np.int64)
    path[-1] = int(np.argmax(best[-1]))
    for date in range(dates - 1, 0, -1):
        path[date - 1] = before[date, path[date]]
    return path
