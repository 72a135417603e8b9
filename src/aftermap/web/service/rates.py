"""How often somebody may ask: a bucket that fills steadily and that every request takes from."""

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_KNOWN = 50_000


class Rates:
    """One bucket for each name.

    Args:
        per_second: how fast it fills.
        burst: how much it holds.
        clock: seconds that only ever grow.
    """

    def __init__(
        self, per_second: float, burst: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, amount: float = 1.0) -> float:
        """Take from a bucket; 0 where there was enough in it, else the seconds until there is."""
        now = self._clock()
        left, since = self._left.pop(name, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        enough = left >= amount
        self._left[name] = (left - amount if enough else left, now)
        while len(self._left) > _MOST_KNOWN:
            self._left.popitem(last=False)
        return 0.0 if enough else (amount - left) / self._per_second

    def is_empty(self, name: str) -> bool:
        """Whether nothing is left in a bucket; nothing is taken."""
        left, since = self._left.get(name, (self._burst, self._clock()))
        return left + (self._clock() - since) * self._per_second < 1.0
