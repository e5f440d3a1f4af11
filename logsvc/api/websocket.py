"""Lines over a WebSocket: one JSON message a chunk. docs/formats.md has the messages and close codes."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Final

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from multidict import MultiDict

from logsvc.api.context import Delivered, Hold
from logsvc.api.delivery import Delivery
from logsvc.api.problems import Problem, bad_parameter
from logsvc.api.query import FILTER_PARAMETERS, Query, check_names, read_filter, read_matcher
from logsvc.errors import LogsvcError
from logsvc.model import Cursor
from logsvc.selection import Matcher

log = logging.getLogger(__name__)

MAX_MESSAGE = 16 * 1024
"""Most bytes a client may send in one message."""

HEARTBEAT = 30.0
"""Seconds between two pings; a client that doesn't answer one within half of that is let go."""

OVER: Final = 3000
"""Close code of IANA's registry, "Unauthorized": the token or log session has ended."""


Reopen = Callable[[Query], AbstractAsyncContextManager[Delivery]]


async def serve_websocket(
    request: web.Request,
    query: Query,
    delivery: Delivery,
    delivered: Delivered,
    hold: Hold,
    reopen: Reopen,
    *,
    refilter: bool,
) -> web.WebSocketResponse:
    """Send the frames of a query's delivery until it ends, the client goes, or the service stops.

    Where the client asks for something else, `reopen` goes on with that; `refilter`: it may ask for other lines.
    Deflate is off: each client would cost a window of memory and CPU of its own, where frames are shared.
    """
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT, compress=False, max_msg_size=MAX_MESSAGE)
    socket.headers["Logsvc-Cursor"] = str(delivery.start)
    follower = _Follower(socket, query, delivery.start, delivered, refilter=refilter)
    async with hold() as lease:
        await socket.prepare(request)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(follower.run(delivery, reopen))
            async for message in socket:  # ends when the socket is closed
                await follower.take(message, sending)
                await asyncio.sleep(0)  # others get a turn: thousands of messages may have come at once
            sending.cancel()
    if lease.over:
        await socket.close(code=OVER, message=b"the token or log session has ended")
    return socket


class _Follower:
    """What one socket is sent, and what its client has asked for since."""

    def __init__(
        self, socket: web.WebSocketResponse, query: Query, start: Cursor, delivered: Delivered, *, refilter: bool
    ) -> None:
        self._socket, self._delivered, self._refilter = socket, delivered, refilter
        self._query, self._at = query, start
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._changed = False
        self._waiting = False
        """Whether nothing is being sent, so that it may be broken off without sending anything twice."""

    async def take(self, message: WSMessage, sending: asyncio.Task[None]) -> None:
        """Do what a client says: `{"filter":{…}}`, `{"pause":true}`, `{"pause":false}`. Others are told off."""
        try:
            self._obey(message)
        except Problem as problem:
            with suppress(ConnectionResetError):
                await self._socket.send_str(orjson.dumps({"problem": problem.document()}).decode())
            return
        self._changed = True
        if self._waiting:
            self._waiting = False  # once is enough
            sending.cancel()

    def _obey(self, message: WSMessage) -> None:
        try:
            said = orjson.loads(message.data) if message.type is WSMsgType.TEXT else None
        except ValueError:
            said = None
        if not isinstance(said, dict) or not said or not set(said) <= {"filter", "pause"}:
            raise Problem(400, 'Say {"filter": {…}}, {"pause": true} or {"pause": false}.')
        if not self._query.tail or (self._query.num is not None and self._query.after is not None):
            raise Problem(400, "Only a tail without an end can be changed.")
        pause = said.get("pause", not self._resumed.is_set())
        if type(pause) is not bool:
            raise bad_parameter("pause", "is true or false")
        if "filter" in said:
            self._query = replace(self._query, matcher=self._matcher(said["filter"]))
        if pause:
            self._resumed.clear()
        else:
            self._resumed.set()

    def _matcher(self, asked: object) -> Matcher:
        if not self._refilter:
            raise Problem(403, "The lines of a log session were chosen when it was opened.")
        if not isinstance(asked, dict):
            raise bad_parameter("filter", "is an object")
        given: MultiDict[str] = MultiDict()
        for name, value in asked.items():
            for one in value if isinstance(value, list) else [value]:
                given.add(name, {True: "true", False: "false"}[one] if isinstance(one, bool) else str(one))
        check_names(given, FILTER_PARAMETERS)
        if "until" in given:
            raise bad_parameter("until", "a tail has no end")
        return read_matcher(read_filter(given, now=time.time_ns()))

    async def run(self, delivery: Delivery, reopen: Reopen) -> None:
        """Send until it is over; what ends it early is said by the close code."""
        try:
            await self._send(delivery)
            while self._changed:
                self._changed = False
                await self._until_resumed()
                query = replace(self._query, after=self._at, num=None, resumed=False)
                async with reopen(query) as following:
                    await self._tell("changed")
                    await self._send(following)
            if delivery.complete:  # never so of a tail, and only those are changed
                await self._socket.send_str(delivery.form.end().decode())
                await self._socket.close(code=WSCloseCode.OK)
            else:
                await self._socket.close(code=WSCloseCode.SERVICE_RESTART, message=b"come back with your cursor")
        except ConnectionResetError:
            pass  # the client has gone
        except (LogsvcError, Problem) as error:
            log.warning("a WebSocket was closed early: %s", error)
            await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"come back with your cursor")

    async def _until_resumed(self) -> None:
        if not self._resumed.is_set():
            await self._tell("paused")
        while not self._resumed.is_set():
            with self._breakable():
                await self._resumed.wait()
            self._changed = False  # what was asked for meanwhile is about to be done

    async def _tell(self, what: str) -> None:
        await self._socket.send_str(orjson.dumps({what: True, "cursor": str(self._at)}).decode())

    async def _send(self, delivery: Delivery) -> None:
        """Frames until the end, or until the client has asked for something else."""
        frames = delivery.frames()
        try:
            while not self._changed:
                frame = None
                with self._breakable():
                    frame = await anext(frames, None)
                if frame is None:
                    return
                for message in frame.data.splitlines():
                    await self._socket.send_frame(message, WSMsgType.TEXT)
                self._at = frame.at
                self._delivered.add(frame.lines, len(frame.data))
        finally:
            self._delivered.flush()

    @contextmanager
    def _breakable(self) -> Iterator[None]:
        """A wait that `take` may break off; whoever else cancels is obeyed."""
        self._waiting = True
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._changed or task is None or task.cancelling() > 1:
                raise
            task.uncancel()
        finally:
            self._waiting = False
