"""Every metric of the service, declared, typed and explained here and nowhere else.

    from logsvc import metrics
    metrics.delivered_bytes.labels("sse").inc(len(frame))

Labels have few values, all known beforehand: never an app, a tenant, a dyno or a path that a client sent. Whatever is
counted often keeps the labelled child: `sent = metrics.delivered_bytes.labels("sse")`. `/metrics` serves `render`.
docs/operations.md says what to watch and why.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

REGISTRY: Final = CollectorRegistry()
"""The registry of this process; prometheus-client's global one is left alone."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's function has no annotations

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(name, meaning, labels, namespace="logsvc", registry=REGISTRY)


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(name, meaning, labels, namespace="logsvc", registry=REGISTRY)


def _histogram(name: str, meaning: str, *labels: str) -> Histogram:
    return Histogram(name, meaning, labels, namespace="logsvc", registry=REGISTRY, buckets=_FAST)


build = Info("build", "Version of logsvc.", namespace="logsvc", registry=REGISTRY)
build.info({"version": version("logsvc")})

role = _gauge("role_info", "What this process does: 1 for its role.", "role")
waits = _gauge("waits", "Things that wait for a Kafka or a ClickHouse that is away.")

# Collection

collected_chunks = _counter("collected_chunks", "Chunks that a source read and the bus took.", "source")
collected_bytes = _counter("collected_bytes", "Bytes of the chunks that a source read and the bus took.", "source")
collect_waiting_bytes = _gauge("collect_waiting_bytes", "Bytes in log files that the bus has not taken yet.")
collect_files = _gauge("collect_files", "Containers of which log files are read.")
collect_deleted_bytes = _gauge("collect_deleted_bytes", "Bytes of deleted files that are held open to be read out.")
collect_unknown = _gauge("collect_unknown", "Containers with lines of which it isn't known yet whose they are.")
collect_over_quota = _gauge(
    "collect_over_quota", "Containers of which lines wait, as their tenant is over its rate (`limits.collect_bytes`)."
)
collect_recoveries = _counter("collect_recoveries", "Times a source found its place again, at start or after an error.")
collect_notices = _counter(
    "collect_notices", "Notices that stand for lines which were gone before a source could read them.", "reason"
)

redacted = _counter("redacted", "Places in lines that a rule of redaction has replaced.", "rule")

# Bus

bus_appends = _counter("bus_appends", "Records appended to the bus: chunks and fences.")
bus_append_bytes = _counter("bus_append_bytes", "Bytes of values appended to the bus.")
bus_append_seconds = _histogram("bus_append_seconds", "Time that a write to the bus took.")
bus_errors = _counter("bus_errors", "Operations that the bus refused or failed.", "operation")
bus_foreign = _counter("bus_foreign", "Records on the bus that logsvc did not write; they are skipped.")
bus_journal_bytes = _gauge("bus_journal_bytes", "Size of the local bus's segments on disk.")

# Store

store_chunks = _counter("store_chunks", "Chunks inserted into the store.")
store_bytes = _counter("store_bytes", "Bytes of the chunks inserted into the store.")
store_set_aside = _counter(
    "store_set_aside", "Chunks that the store refused for good; they are on the dead-letter topic."
)
store_insert_seconds = _histogram("store_insert_seconds", "Time that an insert of a batch took.")
store_lag_records = _gauge("store_lag_records", "Records on the bus that the store does not have yet.")
store_lag_seconds = _gauge("store_lag_seconds", "Age of the oldest record on the bus that the store does not have yet.")
store_errors = _counter("store_errors", "Statements that the store refused or failed.", "operation")

# Router and timeline

watched_partitions = _gauge("watched_partitions", "Partitions that are read because somebody watches an app of them.")
window_bytes = _gauge("window_bytes", "Bytes of the chunks in all windows.")
window_chunks = _counter("window_chunks", "Chunks read from the bus into windows.")
window_dropped = _counter("window_dropped", "Chunks dropped from windows for room; whoever needs them reads the bus.")
reads = _counter("reads", "Steps that readers of timelines took, by the tier that had the place.", "tier")
notices = _counter("notices", "Notices that tell a reader of lines that can't be delivered.", "reason")

# Delivery

tails = _gauge("tails", "Tails that are open.", "representation")
delivered_lines = _counter("delivered_lines", "Lines sent to clients.", "representation")
delivered_bytes = _counter("delivered_bytes", "Bytes of lines sent to clients, before compression.", "representation")

# Drains

drains_held = _gauge("drains_held", "Drains that this process delivers.")
drain_frames = _counter("drain_frames", "Frames that drains sent, each try, by what came of it.", "outcome")
drain_lines = _counter("drain_lines", "Lines that receivers of drains took.")
drain_bytes = _counter("drain_bytes", "Bytes of frames that drains sent, each try, before compression.")
drain_lost_lines = _counter("drain_lost_lines", "Lines that drains will never get; their streams say so.", "reason")
drain_request_seconds = _histogram("drain_request_seconds", "Time that a receiver took to answer a frame.")
drain_delay_seconds = _histogram(
    "drain_delay_seconds", "Age of the oldest line of a frame when a receiver took it: what a drain is behind."
)

# Pushed lines

push_requests = _counter("push_requests", "Posts of lines, by what came of them.", "outcome")
push_lines = _counter("push_lines", "Lines taken from posts.")
push_bytes = _counter("push_bytes", "Bytes of posted bodies, decompressed.")

# HTTP

http_requests = _counter("http_requests", "Requests answered, by route pattern.", "method", "route", "status")
http_request_seconds = _histogram("http_request_seconds", "Time to answer a request that is not a tail.", "route")

# Access

auth_requests = _counter("auth_requests", "Requests that need a token, by what came of it.", "outcome")
auth_key_fetches = _counter("auth_key_fetches", "Fetches of the key set of tokens.", "outcome")
over_limit = _counter("over_limit", "Requests refused because a tenant was over a limit of its plan.", "reason")
leases_ended = _counter(
    "leases_ended", "Tails, other answers and posts that ended early with their token or log session.", "reason"
)


_followed: dict[Counter, Callable[[], float]] = {}


def follow(counter: Counter, count: Callable[[], float]) -> None:
    """Have `counter` show what `count` gives, for what a room counts for itself. Gauges have `set_function`."""
    _followed[counter] = count


def render(accept: str | None = None) -> tuple[bytes, str]:
    """All metrics in the text format that the header `Accept` asks for; with the value of `Content-Type`."""
    for counter, count in _followed.items():
        counter.reset()
        counter.inc(count())
    encode, content_type = choose_encoder(accept or "")
    return encode(REGISTRY), content_type
