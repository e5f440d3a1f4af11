"""Notices for containers that went while nobody read their logs: what they wrote meanwhile nobody has any more."""

import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from logsvc.model import Origin, Stream
from logsvc.sources.collector import CLOSED, Collector
from logsvc.sources.kubernetes.chronicle import pod_said
from logsvc.sources.kubernetes.lane import Identity
from logsvc.sources.kubernetes.losses import span, tell_loss
from logsvc.sources.kubernetes.podlogs import Pod

_TEXT: Final = "Lines may be missing here: the pod was deleted while its log was not being read"

logger = logging.getLogger(__name__)


class Memory(Identity, Protocol):
    """Who a container belongs to, that of a pod which is gone as well."""

    def folder(self, uid: str) -> Pod | None:
        """The pod of a uid; None for one that isn't known or whose log is whole when it goes."""


def _unknown(_: Origin) -> str:
    return ""


async def tell_vanished(
    collector: Collector, files: Iterable[str], identity: Memory, now: int, last: Callable[[Origin], str] = _unknown
) -> None:
    """Say of each container whose last log is among `files` that lines may be missing, then forget those.

    Not where its end was said, which comes behind its last line. `now`: Unix ns. `last`: the time of the last line that
    was taken, as CRI has it; where it isn't known, lines may be missing since the places were saved. Raises BusError.
    """
    gone = list(files)
    # In the order of their age: what is left is the newest of each container.
    newest = {file.rpartition("/")[0]: file for file in gone}
    missing = [collector.positions[file] for file in newest.values() if not _is_whole(collector, file)]
    for origin in missing:
        await _tell(collector, origin, identity, last(origin) or collector.since, now)
    if missing:
        logger.warning("%d containers were deleted while their logs were not being read", len(missing))
    collector.forget(gone)


async def _tell(collector: Collector, origin: Origin, identity: Memory, since: str | int, now: int) -> None:
    uid, container, restart = _parts(origin.file)
    pod = identity.folder(uid)
    stream = identity.stream(*pod, container, restart) if pod is not None else None
    if isinstance(stream, Stream):
        # Whoever dies in front of `forget` finds that it was said.
        said = origin._replace(start=origin.end, check=CLOSED, held=())
        await tell_loss(collector, stream, "pod_deleted", f"{_TEXT}, {span(since, now)}", said, now)


def _is_whole(collector: Collector, file: str) -> bool:
    """Whether nothing is missing behind its place, or that was said."""
    uid, container, restart = _parts(file)
    return collector.positions[file].check == CLOSED or pod_said(collector, uid).has_ended(container, restart)


def _parts(file: str) -> tuple[str, str, int]:
    """Uid, container and run of `<uid>/<container>/<run>`, with or without `@` and what tells files of a run apart."""
    uid, container, last = file.split("/")
    return uid, container, int(last.partition("@")[0])
