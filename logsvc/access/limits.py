"""How much a tenant may have at once and a second, by its plan. Counted in this process; no I/O.

A limit is a share: with four processes behind a balancer each of them allows what its settings say. An operator is
counted apart from the tenants that it chooses.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from logsvc import metrics
from logsvc.access.grant import Grant
from logsvc.buckets import Buckets
from logsvc.config import Limits as Settings
from logsvc.errors import OverLimit

BURST: Final = 10.0
"""Seconds of pushing at the plan's rate that may come at once."""

READ_BURST: Final = 60.0
"""Seconds of reading at the plan's rate that may come at once."""

WAITING: Final = 100
"""Statements of one tenant that may wait for their turn."""

_LATER: Final = 5.0
"""Seconds after which one who has too many of something may try again."""


class Plan(NamedTuple):
    """What a plan allows; None where there is no limit."""

    tails: int | None = None
    answers: int | None = None
    query_seconds: float | None = None
    read_bytes: int | None = None
    read_rows: int | None = None
    reads: int | None = None
    push_bytes: int | None = None
    posts: int | None = None
    retention: int = 0
    drains: int | None = None
    """Of one app."""


class Limits:
    """Of all tenants. Without settings there are none."""

    def __init__(self, settings: Settings | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._tails: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._posts: Counter[str] = Counter()
        self._turns: WeakValueDictionary[tuple[str, int], Turns] = WeakValueDictionary()
        self._pushed, self._read = Buckets(now), Buckets(now)

    def plan(self, grant: Grant) -> Plan:
        """The limits of a grant's plan; those of the default for a plan that nobody has set."""
        settings = self._settings
        if settings is None:
            return Plan()
        name = settings.plan_named(grant.plan)
        return Plan(
            settings.tails.get(name),
            settings.answers.get(name),
            settings.query_seconds.get(name),
            settings.read_bytes.get(name),
            settings.read_rows.get(name),
            settings.reads.get(name),
            settings.push_bytes.get(name),
            settings.posts.get(name),
            settings.retention_of(name),
            settings.drains.get(name),
        )

    def tail(self, grant: Grant) -> AbstractContextManager[None]:
        """Count a tail for as long as it lasts. Raises OverLimit where the tenant has as many as it may."""
        return _counted(self._tails, grant.payer, self.plan(grant).tails, "tails")

    def answer(self, grant: Grant) -> AbstractContextManager[None]:
        """Count an answer with lines that is no tail, as `tail` does."""
        return _counted(self._answers, grant.payer, self.plan(grant).answers, "answers")

    def post(self, grant: Grant) -> AbstractContextManager[None]:
        """Count a post of lines, as `tail` does."""
        return _counted(self._posts, grant.payer, self.plan(grant).posts, "posts")

    def reading(self, grant: Grant) -> "Reading | None":
        """What the statements of one request have to wait for; None where the plan says nothing."""
        plan = self.plan(grant)
        if plan.reads is None and plan.read_rows is None:
            return None
        return Reading(self._turns_of(grant.payer, plan.reads), self._read, grant.payer, plan.read_rows)

    def _turns_of(self, payer: str, most: int | None) -> "Turns | None":
        if most is None:
            return None
        turns = self._turns.get((payer, most))
        if turns is None:
            turns = self._turns[payer, most] = Turns(most)
        return turns

    def admit_push(self, grant: Grant) -> None:
        """Raise OverLimit where the tenant has pushed more than its rate."""
        rate = self.plan(grant).push_bytes
        if rate is not None and (seconds := self._pushed.wait(grant.payer, rate, rate * BURST)):
            metrics.over_limit.labels("push").inc()
            raise OverLimit(f"Your plan allows {rate} bytes a second of pushed lines.", seconds)

    def pushed(self, grant: Grant, size: int) -> float:
        """Count pushed bytes; the seconds for which to take no more."""
        rate = self.plan(grant).push_bytes
        return 0.0 if rate is None else self._pushed.take(grant.payer, size, rate, rate * BURST)


@contextmanager
def _counted(count: Counter[str], payer: str, most: int | None, what: str) -> Iterator[None]:
    if most is not None and count[payer] >= most:
        metrics.over_limit.labels(what).inc()
        raise OverLimit(f"Your plan allows {most} {what} at once.", _LATER)
    count[payer] += 1
    try:
        yield
    finally:
        count[payer] -= 1
        if not count[payer]:
            del count[payer]


class Turns:
    """Of one tenant's statements in the store so many run at once, in the order in which they came.

    So a tenant that asks much waits for itself, and not everybody for it. A context manager for one statement.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = asyncio.Semaphore(most)
        self._waiting = 0

    async def __aenter__(self) -> None:
        """Raises OverLimit where too many wait already."""
        if self._waiting >= WAITING:
            metrics.over_limit.labels("reads").inc()
            raise OverLimit(f"Your plan allows {self._most} reads of history at once, and too many wait.", _LATER)
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


class Reading:
    """The statements of one request: each waits for its tenant's turn, and for what its tenant has read too much."""

    def __init__(self, turns: Turns | None, read: Buckets, payer: str, rate: int | None) -> None:
        """`rate`: rows a second."""
        self._turns, self._read, self._payer, self._rate = turns, read, payer, rate
        self._begun = False

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[int], None]]:
        """One statement; say how many rows it has read. Raises OverLimit.

        Only the first one of a request is refused for what was read before: an answer that has begun goes on slowly.
        """
        self._refuse()  # before it waits for nothing
        async with self._turns or nullcontext():
            self._refuse()
            self._begun = True
            await asyncio.sleep(self._debt())
            yield self._count

    def _refuse(self) -> None:
        if not self._begun and (seconds := self._debt()):
            metrics.over_limit.labels("rows").inc()
            raise OverLimit(f"Your plan allows {self._rate} rows a second to be read of history.", seconds)

    def _debt(self) -> float:
        """Seconds until what was read is made up for."""
        return 0.0 if self._rate is None else self._read.wait(self._payer, self._rate, self._rate * READ_BURST)

    def _count(self, rows: int) -> None:
        if self._rate is not None:
            self._read.take(self._payer, rows, self._rate, self._rate * READ_BURST)
