"""What every handler has at hand."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from aiohttp import web

from logsvc import metrics
from logsvc.access.gate import Gate
from logsvc.access.leases import Lease, Leases
from logsvc.access.limits import Limits
from logsvc.access.sessions import Sessions
from logsvc.api.problems import Problem
from logsvc.buckets import Buckets
from logsvc.drains.addresses import Addresses
from logsvc.drains.registry import Registry, TryOut
from logsvc.model import AppId
from logsvc.purges import Purge
from logsvc.sources.push import PushSource
from logsvc.timeline import Tiers

Hold = Callable[[], AbstractAsyncContextManager[Lease]]
"""Holds what a request's answer stands on, for as long as it goes on."""

LOCAL_TENANT: Final = "local"
"""The one tenant of a service that asks for no tokens."""


@dataclass(slots=True)
class Access:
    """Who may do what; one for the process. By default nobody is asked for a token."""

    gate: Gate | None = None
    """None where no tokens are asked for."""
    leases: Leases = field(default_factory=Leases)
    sessions: Sessions = field(default_factory=Sessions)
    attempts: Buckets = field(default_factory=Buckets)
    """Tokens that were not valid, by address."""
    limits: Limits = field(default_factory=Limits)
    failures: int = 30
    """How many of them a minute."""
    forwarded: bool = False
    """Whether a proxy tells the client's address."""
    origins: frozenset[str] = frozenset()
    """Sites whose pages may read answers."""
    public_url: str = ""
    """How clients reach the service; empty for the address that each of them used."""


@dataclass(slots=True)
class Drains:
    """Where drains are kept, and what they may be; one for the process."""

    registry: Registry
    try_out: TryOut
    addresses: Addresses
    """Which of them may be reached."""
    unencrypted: bool = False
    """Whether they may be reached without TLS by HTTP."""
    trying: set[str] = field(default_factory=set)
    """Ids of those that are sent a test line now."""


@dataclass(slots=True)
class Context:
    """One for the process."""

    tiers: Tiers
    push: PushSource
    remove: Callable[[AppId], Awaitable[Purge]]
    """Removes for good what an app has written until now. Raises BusError."""
    drains: Drains
    access: Access = field(default_factory=Access)
    heartbeat: float = 15.0
    """Seconds of silence after which a tail is told where it is."""
    max_tails: int = 20_000
    """Tails at once; the next one gets 503."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    known_apps: set[AppId] = field(default_factory=set)
    """Apps that are known to have lines; only ever a subset of what there is."""
    asking: WeakValueDictionary[AppId, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """Held by whoever finds out whether an app has lines."""
    tails: int = 0

    def forget(self, purge: Purge) -> None:
        """Hold nothing any more of what was removed."""
        self.known_apps.discard(purge.app)
        self.tiers.forget(purge.before)

    @contextmanager
    def admit_tail(self, form: str) -> Iterator[None]:
        """Count a tail for as long as it lasts. Raises Problem where there are too many."""
        if self.tails >= self.max_tails:
            raise Problem(503, "Too many tails are open here; try again in a moment.", retry_after=5)
        gauge = metrics.tails.labels(form)
        self.tails += 1
        gauge.inc()
        try:
            yield
        finally:
            self.tails -= 1
            gauge.dec()


CONTEXT: Final = web.AppKey("context", Context)


class Delivered:
    """Counts what one client got; added up here because a counter's lock costs as much as sending a line."""

    def __init__(self, form: str) -> None:
        self.all_lines = 0
        """Since it began."""
        self._lines_total = metrics.delivered_lines.labels(form)
        self._bytes_total = metrics.delivered_bytes.labels(form)
        self._lines = self._bytes = 0
        self._next = 0.0
        self._time = asyncio.get_running_loop().time

    def add(self, lines: int, size: int) -> None:
        self._lines += lines
        self._bytes += size
        if (now := self._time()) >= self._next:
            self._next = now + 1
            self.flush()

    def flush(self) -> None:
        self.all_lines += self._lines
        self._lines_total.inc(self._lines)
        self._bytes_total.inc(self._bytes)
        self._lines = self._bytes = 0
