"""How much of everything: a short form for every run of the tests, and a long one by hand."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.chaos.writer import Writing

APPS = 20
CROWD = "crowd"
"""The app that many tails watch."""
CROWD_RATE = 2
"""Its lines a second: each of them is delivered to each of those tails."""
DRAINED = ("app-3", "app-4", "app-5")
"""Apps with a drain, the last of which waives its order."""
NODES = ("node-1", "node-2")


@dataclass(frozen=True, slots=True)
class Form:
    """Settings of one run."""

    only: str = ""
    """The one fault that is made; else all are."""
    minutes: float = 0
    """For how long faults are made; each of them at least once."""
    rate: float = 2_000
    """Lines a second of all apps."""
    every: float = 0.2
    """Seconds between two writes of a writer: what it writes at once comes in one piece."""
    brokers: int = 3
    crowd: int = 500
    delivery: float = 6
    """Seconds that a collector waits for Kafka."""
    stops: tuple[float, ...] = (9,)
    """Seconds for which brokers are stopped: longer than a collector waits, and in the long form about as long too."""
    slow: float = 8
    """Seconds for which the disk of the store is slow."""
    failing: float = 4
    """Seconds for which the receiver of the drains fails, in each of its ways."""

    @property
    def apps(self) -> list[str]:
        return [CROWD, *(f"app-{number}" for number in range(1, APPS))]

    def writings(self, node: str) -> Iterator[Writing]:
        """What is written on a node: one dyno of each app."""
        writers = (f"web.{1 + NODES.index(node)}",)
        each = (self.rate - CROWD_RATE) / (APPS - 1)
        for app in self.apps:
            rate = (CROWD_RATE if app == CROWD else each) / len(NODES)
            yield Writing(writers, app=app, rate=rate, rotate=512 * 1024, every=self.every)


LONG = Form(rate=20_000, every=0.05, delivery=30, stops=(30, 60), slow=30, failing=15)


def form() -> Form:
    """The one that the environment asks for: CHAOS_MINUTES the long one; CHAOS_RATE, _BROKERS, _CROWD other amounts,
    CHAOS_ONLY a single fault."""
    minutes = float(os.environ.get("CHAOS_MINUTES", "0"))
    made = replace(LONG, minutes=minutes) if minutes else Form()
    made = replace(made, only=os.environ.get("CHAOS_ONLY", ""))
    for name in ("rate", "brokers", "crowd"):
        if given := os.environ.get(f"CHAOS_{name.upper()}"):
            made = replace(made, **{name: int(given)})
    return made
