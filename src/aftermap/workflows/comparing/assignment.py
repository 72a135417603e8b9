"""Points and buildings one to one: as many pairs as there can be, and of these the ones that lie closest together.

Source: Kuhn 1955 and Munkres 1957 (the Hungarian method), by shortest augmenting paths (Jonker and Volgenant 1987).
"""

import numpy as np

MOST = 400
"""Points in one group; in a larger one the closest pair comes first, which may leave out points that had a place."""


def assign(points: np.ndarray, buildings: np.ndarray, distances: np.ndarray) -> list[int]:
    """Choose among pairs that are possible so that each point and each building has one at most.

    Pairs that share no point and no building, not even by others, are groups of their own. In each group as many points
    as possible get a building, and the sum of their distances is as small as it can be. Of points that are alike the
    earlier one gets it.

    Args:
        points: number of the point of each pair, (p,).
        buildings: number of its building.
        distances: between the two, from 0.

    Returns:
        The pairs that are chosen, as indices.
    """
    chosen: list[int] = []
    for group in _groups(points, buildings):
        rows, row = np.unique(points[group], return_inverse=True)
        cols, col = np.unique(buildings[group], return_inverse=True)
        if len(rows) > MOST:
            chosen += [int(group[at]) for at in _closest(points[group], buildings[group], distances[group])]
            continue
        none = (float(distances[group].max()) + 1) * (len(rows) + 1)  # more than any sum of distances
        cost = np.full((len(rows), len(cols) + len(rows)), 4 * none * (len(rows) + 1))
        order = np.arange(len(rows))
        cost[order, len(cols) + order] = none * (1 - 1e-9 * order)  # who comes later goes without first
        cost[row, col] = distances[group]
        pair = np.full(cost.shape, -1)
        pair[row, col] = group
        chosen += [int(pair[r, c]) for r, c in enumerate(_columns(cost).tolist()) if c < len(cols)]
    return sorted(chosen)


def _groups(points: np.ndarray, buildings: np.ndarray) -> list[np.ndarray]:
    """Indices of pairs that hang together."""
    _, point = np.unique(points, return_inverse=True)
    _, building = np.unique(buildings, return_inverse=True)
    of_point = np.arange(int(point.max(initial=-1)) + 1)
    while True:
        of_building = np.full(int(building.max(initial=-1)) + 1, len(of_point))
        np.minimum.at(of_building, building, of_point[point])
        lower = of_point.copy()
        np.minimum.at(lower, point, of_building[building])
        if np.array_equal(lower, of_point):
            break
        of_point = lower
    label = of_point[point]
    order = np.argsort(label, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(label[order])) + 1) if len(order) else []


def _closest(points: np.ndarray, buildings: np.ndarray, distances: np.ndarray) -> list[int]:
    """The closest pair first, each point and each building once."""
    taken: set[int] = set()
    held: set[int] = set()
    chosen = []
    for at in np.lexsort((buildings, points, distances)).tolist():
        if points[at] not in taken and buildings[at] not in held:
            taken.add(int(points[at]))
            held.add(int(buildings[at]))
            chosen.append(at)
    return chosen


def _columns(cost: np.ndarray) -> np.ndarray:
    """The column of each row with the least sum, int (n,), of costs (n, m) with n <= m."""
    rows, cols = cost.shape
    row_price, col_price = np.zeros(rows + 1), np.zeros(cols + 1)
    row_of = np.zeros(cols + 1, np.int64)  # rows and columns count from 1; 0 stands for none
    for row in range(1, rows + 1):
        row_of[0], at = row, 0
        least, before, used = (
            np.full(cols + 1, np.inf),
            np.zeros(cols + 1, np.int64),
            np.zeros(cols + 1, bool),
        )
        while row_of[at]:
            used[at] = True
            here = row_of[at]
            reduced = cost[here - 1] - row_price[here] - col_price[1:]
            better = ~used[1:] & (reduced < least[1:])
            least[1:][better], before[1:][better] = reduced[better], at
            free = np.where(used[1:], np.inf, least[1:])
            step_to = int(free.argmin()) + 1
            step = free[step_to - 1]
            row_price[row_of[used]] += step
            col_price[used] -= step
            least[~used] -= step
            at = step_to
        while at:
            row_of[at] = row_of[before[at]]
            at = int(before[at])
    found = np.empty(rows, np.int64)
    held = np.flatnonzero(row_of[1:])
    found[row_of[1:][held] - 1] = held
    return found
