"""Says in each app's timeline what happens to its pods, once, and behind the lines that come before it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from logsvc.formats import cri
from logsvc.model import Origin, Stream
from logsvc.sources.collector import Collector
from logsvc.sources.kubernetes.lane import Unwanted
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.pods import PodIdentity
from logsvc.sources.kubernetes.transitions import NOTHING, Line, Said, tell, tell_gone

SAID: Final = "/:"
"""In the origin of what is said, and of no log's."""

_FILE: Final = SAID + "pod"

OLD: Final = 300.0
"""Seconds after which nothing is said any more of what had happened when collection began. What happens afterwards is
said whatever the clocks of the node, the API server and this machine say."""

_PAUSE: Final = 0.1
"""Seconds until the next look at pods of which something can't be said yet."""


def pod_said(collector: Collector, uid: str) -> Said:
    """What was said of a pod, as far as the collector knows."""
    last = collector.positions.get(uid + _FILE)
    return Said.decode(last.held) if last is not None else NOTHING


class Speaker(Protocol):
    """Who appends what is said."""

    @property
    def collector(self) -> Collector:
        """What the bus has."""

    @property
    def ready(self) -> bool:
        """Whether it is known what the bus has, and the bus takes more."""

    async def say(self, stream: Stream, value: bytes, origin: Origin) -> bool:
        """Append what is in no log, named by an `origin.file` with SAID in it; False where it can't be taken now."""


class Source(Speaker, Protocol):
    """Who collects the lines among which it is said, too."""

    def has_read(self, pod: Pod, container: str, restart: int) -> bool:
        """Whether everything that a container wrote up to a restart is on the bus, as far as is known here."""


class Chronicle:
    """What is said of a node's pods. `run` it in a TaskGroup, beside the source.

    What was said of a pod is kept in the origin of the last line that said it, as a file's position is, and is found
    again with those.
    """

    def __init__(self, source: Source, identity: PodIdentity, now: Callable[[], int] = time.time_ns) -> None:
        """`now`: Unix ns."""
        self._source = source
        self._identity = identity
        self._now = now
        self._begun = False
        self._first: set[Pod] = set()
        """Pods that were there when it began, and of which nothing was said since."""
        self._over: set[Pod] = set()
        """Pods that are gone and of which all is said. That is kept for as long as positions in their logs are: whoever
        finds these deleted knows by it that they were read to their ends."""
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be something to say."""
        self._woken.set()

    async def run(self) -> None:
        """Say what there is to say, until cancelled."""
        stirred = self._identity.stirred
        while True:
            await self._rest()
            if not self._source.ready or not self._identity.listed:
                continue
            if not self._begun:
                self._begun = True
                self._first.update(self._identity.statuses)
                stirred.update(self._first, self._vanished())
            for pod in list(stirred):
                stirred.discard(pod)
                if not await self._tell(pod):
                    stirred.add(pod)
            self._forget()

    def _forget(self) -> None:
        """Forget what was said of pods whose logs are gone as well."""
        if self._over:
            collector = self._source.collector
            logged = {file.partition("/")[0] for file in collector.positions if SAID not in file}
            done = {pod for pod in self._over if pod.uid not in logged}
            collector.forget([pod.uid + _FILE for pod in done])
            self._over -= done

    async def _rest(self) -> None:
        """Until something changes; where something waits for its lines or for the bus, for a moment at most."""
        idle = self._begun and not self._identity.stirred
        with suppress(TimeoutError):
            async with asyncio.timeout(None if idle else _PAUSE):
                await self._woken.wait()
        self._woken.clear()

    def _vanished(self) -> list[Pod]:
        """Pods that something was said of and that went while nobody looked. Nobody knows of others any more."""
        known = {pod.folder.uid: pod.folder for pod in self._identity.pods}
        vanished = []
        for file in [file for file in self._source.collector.positions if file.endswith(_FILE)]:
            pod = known.get(file.removesuffix(_FILE))
            if pod is None:
                self._source.collector.forget([file])
            elif pod not in self._identity.statuses:
                vanished.append(pod)
        return vanished

    async def _tell(self, pod: Pod) -> bool:
        """Say what there is to say of a pod; False where something has to wait."""
        known = self._identity.pod(pod)
        file = pod.uid + _FILE
        last = self._source.collector.positions.get(file)
        said = Said.decode(last.held) if last is not None else None
        status = self._identity.statuses.get(pod)
        if known is None:
            return status is None
        lines: list[Line] = []
        if (seen := status or self._identity.parted.get(pod)) is not None:
            lines, said = tell(said, seen, self._now() / 1e9 - OLD if pod in self._first else 0.0)
        if status is None and said is not None:
            more, said = tell_gone(said, known.containers.main)
            lines += more
        at = last.end if last is not None else 0
        for line in lines:
            if not await self._say(pod, line, Origin(self._source.collector.node, file, at, at + 1)):
                return False
            at += 1
        if status is None:
            self._identity.parted.pop(pod, None)
            self._over.add(pod)
        elif said is not None and (last is None or Said.decode(last.held) != said):
            place = Origin(self._source.collector.node, file, at, at, held=said.encode())
            self._source.collector.moved(place)
        self._first.discard(pod)
        return True

    async def _say(self, pod: Pod, line: Line, place: Origin) -> bool:
        place = place._replace(held=line.said.encode())
        if line.after is not None and not self._source.has_read(pod, line.container, line.after):
            return False
        stream = self._identity.stream(*pod, line.container, line.run)
        if not isinstance(stream, Stream):
            if stream is Unwanted.LINES:
                self._source.collector.moved(place)
            return stream is Unwanted.LINES
        value = cri.format_line(cri.format_time(self._now()), b"stdout", line.text.encode("utf-8", "replace"))
        return await self._source.say(replace(stream, source="platform"), value, place)
