"""Metrics of what the rooms count for themselves, read when somebody asks for them."""

import time
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

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


def follow_logs(sources: "Collection[ApiSource]") -> None:
    """What is collected by the API server, of all shares; there may be others later."""

    def logs() -> "Iterator[ContainerLog]":
        return (log for source in sources for log in source.logs.values())

    metrics.follow(metrics.collected_chunks.labels("api"), lambda: sum(source.collector.chunks for source in sources))
    metrics.follow(metrics.collected_bytes.labels("api"), lambda: sum(source.collector.bytes for source in sources))
    metrics.follow(metrics.collect_recoveries, lambda: sum(source.state.recoveries for source in sources))
    metrics.collect_files.set_function(lambda: sum(1 for _ in logs()))
    metrics.collect_unknown.set_function(lambda: sum(log.nobodys for log in logs()))
    metrics.collect_over_quota.set_function(lambda: sum(log.over_quota for log in logs()))
