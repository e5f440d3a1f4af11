"""Rates by name, as token buckets: so much at once, refilled at so much a second. No I/O; the clock is passed in."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_NAMES: Final = 10_000
"""Names remembered; the one that was quiet longest is forgotten, and begins again with a full bucket."""


class Buckets:
    """One bucket for each name."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._filled: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What was left, and when."""

    def wait(self, name: str, rate: float, most: float) -> float:
        """Seconds until the bucket has something in it; 0 where it has. `rate` a second, `most` at once."""
        left = self._left(name, rate, most)
        return 0.0 if left > 0 else -left / rate + 1 / rate

    def take(self, name: str, amount: float, rate: float, most: float) -> float:
        """Take `amount`, which may leave the bucket in debt; seconds until that is paid, 0 where there is none."""
        left = self._left(name, rate, most) - amount
        self._filled[name] = left, self._now()
        self._filled.move_to_end(name)
        if len(self._filled) > _NAMES:
            self._filled.popitem(last=False)
        return max(0.0, -left / rate)

    def _left(self, name: str, rate: float, most: float) -> float:
        left, at = self._filled.get(name, (most, 0.0))
        return min(most, left + (self._now() - at) * rate)
