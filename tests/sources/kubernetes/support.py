"""A node to collect from: containers whose files grow and rotate as the kubelet's do, and a bus to look into."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from logsvc.bus.protocol import Bounds, Bus, Fetched
from logsvc.errors import BusError, OutOfRange
from logsvc.formats import cri
from logsvc.model import AppId, Chunk, Cursor, Origin, Stream
from logsvc.sources.kubernetes.files import FilesSettings, FilesSource
from logsvc.sources.kubernetes.podlogs import Pod
from logsvc.sources.kubernetes.quota import Quota
from logsvc.sources.kubernetes.vanished import Memory
from logsvc.sources.redaction import Redact
from tests.support import cri_line
from tests.support.wait import DEADLINE

APP = AppId("acme", "shop")

TIME = re.compile(rb"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{9}Z")
"""In a notice."""


class Everybody:
    """Files every container under the app `shop` of its namespace."""

    def __init__(self) -> None:
        self.known = True
        """Whether it knows anybody yet."""
        self._streams: dict[tuple[str, ...], Stream] = {}
        self._folders: dict[str, Pod] = {}

    def stream(self, namespace: str, pod: str, uid: str, container: str, restart: int) -> Stream | None:
        if not self.known:
            return None
        self._folders[uid] = Pod(namespace, pod, uid)
        key = namespace, pod, uid, container, str(restart)
        if key not in self._streams:
            self._streams[key] = Stream(namespace, "shop", container, pod, "app", f"{uid}-{restart}")
        return self._streams[key]

    def folder(self, uid: str) -> Pod | None:
        return self._folders.get(uid)


class MemoryBus:
    """As much of a bus as a source needs, in memory, that can be told to fail."""

    def __init__(self, partitions: int = 2) -> None:
        self.epoch = 1
        self.sealed = None
        self.partitions = partitions
        self.records: list[list[Chunk | None]] = [[] for _ in range(partitions)]
        self.starts = [0] * partitions
        self.appends = 0
        self.fail_at: dict[int, bool] = {}
        """Number of an append that fails: whether its chunk is there all the same."""
        self.full = False
        self.goal = -1
        """Number of the append at which `reached` is set."""
        self.reached = asyncio.Event()

    async def append(
        self, stream: Stream, value: bytes, *, origin: Origin | None = None, partial: bool = False
    ) -> Cursor:
        await asyncio.sleep(0)
        partition = stream.app_id.partition(self.partitions)
        kept = self.fail_at.pop(self.appends, None)
        self.appends += 1
        if self.appends > self.goal >= 0:
            self.reached.set()
            await asyncio.sleep(0)
        records = self.records[partition]
        place = Cursor(self.epoch, partition, len(records), -1)
        if kept is not False and not self.full:
            header = b"" if origin is None else origin.header()
            records.append(Chunk(self.epoch, partition, place.offset, 0, stream, value, header, partial))
        if kept is not None or self.full:
            raise BusError("the bus is full" if self.full else "the bus failed")
        await asyncio.sleep(0)
        return place

    async def fence(self, partition: int) -> int:
        await asyncio.sleep(0)
        if self.full:
            raise BusError("the bus is full")
        self.records[partition].append(None)
        return len(self.records[partition]) - 1

    async def bounds(self, partition: int) -> Bounds:
        return Bounds(self.starts[partition], len(self.records[partition]))

    async def read(self, partition: int, offset: int, max_bytes: int) -> Fetched:
        start, end = await self.bounds(partition)
        if not start <= offset <= end:
            raise OutOfRange(partition, offset, start, end)
        chunks: list[Chunk] = []
        size = 0
        for record in self.records[partition][offset:]:
            if size >= max_bytes:
                break
            offset += 1
            if record is not None:
                chunks.append(record)
                size += len(record.value)
        return Fetched(partition, chunks, offset)

    async def watermark(self, partition: int) -> int:
        return self.starts[partition]

    def chunks(self, app: AppId = APP) -> list[Chunk]:
        records = self.records[app.partition(self.partitions)]
        return [chunk for chunk in records if chunk is not None and chunk.stream.app_id == app]


async def chunks_of(bus: Bus, app: AppId = APP) -> list[Chunk]:
    """All chunks of an app, in order."""
    partition = app.partition(bus.partitions)
    at, end = await bus.bounds(partition)
    chunks: list[Chunk] = []
    while at < end:
        fetched = await bus.read(partition, at, 1 << 20)
        at = fetched.next
        chunks += [chunk for chunk in fetched.chunks if chunk.stream.app_id == app]
    return chunks


def messages(chunks: Iterable[Chunk], *, notices: bool = False) -> list[bytes]:
    """Messages of chunks in order, parts joined; of the notices or of all else."""
    out: list[bytes] = []
    held: dict[tuple[Stream, bytes], bytes] = {}
    for chunk in chunks:
        if chunk.stream.is_notice is notices:
            for line in cri.lines(chunk.value):
                _, stream, partial, message = cri.parse(line)
                message = held.pop((chunk.stream, stream), b"") + message
                if partial:
                    held[chunk.stream, stream] = message
                else:
                    out.append(message)
    return out


def timeless(notice: bytes) -> bytes:
    """A notice with T1 and T2 in place of its times, which have to be in order."""
    times = TIME.findall(notice)
    assert times == sorted(times), notice
    for number, time in enumerate(times, 1):
        notice = notice.replace(time, b"T%d" % number, 1)
    return notice


class Container:
    """A container's log as runtime and kubelet keep it."""

    def __init__(self, root: Path, pod: str = "web-1", container: str = "web", uid: str = "u1", tenant: str = "acme"):
        self.folder = root / f"{tenant}_{pod}_{uid}" / container
        self.folder.mkdir(parents=True, exist_ok=True)
        self.restart = 0
        self.rotations = 0
        self.time = 1_795_399_200_000_000_000
        self._file = self._open()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.restart}.log"

    def _open(self):
        return self.path.open("ab", buffering=0)

    def line(self, message: bytes, stream: str = "stdout", tag: str = "F") -> bytes:
        self.time += 1
        return cri_line(self.time, stream, message, tag)

    def write(self, *said: bytes, stream: str = "stdout", tag: str = "F") -> None:
        """Write lines, in one write."""
        self._file.write(b"".join([self.line(message, stream, tag) for message in said]))

    def raw(self, data: bytes) -> None:
        self._file.write(data)

    def rotate(self) -> Path:
        """Rename the log and begin the next one; the rotated one stays as it is."""
        self.rotations += 1
        rotated = self.folder / f"{self.path.name}.20261123-{self.rotations:06d}"
        self.path.rename(rotated)
        old, self._file = self._file, self._open()
        old.close()
        return rotated

    def crash(self) -> None:
        """Begin the next incarnation."""
        self._file.close()
        self.restart += 1
        self._file = self._open()

    def delete(self) -> None:
        """The pod is deleted; what writes still has its file."""
        for path in sorted(self.folder.parent.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self.folder.parent.rmdir()

    def close(self) -> None:
        self._file.close()


def compress(path: Path) -> Path:
    """As the kubelet does: write beside, rename, remove."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_bytes(gzip.compress(path.read_bytes(), 1))
    packed = path.with_name(path.name + ".gz")
    fresh.rename(packed)
    path.unlink()
    return packed


class Node:
    """A node's folders, and the source that collects from them."""

    def __init__(self, folder: Path, bus: Bus, identity: Memory | None = None) -> None:
        self.root = folder / "pods"
        self.root.mkdir()
        self.bus = bus
        self.identity = identity or Everybody()
        self.quota: Quota | None = None
        self.redact: Redact | None = None
        self.settings = FilesSettings(
            self.root, folder / "collector", "node-1", grace=0.02, poll=0.02, retry=0.001, rescan=0.1
        )
        self._containers: list[Container] = []

    def container(self, **names: str) -> Container:
        container = Container(self.root, **names)
        self._containers.append(container)
        return container

    @asynccontextmanager
    async def collecting(self, *, kill: bool = False, **settings: float) -> AsyncIterator[FilesSource]:
        """A source at work; at the end of the block it is stopped, or killed in the middle of whatever it does."""
        source = FilesSource(
            replace(self.settings, **settings), self.bus, self.identity, quota=self.quota, redact=self.redact
        )
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(source.run())
            yield source
            if kill:
                source.collector._checkpoint.save = lambda _: None  # it does not get to write another one
                task.cancel()
            else:
                source.stop()

    async def collect(self, **settings: float) -> None:
        """Everything there is, then stop."""
        async with self.collecting(**settings) as source:
            await asyncio.wait_for(source.drained(), DEADLINE)

    def said(self) -> list[bytes]:
        assert isinstance(self.bus, MemoryBus)
        return messages(self.bus.chunks())

    def notices(self) -> list[bytes]:
        assert isinstance(self.bus, MemoryBus)
        return messages(self.bus.chunks(), notices=True)

    def close(self) -> None:
        for container in self._containers:
            container.close()
