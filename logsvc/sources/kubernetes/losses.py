"""Notices of lines that no source can read any more, at the place where they would have been."""

from logsvc import metrics
from logsvc.formats import cri
from logsvc.model import Origin, Stream, notices_of
from logsvc.sources.collector import Collector


async def tell_loss(collector: Collector, stream: Stream, reason: str, text: str, place: Origin, now: int) -> None:
    """Append a notice to where lines of `stream` would have been. `reason` is what it is counted as, `now` Unix ns.

    Raises BusError.
    """
    line = cri.format_line(cri.format_time(now), b"stdout", f"{stream.dyno}: {text}".encode())
    await collector.append(notices_of(stream.app_id, stream.retention), line, place)
    metrics.collect_notices.labels(reason).inc()


def span(begin: str | int, end: int) -> str:
    """From when to when, in words. Unix ns; `begin` may be a time as CRI has it, and nothing where it isn't known."""
    until = cri.format_time(end).decode()
    if not begin:
        return f"before {until}"
    return f"between {begin if isinstance(begin, str) else cri.format_time(begin).decode()} and {until}"
