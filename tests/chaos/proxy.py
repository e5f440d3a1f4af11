"""A wire that breaks: a TCP proxy that resets each connection after a random number of bytes."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from tests.support.tcp import forward, listening

_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards to the port that `target` names, and cuts what comes from there as long as `cutting`."""

    def __init__(self, target: Callable[[], int], rng: random.Random, most: int) -> None:
        self.port = 0
        self.cutting = True
        self.cuts = 0
        self._target, self._rng, self._most = target, rng, most

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, request = await asyncio.open_connection("127.0.0.1", self._target())
        except OSError:
            _reset(writer)
            return
        try:
            # Short ones as well: many end inside of the headers, or of the first line.
            left = self._rng.randrange(self._most) if self._rng.random() < 0.8 else self._rng.randrange(1000)
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(forward(reader, request))
                with suppress(ConnectionError):
                    await self._answer(upstream, writer, left)
                asking.cancel()
        finally:
            _reset(request)
            _reset(writer)

    async def _answer(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int) -> None:
        while data := await upstream.read(1 << 16):
            if self.cutting and len(data) > left:
                writer.write(data[: max(0, left)])
                await writer.drain()
                self.cuts += 1
                return
            left -= len(data)
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Let the other end see a reset, once what was written is on its way."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.close()


@asynccontextmanager
async def cutting(target: Callable[[], int], rng: random.Random, most: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(target, rng, most)
    async with listening(proxy.connected) as proxy.port:
        yield proxy
