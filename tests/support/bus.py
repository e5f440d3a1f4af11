"""Streams, apps and reads for tests of a bus of a few partitions."""

from collections.abc import Sequence

from logsvc.bus.protocol import Bus
from logsvc.model import Chunk, Stream

PARTITIONS = 8


def stream(app: str = "app", dyno: str = "web.1") -> Stream:
    return Stream("tenant", app, "web", dyno, "app", "uid-0")


def partition_of(app: str) -> int:
    return stream(app).app_id.partition(PARTITIONS)


def apps_by_partition() -> dict[int, str]:
    """An app for each partition."""
    apps: dict[int, str] = {}
    number = 0
    while len(apps) < PARTITIONS:
        apps.setdefault(partition_of(f"app-{number}"), f"app-{number}")
        number += 1
    return apps


APPS = list(apps_by_partition().values())
"""Apps in partitions that differ."""


async def read_all(bus: Bus, partition: int, max_bytes: int = 1 << 20) -> list[Chunk]:
    start, end = await bus.bounds(partition)
    chunks: list[Chunk] = []
    while start < end:
        fetched = await bus.read(partition, start, max_bytes)
        assert fetched.next > start, "a read that doesn't get on"
        chunks += fetched.chunks
        start = fetched.next
    assert start == end
    return chunks


def values(chunks: Sequence[Chunk]) -> list[bytes]:
    return [chunk.value for chunk in chunks]
