"""What `logsvc dev` shows of an app while it runs: its lines, as local runners show them."""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from time import localtime, strftime
from typing import BinaryIO, Final

from logsvc.errors import StoreAway
from logsvc.formats import cri
from logsvc.formats.terminal import sanitized
from logsvc.model import EVERYTHING, Selection
from logsvc.router import Router
from logsvc.selection import Matcher
from logsvc.timeline import Timeline

_PAUSE: Final = 0.5
"""Seconds between two tries to read lines that only the store has, while it is away."""

_COLOURS: Final = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


@dataclass(frozen=True, slots=True)
class Screening:
    """When a console is on: no line after `begun` is set is missed, none from before `over` is set is left out."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


async def show(timeline: Timeline, router: Router, out: BinaryIO, screening: Screening) -> None:
    """Write an app's lines to `out` as they come, until it is over; whoever ends it wakes the router.

    It ends as well where nobody reads `out` any more: the service goes on without.
    """
    with contextlib.suppress(BrokenPipeError):
        await _show(timeline, router, out, screening)


async def _show(timeline: Timeline, router: Router, out: BinaryIO, screening: Screening) -> None:
    console = Console(colours=out.isatty())
    matcher = Matcher(EVERYTHING)
    async with router.watch(timeline.app) as feed:
        at = await timeline.end()
        screening.begun.set()
        end = None
        while end is None or at < end:
            try:
                step = await timeline.read(at, matcher, end)
            except StoreAway:
                # The terminal was stopped, so these lines are in the store alone. When all is over they are left out.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PAUSE):
                        await screening.over.wait()
                    return
                continue
            if step.at == at:
                if screening.over.is_set():
                    end = await timeline.end()
                else:
                    await feed.changed()
                continue
            at = step.at
            # In a thread: a terminal that is scrolled back or stopped by Ctrl-S blocks whoever writes to it.
            await asyncio.to_thread(_write, out, console.lines(step.selections))


def _write(out: BinaryIO, data: bytes) -> None:
    out.write(data)
    out.flush()


class Console:
    """Lines as `02:00:00 web.1    | message`: the machine's time, one colour for each process type."""

    def __init__(self, *, colours: bool) -> None:
        """`colours`: for a terminal, so that of a message's control sequences only colours are kept."""
        self._colours = colours
        self._seen: dict[str, int] = {}
        self._width = 8

    def lines(self, selections: Iterable[Selection]) -> bytes:
        return b"".join(self._line(selection, line) for selection in selections for line in cri.lines(selection.value))

    def _line(self, selection: Selection, line: bytes) -> bytes:
        time, _, _, message = cri.parse(line)
        stream = selection.chunk.stream
        self._width = max(self._width, len(stream.dyno))
        label = f"{_clock(cri.time_ns(time) // 10**9)} {stream.dyno:<{self._width}} |".encode()
        if not self._colours:
            return b"%b %b\n" % (label, message)
        colour = self._seen.setdefault(stream.process, _COLOURS[len(self._seen) % len(_COLOURS)])
        message = sanitized(message.decode("utf-8", "replace")).encode()
        dim = b"\x1b[2m" if stream.source == "platform" else b""
        return b"\x1b[%dm%b\x1b[0m %b%b\x1b[0m\n" % (colour, label, dim, message)


@lru_cache(maxsize=16)
def _clock(seconds: int) -> str:
    return strftime("%H:%M:%S", localtime(seconds))
