"""Says in each app's timeline what Events tell of its pods: probes that fail, and what keeps a pod from starting.

Events are watched by one process of a cluster and not on each node: the API server has no memory of them, so each watch
is one of etcd, over the Events of all nodes.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import Final, NamedTuple

from logsvc.model import Stream
from logsvc.sources.kubernetes import naming
from logsvc.sources.kubernetes.apiserver import EVENTS, PODS, ApiServer
from logsvc.sources.kubernetes.chronicle import OLD, SAID, Speaker
from logsvc.sources.kubernetes.events import SELECTOR, Event
from logsvc.sources.kubernetes.follow import Follower
from logsvc.sources.kubernetes.naming import Rules, Tenant
from logsvc.sources.kubernetes.objects import Json, PodObject
from logsvc.sources.kubernetes.pace import Pace
from logsvc.sources.kubernetes.pods import look_up
from logsvc.sources.kubernetes.teller import Teller
from logsvc.sources.kubernetes.transitions import PodStatus

EVENT: Final = SAID + "event"

_LOOKS: Final = 50.0
"""Most looks at pods in a second."""

_PATIENCE: Final = 10.0
"""Seconds that a failed probe waits for the pod's status to say that the process has begun."""


class _No(Enum):
    """In place of a stream."""

    ONE = auto()
    """The pod is gone, or its lines are left out."""
    YET = auto()
    """What comes before it isn't said yet."""


class _Seen(NamedTuple):
    event: Event
    since: float
    """When it was seen, by the loop's clock."""
    new: bool
    """It happened while somebody watched."""


class EventTeller(Teller[_Seen]):
    """What is said of the Events of a cluster's pods."""

    suffix = EVENT

    def __init__(
        self,
        source: Speaker,
        api: ApiServer,
        rules: Rules,
        tenants: Mapping[str, Tenant],
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """`now`: Unix ns."""
        self._follower = Follower(api, EVENTS, self._keep_event, self._drop, SELECTOR)
        super().__init__(source, tenants, [self._follower], now)
        self._api = api
        self._rules = rules
        self._pace = Pace(_LOOKS)
        self._clock = asyncio.get_running_loop().time

    def _keep_event(self, item: Json) -> None:
        event = Event.of(item)
        if event is not None:
            # Whether it is new can't be told by the clocks: that of its node may be wrong.
            self._keep(item["metadata"]["uid"], _Seen(event, self._clock(), self._follower.listed.is_set()))

    async def _tell(self, uid: str) -> bool:
        seen = self._seen.get(uid)
        if seen is None:
            self._forget(uid)
            return True
        last = self._last(uid)
        told = last.end if last is not None else 0
        text = seen.event.tell(told)
        if text is None:
            return True
        old = last is None and not seen.new and seen.event.at < self._now() / 1e9 - OLD
        stream = _No.ONE if old else await self._stream(seen)
        if stream is _No.YET:
            return False
        place = self._place(uid, told, seen.event.times)
        if isinstance(stream, Stream):
            return await self._say(stream, text, place)
        self._source.collector.moved(place)
        return True

    async def _stream(self, seen: _Seen) -> Stream | _No:
        """Of the process that it happened to."""
        event = seen.event
        tenant = self._tenants.get(event.pod.namespace)
        if tenant is None:
            return _No.YET
        await self._pace.turn()
        item = await self._api.get(PODS, event.pod.namespace, event.pod.name)
        if item is None:
            return _No.ONE
        pod = PodObject.of(item, self._rules.needed)
        if pod.folder != event.pod:
            return _No.ONE
        container = event.container or pod.containers.main
        run = next((each for each in PodStatus.of(item, pod.containers.main).runs if each.name == container), None)
        if event.is_probe and (run is None or run.started is None) and self._clock() - seen.since < _PATIENCE:
            return _No.YET
        head = naming.controller_of(pod)
        if head is not None and naming.is_job(head):
            head = await look_up(self._api, event.pod.namespace, head)
        filed = naming.file(pod, container, head, self._rules)
        if filed is None:
            return _No.ONE
        stream = filed.stream(tenant, event.pod.uid, container, run.number if run is not None else 0)
        return replace(stream, source="platform")
