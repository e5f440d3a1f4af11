"""All drains of one process: of each share that it holds, a delivery for each drain."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from logsvc import metrics
from logsvc.drains.delivery import Delivery, Means
from logsvc.drains.model import Drain, DrainStatus, State
from logsvc.drains.registry import Positions, Registry, Share, ShareLost
from logsvc.errors import BadFilter, BadUrl, BusError
from logsvc.model import AppId
from logsvc.tasks import apart
from logsvc.waiting import keep_up

_HEARD: Final = 10.0
"""Seconds after which this process has heard that a share is not its own any more."""

logger = logging.getLogger(__name__)


class Engine:
    """Delivers drains for as long as `run` runs."""

    def __init__(self, registry: Registry, positions: Positions, means: Means) -> None:
        self._registry, self._positions, self._means = registry, positions, means

    async def run(self) -> None:
        """Deliver what this process is to deliver, until cancelled. Raises NewerFormat."""
        running: dict[int, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            assigned = self._positions.assigned
            while True:
                await _end(task for share, task in running.items() if share not in assigned)
                running = {share: task for share, task in running.items() if share in assigned}
                for share in assigned - running.keys():
                    work = keep_up(partial(self._hold, share), f"delivery of share {share}")
                    running[share] = tasks.create_task(work, name=f"drains of share {share}")
                assigned = await self._positions.reassigned(assigned)

    async def _hold(self, number: int) -> None:
        """Deliver a share, and again after somebody else did, if it is still to be delivered here then."""
        while True:
            assigned = self._positions.assigned
            try:
                await apart(partial(self._deliver, number))
            except* ShareLost:
                # Mostly it was assigned elsewhere, and that will be heard in a moment: this task ends then.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_HEARD):
                        await self._positions.reassigned(assigned)

    async def _deliver(self, number: int) -> None:
        async with self._positions.hold(number) as share, asyncio.TaskGroup() as tasks:
            held = _Held(share, self._means, tasks)
            drains = self._registry.drains
            tasks.create_task(self._forget_removed(share), name=f"what is kept for nobody in share {number}")
            try:
                while True:
                    await held.reconcile(self._of_share(drains, number))
                    drains = await self._registry.changed(drains)
            finally:
                held.close()

    async def _forget_removed(self, share: Share) -> None:
        """Drop what is kept of drains that were removed while nobody delivered the share.

        One that this process has not heard of yet may have been made, and delivered by another one, a moment ago. What
        there is now tells: nobody else could save since the share is held here.
        """
        unknown = share.kept - self._registry.drains.keys()
        if not unknown:
            return
        try:
            there = await self._registry.refreshed()
        except BusError as error:  # whoever takes the share next will
            logger.info("what is kept of %d removed drains stays for now: %s", len(unknown), error)
            return
        for name in unknown - there.keys():
            await share.forget(name)

    def _of_share(self, drains: Mapping[str, Drain], number: int) -> dict[str, Drain]:
        shares = self._positions.shares
        return {each.id: each for each in drains.values() if AppId(each.tenant, each.app).partition(shares) == number}


class _Held:
    """The drains of a share."""

    def __init__(self, share: Share, means: Means, tasks: asyncio.TaskGroup) -> None:
        self._share, self._means, self._tasks = share, means, tasks
        self._drains: dict[str, Drain] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def reconcile(self, drains: Mapping[str, Drain]) -> None:
        """Deliver these and no others. One that was changed goes on from where it was."""
        changed = {name for name, drain in drains.items() if self._drains.get(name) != drain}
        gone = self._drains.keys() - drains.keys()
        await _end(self._running.pop(name) for name in changed | gone if name in self._running)
        for name in gone:
            await self._share.forget(name)
        metrics.drains_held.inc(len(drains) - len(self._drains))
        self._drains = dict(drains)
        for name in changed:
            await self._begin(drains[name])

    async def _begin(self, drain: Drain) -> None:
        if drain.paused:
            return
        try:
            delivery = Delivery(drain, self._share, self._means)
        except (BadUrl, BadFilter) as error:  # it was checked when it was made, by rules of that day
            logger.warning("drain %s can't be delivered: %s", drain.id, error)
            status = DrainStatus(State.STARTING, self._means.now(), error=f"It can't be delivered: {error}.")
            await self._share.report(drain.id, status)
            return
        self._running[drain.id] = self._tasks.create_task(delivery.run(), name=f"drain {drain.id}")

    def close(self) -> None:
        """Nothing is delivered any more."""
        for task in self._running.values():
            task.cancel()
        metrics.drains_held.dec(len(self._drains))


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended: at most one delivers a drain."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
