"""What every handler has at hand, and who is asking."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from logsvc import metrics
from logsvc.api.problems import Problem
from logsvc.model import AppId
from logsvc.sources.push import PushSource
from logsvc.timeline import Tiers

LOCAL_TENANT: Final = "local"
"""The one tenant of a service that asks for no tokens."""


@dataclass(slots=True)
class Context:
    """One for the process."""

    tiers: Tiers
    push: PushSource
    heartbeat: float = 15.0
    """Seconds of silence after which a tail is told where it is."""
    max_tails: int = 20_000
    """Tails at once; the next one gets 503."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    known_apps: set[AppId] = field(default_factory=set)
    """Apps that are known to have lines; only ever a subset of what there is."""
    tails: int = 0

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


def tenant_of(request: web.Request) -> str:  # noqa: ARG001 - tokens will say; without them there is one tenant
    """The tenant whose apps the request may name."""
    return LOCAL_TENANT


class Delivered:
    """Counts what one client got; added up here because a counter's lock costs as much as sending a line."""

    def __init__(self, form: str) -> None:
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
        self._lines_total.inc(self._lines)
        self._bytes_total.inc(self._bytes)
        self._lines = self._bytes = 0
