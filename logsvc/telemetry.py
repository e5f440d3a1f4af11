"""Metrics of what the rooms count for themselves, read when somebody asks for them."""

import time
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

from logsvc import metrics
from logsvc.waiting import waits

if TYPE_CHECKING:  # a role imports no more than it runs: its start is time without lines
    from logsvc.bus.local import LocalBus
    from logsvc.router import Router
    from logsvc.sources.kubernetes.apisource import ApiSource
    from logsvc.sources.kubernetes.containerlog import ContainerLog
    from logsvc.sources.kubernetes.files import FilesSource
    from logsvc.store.writer import StoreLoop


def follow_waits() -> None:
    """What the process waits for."""
    metrics.waits.set_function(lambda: len(waits()))


def follow_bus(bus: "LocalBus") -> None:
    """How much of the journal the store doesn't have."""
    metrics.store_lag_records.set_function(lambda: sum(bus.journal.next) - sum(bus.watermarks()))


def follow_store(loop: "StoreLoop") -> None:
    """How far the store is behind."""
    metrics.store_lag_seconds.set_function(lambda: loop.state.lag(time.time()))


def follow_routers(routers: "Sequence[Router]") -> None:
    """What is watched, in all epochs; the sequence may grow."""
    metrics.watched_partitions.set_function(lambda: sum(router.watched for router in routers))
    metrics.window_bytes.set_function(lambda: sum(router.window_bytes for router in routers))


def follow_files(source: "FilesSource") -> None:
    """What was collected from files, and what wasn't yet."""
    metrics.follow(metrics.collected_chunks.labels("files"), lambda: source.collector.chunks)
    metrics.follow(metrics.collected_bytes.labels("files"), lambda: source.collector.bytes)
    metrics.follow(metrics.collect_recoveries, lambda: source.state.recoveries)
    metrics.collect_files.set_function(lambda: len(source.lanes))
    metrics.collect_waiting_bytes.set_function(lambda: source.state.waiting_bytes)
    metrics.collect_deleted_bytes.set_function(lambda: source.state.deleted_bytes)
    metrics.collect_unknown.set_function(lambda: source.state.unknown)
    metrics.collect_over_quota.set_function(lambda: len(source.over_quota))


class FollowedLogs:
    """What is collected by the API server, of all shares that this process has; what of those that it had is counted.

    A counter that goes back, but not to 0, would be taken for one that has begun again and counted so far since.
    """

    def __init__(self) -> None:
        self._sources: list[ApiSource] = []
        self._ended = Collected()
        metrics.follow(metrics.collected_chunks.labels("api"), lambda: self._collected().chunks)
        metrics.follow(metrics.collected_bytes.labels("api"), lambda: self._collected().bytes)
        metrics.follow(metrics.collect_recoveries, lambda: self._collected().recoveries)
        metrics.collect_files.set_function(lambda: sum(1 for _ in self._logs()))
        metrics.collect_unknown.set_function(lambda: sum(log.nobodys for log in self._logs()))
        metrics.collect_over_quota.set_function(lambda: sum(log.over_quota for log in self._logs()))

    def begin(self, source: "ApiSource") -> None:
        self._sources.append(source)

    def end(self, source: "ApiSource") -> None:
        self._sources.remove(source)
        self._ended = self._ended.and_of(source)

    def _collected(self) -> "Collected":
        return reduce(Collected.and_of, self._sources, self._ended)

    def _logs(self) -> "Iterator[ContainerLog]":
        return (log for source in self._sources for log in source.logs.values())


class Collected(NamedTuple):
    """Counts of sources."""

    chunks: int = 0
    bytes: int = 0
    recoveries: int = 0

    def and_of(self, source: "ApiSource") -> "Collected":
        collector = source.collector
        return Collected(
            self.chunks + collector.chunks, self.bytes + collector.bytes, self.recoveries + source.state.recoveries
        )
