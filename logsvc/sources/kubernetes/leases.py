"""A Lease of Kubernetes: one process at a time has it, for as long as it renews it.

Source: `coordination.k8s.io/v1`, and how client-go takes leases (tools/leaderelection, 1.34). No two machines' clocks
are compared: who wants a Lease looks whether it changes, by its own clock, for as long as the holder may have it. And
its holder counts from before it asked for it, by a clock that also goes on while the process or the machine is stopped.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil
from typing import Any, Final

from logsvc.errors import ClusterError
from logsvc.sources.kubernetes.apiserver import LEASES, ApiServer
from logsvc.sources.kubernetes.objects import Json
from logsvc.waiting import persist

_LOOK: Final = 2.0
"""Seconds between two looks at a Lease that another has, about."""

_RENEW: Final = 3.0
"""Seconds between two renewals."""

logger = logging.getLogger(__name__)


def boot_clock() -> float:
    """Seconds, counted on whatever is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """One Lease, for one who wants it: `take` it, `keep` it until it is lost, `release` it when all is done."""

    def __init__(
        self,
        api: ApiServer,
        namespace: str,
        name: str,
        holder: str,
        seconds: float,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        """`holder` names this process and, after it is dead, whoever may take its place at once."""
        self.name = name
        self._api = api
        self._namespace = namespace
        self._holder = holder
        self._seconds = ceil(seconds)
        self._clock = clock
        self._until = float("-inf")
        self._known: Json | None = None
        """As it was seen last."""
        self._since = 0.0
        """When it was seen first as it is."""

    @property
    def rest(self) -> float:
        """Seconds for which nobody else can have it; none where that may be so now."""
        return self._until - self._clock()

    async def take(self, hesitate: Callable[[], float] = float) -> None:
        """Wait until it is ours. One that is free is taken after so many seconds as `hesitate` says, if it still is.

        An API server that is away or refuses is waited for.
        """
        hesitated = False
        while True:
            await persist(self._look, f"the lease {self.name}", (ClusterError,))
            if self._is_free() and (hesitated or not (pause := hesitate()) or self._is_own()):
                if await persist(self._write, f"the lease {self.name}", (ClusterError,)):
                    return
                hesitated = False
            elif self._is_free():
                hesitated = True
                await asyncio.sleep(pause)
            else:
                hesitated = False
                await asyncio.sleep(_LOOK * random.uniform(0.8, 1.2))  # noqa: S311 - spreads requests out

    async def keep(self) -> None:
        """Renew it until it is lost."""
        while self.rest > 0:
            await asyncio.sleep(min(_RENEW, max(self.rest, 0.0)))
            try:
                if await self._write():
                    continue
                await self._look()
            except ClusterError as error:
                logger.warning("the lease %s can't be renewed: %s", self.name, error)
                continue
            if not self._is_own():
                self._until = float("-inf")
        logger.warning("the lease %s has run out or is another's now", self.name)

    async def release(self) -> None:
        """Let others have it at once. Only once nothing is done any more that takes it."""
        if self.rest <= 0:
            return
        self._until = float("-inf")
        try:
            # A renewal that was cancelled may have come to the API server all the same: then it isn't as it was seen.
            while self._is_own() and not await self._write(release=True):
                await self._look()
        except ClusterError as error:
            logger.warning("the lease %s can't be given back: %s", self.name, error)

    async def _look(self) -> None:
        known = await self._api.get(LEASES, self._namespace, self.name)
        if _version(known) != _version(self._known) or self._known is None:
            self._known, self._since = known, self._clock()

    def _is_own(self) -> bool:
        return self._known is not None and self._known["spec"].get("holderIdentity") == self._holder

    def _is_free(self) -> bool:
        """Whether it may be taken: nobody has it, or who had it has let it run out, or it is ours from before."""
        spec = self._known["spec"] if self._known is not None else {}
        holder, seconds = spec.get("holderIdentity"), spec.get("leaseDurationSeconds") or self._seconds
        return not holder or holder == self._holder or self._clock() - self._since > seconds

    async def _write(self, *, release: bool = False) -> bool:
        """Take, renew or release it as it was seen last; False where it isn't so any more. Raises ClusterError."""
        begin = self._clock()
        item = self._item(release=release)
        if self._known is None:
            written = await self._api.create(LEASES, self._namespace, item)
        else:
            written = await self._api.replace(LEASES, self._namespace, item)
        if written is None:
            return False
        self._known, self._since = written, begin
        if not release:
            self._until = begin + self._seconds
        return True

    def _item(self, *, release: bool) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = self._known["spec"] if self._known is not None else {}
        again = self._is_own()
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self._namespace}
            | ({"resourceVersion": _version(self._known)} if self._known is not None else {}),
            "spec": {
                "holderIdentity": "" if release else self._holder,
                "leaseDurationSeconds": self._seconds,
                "acquireTime": before.get("acquireTime") if again else now,
                "renewTime": now,
                "leaseTransitions": (before.get("leaseTransitions") or 0) + (not again),
            },
        }


def _version(item: Json | None) -> str:
    return item["metadata"]["resourceVersion"] if item is not None else ""
