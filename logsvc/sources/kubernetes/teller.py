"""Says in each app's timeline what becomes of objects of a cluster. Once in a cluster, whoever collects its logs."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar, Final, Generic, TypeVar

from logsvc.errors import ClusterError
from logsvc.formats import cri
from logsvc.model import Origin, Stream
from logsvc.sources.kubernetes import naming
from logsvc.sources.kubernetes.apiserver import NAMESPACES, ApiServer
from logsvc.sources.kubernetes.chronicle import Speaker
from logsvc.sources.kubernetes.follow import Follower
from logsvc.sources.kubernetes.naming import Rules, Tenant
from logsvc.sources.kubernetes.objects import Json, Namespace
from logsvc.waiting import keep_up

T = TypeVar("T")

_PAUSE: Final = 0.1
"""Seconds until the next look at what can't be said yet."""


class Tenants:
    """Whose the namespaces of a cluster are. `run` it in a TaskGroup."""

    def __init__(self, api: ApiServer, rules: Rules) -> None:
        self.known: dict[str, Tenant] = {}
        """By namespace; one that was deleted stays, for what is still to be said of it."""
        self._rules = rules
        self._follower = Follower(api, NAMESPACES, self._keep, lambda _: None)

    async def run(self) -> None:
        """Keep up until cancelled."""
        await self._follower.run()

    def _keep(self, item: Json) -> None:
        namespace = Namespace.of(item, self._rules.needed)
        self.known[namespace.name] = naming.tenant_of(namespace, self._rules)


class Teller(ABC, Generic[T]):
    """What is said of objects of some kinds. `run` it in a TaskGroup, beside the source and the tenants."""

    suffix: ClassVar[str]
    """Behind an object's uid, in the origins of what is said of it."""

    def __init__(
        self, source: Speaker, tenants: Mapping[str, Tenant], followers: Sequence[Follower], now: Callable[[], int]
    ) -> None:
        """`now`: Unix ns."""
        self._source = source
        self._tenants = tenants
        self._followers = followers
        self._now = now
        self._seen: dict[str, T] = {}
        """By uid, every object that there is."""
        self._stirred: set[str] = set()
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Say what there is to say, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for follower in self._followers:
                tasks.create_task(follower.run())
            for follower in self._followers:
                await follower.listed.wait()
            self._woken.set()
            await keep_up(self._continuous_telling, "what is said of the cluster", (ClusterError,))

    async def _continuous_telling(self) -> None:
        swept = False
        while True:
            if self._source.ready and not swept:
                swept = True
                files = [file for file in self._source.collector.positions if file.endswith(self.suffix)]
                gone = [file for file in files if file.removesuffix(self.suffix) not in self._seen]
                self._source.collector.forget(gone)
            if self._source.ready:
                await self._tell_stirred()
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE if self._stirred or not swept else None):
                    await self._woken.wait()
            self._woken.clear()

    async def _tell_stirred(self) -> None:
        """Say what can be said now. Raises ClusterError, the last one, once everything else was said."""
        trouble: ClusterError | None = None
        for uid in list(self._stirred):
            self._stirred.discard(uid)
            done = False
            try:
                done = await self._tell(uid)
            except ClusterError as error:
                trouble = error
            finally:
                if not done:
                    self._stirred.add(uid)
        if trouble is not None:
            raise trouble

    @abstractmethod
    async def _tell(self, uid: str) -> bool:
        """Say what there is to say of one object; False where it has to wait. Raises ClusterError."""

    # ---- what there is

    def _keep(self, uid: str, seen: T) -> None:
        self._seen[uid] = seen
        self._stir(uid)

    def _drop(self, uid: str) -> None:
        if self._seen.pop(uid, None) is not None:
            self._stir(uid)

    def _stir(self, uid: str) -> None:
        self._stirred.add(uid)
        self._woken.set()

    # ---- what was said

    def _last(self, uid: str) -> Origin | None:
        return self._source.collector.positions.get(uid + self.suffix)

    def _forget(self, uid: str) -> None:
        self._source.collector.forget([uid + self.suffix])

    def _place(self, uid: str, start: int, end: int, held: tuple[tuple[str, int], ...] = ()) -> Origin:
        return Origin(self._source.collector.node, uid + self.suffix, start, end, held=held)

    async def _say(self, stream: Stream, text: str, place: Origin) -> bool:
        """Append a line; False where the bus can't take it now."""
        value = cri.format_line(cri.format_time(self._now()), b"stdout", text.encode("utf-8", "replace"))
        return await self._source.say(stream, value, place)
