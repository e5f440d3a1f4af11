"""What the log service says about drains: in a drain's own stream, and in the log of its app."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from logsvc.bus.protocol import Appender
from logsvc.drains.model import Lost
from logsvc.drains.protocols.syslog import NOTICES
from logsvc.errors import BusError
from logsvc.formats import cri
from logsvc.model import AppId, Chunk, Selection, Stream

_PROCESS: Final = "logplex"

logger = logging.getLogger(__name__)


@lru_cache(maxsize=1024)
def _own(app: AppId) -> Stream:
    return Stream(app.tenant, app.app, _PROCESS, _PROCESS, NOTICES, "")


def notice(app: AppId, text: str, at: int) -> Selection:
    """A line of the log service in a drain's stream, at a time in Unix ms. It has no place in the timeline."""
    value = cri.format_line(cri.format_time(at * 1_000_000), b"stdout", text.encode())
    chunk = Chunk(0, 0, 0, at, _own(app), value)
    return Selection(chunk, value, range(1))


def overflow(app: AppId, lost: Lost, selections: Sequence[Selection]) -> Selection:
    """Heroku's error L10, to stand in front of `selections`: the same each time, whenever they are sent."""
    since = datetime.fromtimestamp(lost.since, UTC).isoformat()
    text = f"Error L10 (output buffer overflow): {lost.lines} messages dropped since {since}."
    return notice(app, text, selections[0].chunk.appended if selections else lost.since * 1000)


class Announcer:
    """Writes lines about drains into the logs of their apps: `platform[drain]: …`."""

    def __init__(
        self,
        appender: Callable[[], Appender],
        retention_of: Callable[[str], int],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`appender` gives what appends to the bus at the moment, `retention_of` the retention class of a plan."""
        self._appender, self._retention_of, self._now = appender, retention_of, now

    async def say(self, app: AppId, plan: str, text: str) -> None:
        """Say something once; where the bus doesn't take it, only the service's own log has it."""
        stream = Stream(app.tenant, app.app, "drain", "drain", "platform", "", self._retention_of(plan))
        line = cri.format_line(cri.format_time(int(self._now() * 1e9)), b"stdout", text.encode())
        try:
            await self._appender().append(stream, line)
        except BusError as error:
            logger.warning("an app could not be told of its drain: %s", error)
