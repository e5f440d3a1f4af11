"""The logs of a cluster, shared out between processes: each share is collected by whoever has its Lease."""

import asyncio
import secrets
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

from logsvc.config import Settings
from logsvc.errors import ConfigError
from logsvc.service.lifecycle import say
from logsvc.service.pods import api_settings, own_namespace
from logsvc.service.role import Health
from logsvc.sources.kubernetes.apiserver import ApiServer
from logsvc.sources.kubernetes.leases import Lease
from logsvc.sources.kubernetes.shards import Shard
from logsvc.tasks import background

_NAME: Final = "logsvc-collect"

_SPARE: Final = 15.0
"""Seconds that a Lease lasts longer than an append may take: so long an API server may be away."""

_HESITATION: Final = 1.0
"""Seconds for which one that has a share leaves others to those who have fewer, for each that it has."""

Work = Callable[[Shard, Callable[[], bool], Health], Coroutine[Any, Any, None]]
"""Collect a share until cancelled, and append only while that is allowed."""


class Shares:
    """All shares of a cluster's logs, as far as they are collected here. `run` them."""

    def __init__(self, settings: Settings, folder: Path, health: Health, work: Work) -> None:
        """`folder` is this process's alone. Raises ConfigError."""
        self._settings = settings
        self._timeout = settings.kafka.delivery_timeout
        self._holder = _holder(folder)
        self._namespace = own_namespace(settings)
        self._health = health
        self._work = work
        self._held: dict[int, Health] = {}

    async def run(self) -> None:
        """Until cancelled; then others have the shares at once. Raises whatever the work raises."""
        count = self._settings.kubernetes.shards
        self._health.trouble = self._trouble
        self._health.start()
        say(f"logsvc collects by the API server, shared out in {count}")
        async with ApiServer.open(api_settings(self._settings)) as api, background() as tasks:
            for number in range(count):
                tasks.create_task(self._continuous_share(api, Shard(number, count)), name=f"share {number}")

    def _trouble(self) -> str | None:
        return next((found for health in self._held.values() if (found := health.trouble())), None)

    async def _continuous_share(self, api: ApiServer, shard: Shard) -> None:
        """Collect a share whenever it can be had."""
        while True:
            name = f"{_NAME}-{shard.number}"
            lease = Lease(api, self._namespace, name, self._holder, self._timeout + _SPARE)
            await lease.take(lambda: _HESITATION * len(self._held))
            health = self._held[shard.number] = Health()
            health.started = True
            try:
                await self._while_held(lease, self._work(shard, partial(self._may_send, lease), health))
            finally:
                del self._held[shard.number]
                # The work has ended: what it had appended is acknowledged, or left to whoever comes next to look for.
                await lease.release()

    def _may_send(self, lease: Lease) -> bool:
        """Whether an append that begins now has ended before another can have the Lease."""
        return lease.rest > self._timeout

    @staticmethod
    async def _while_held(lease: Lease, work: Coroutine[Any, Any, None]) -> None:
        async with background() as tasks:
            keeping, working = tasks.create_task(lease.keep()), tasks.create_task(work)
            await asyncio.wait({keeping, working}, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            await asyncio.wait({working})
            keeping.cancel()


def _holder(folder: Path) -> str:
    """The name of whoever has this folder, the same after a crash: it takes back what it had."""
    file = folder / "holder"
    try:
        if not file.exists():
            file.write_text(f"{socket.gethostname()}_{secrets.token_hex(8)}")
        return file.read_text()
    except OSError as error:
        raise ConfigError(f"{file} can't be used: {error.strerror}") from error
