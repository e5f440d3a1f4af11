"""A wire to a broker on which requests to write get stuck, and arrive when their sender may be dead; or a slow one."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from tests.support.tcp import listening

_PRODUCE = 0
"""API key of the request, the first two bytes of it."""


class Wire:
    """Forwards to the port that `target` names; from `hold` to `release`, produce requests are kept."""

    def __init__(self, target: Callable[[], int]) -> None:
        self.stuck = 0
        """Requests that were kept, of all time."""
        self.refused = 0
        """How many of them the broker answered with an error."""
        self.answered = 0
        self.delay = 0.0
        """Seconds by which each answer is late; those of a connection one after the other."""
        self._target = target
        self._least = 0
        self._free = asyncio.Event()
        self._free.set()

    def hold(self, least: int = 0) -> None:
        """Keep what is of at least so many bytes."""
        self._least = least
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, request = await asyncio.open_connection("127.0.0.1", self._target())
        kept: set[bytes] = set()
        try:
            async with asyncio.TaskGroup() as group:
                answering = group.create_task(self._answer(answers, writer, kept))
                await self._ask(reader, request, kept)
                if kept:  # the broker may as well answer one who is dead
                    await answering
                answering.cancel()
        finally:
            request.close()
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, request: asyncio.StreamWriter, kept: set[bytes]) -> None:
        while frame := await _frame(reader):
            if not self._free.is_set() and len(frame) >= self._least and struct.unpack_from(">h", frame)[0] == _PRODUCE:
                kept.add(frame[4:8])
                self.stuck += 1
                await self._free.wait()
            request.write(struct.pack(">i", len(frame)) + frame)

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: set[bytes]) -> None:
        while frame := await _frame(answers):
            await asyncio.sleep(self.delay)  # how slow the broker is
            if frame[:4] in kept:
                kept.discard(frame[:4])
                self.answered += 1
                self.refused += _is_refusal(frame)
            writer.write(struct.pack(">i", len(frame)) + frame)
            if writer.is_closing() and not kept:
                return


def _is_refusal(frame: bytes) -> bool:
    """Whether a `ProduceResponse` of version 13 has an error for its first partition."""
    (code,) = struct.unpack_from(">h", frame, 27)  # behind correlation id, tags, one topic, its id, and the partition
    return bool(code)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """One request or answer; empty at the end."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    return b""


@asynccontextmanager
async def wired(port: int, target: Callable[[], int]) -> AsyncIterator[Wire]:
    """Listen at `port`."""
    wire = Wire(target)
    async with listening(wire.connected, port):
        yield wire
