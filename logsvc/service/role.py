"""The life of a role: it runs until a signal comes, and answers probes from its first moment to its last."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from logsvc import metrics, telemetry
from logsvc.config import Probe
from logsvc.errors import LogsvcError
from logsvc.service.lifecycle import first_of, say, settle, signals
from logsvc.waiting import AWAY, TROUBLE, waits


class Health:
    """What a role has come to."""

    def __init__(self) -> None:
        self.started = False
        """Whether everything that it needs is open, so that its settings are known to be right."""
        self.stopping = False
        self.trouble: Callable[[], str | None] = lambda: None
        """What keeps the part that works now from it."""

    def start(self) -> None:
        """The role has opened what it needs."""
        if not self.started:
            self.started = True
            settle()

    @property
    def waited_out(self) -> tuple[type[LogsvcError], ...]:
        """Errors of what it opens that it waits out: its settings may be wrong only until it has started."""
        return TROUBLE if self.started else AWAY

    def problem(self) -> str | None:
        """Why the role does not do its work now; None while it does."""
        if self.stopping:
            return "Stopping."
        if waiting := waits():
            return "; ".join(waiting)
        return self.trouble() if self.started else "Starting."


async def run_role(settings: Probe, role: str, work: Callable[[Health], Awaitable[None]]) -> int:
    """Run `work` until a signal comes. Then it is cancelled, which it takes for the request to end in order.

    `role` is what metrics call it. Returns the exit status. Raises what `work` raises; ConfigError where the port for
    probes can't be had.
    """
    telemetry.follow_waits()
    metrics.role.labels(role).set(1)
    with signals() as stop:
        async with _probed(settings) as health:
            await first_of(_until_stopped(stop, health), _run(work, health))
    return 0


async def _run(work: Callable[[Health], Awaitable[None]], health: Health) -> None:
    await work(health)


async def _until_stopped(stop: asyncio.Event, health: Health) -> None:
    await stop.wait()
    health.stopping = True


@asynccontextmanager
async def _probed(settings: Probe) -> AsyncIterator[Health]:
    health = Health()
    if settings.port == "off":
        yield health
        return
    from logsvc.api import probe  # noqa: PLC0415 - a role without probes needs no HTTP server

    async with probe.listening(settings.host, settings.port, health.problem) as port:
        name = f"[{settings.host}]" if ":" in settings.host else settings.host
        say(f"probes and metrics are at http://{name}:{port}")
        yield health
