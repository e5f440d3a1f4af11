"""Whether a role does its work, for those who probe it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from logsvc.api import probe
from logsvc.config import Probe
from logsvc.service.lifecycle import say
from logsvc.waiting import waits


class Health:
    """What a role has come to."""

    def __init__(self) -> None:
        self.started = False
        """Whether everything that it needs is open."""
        self.stopping = False
        self.trouble: Callable[[], str | None] = lambda: None
        """What keeps the part that works now from it."""

    def problem(self) -> str | None:
        """Why the role does not do its work now; None while it does."""
        if self.stopping:
            return "Stopping."
        if waiting := waits():
            return "; ".join(waiting)
        return self.trouble() if self.started else "Starting."


@asynccontextmanager
async def probed(settings: Probe) -> AsyncIterator[Health]:
    """Answer probes until the end of the block, where a port is set. Raises ConfigError where it can't be had."""
    health = Health()
    if settings.port == "off":
        yield health
        return
    async with probe.listening(settings.host, settings.port, health.problem) as port:
        name = f"[{settings.host}]" if ":" in settings.host else settings.host
        say(f"probes and metrics are at http://{name}:{port}")
        yield health
