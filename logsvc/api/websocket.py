"""Lines over a WebSocket: one JSON message a chunk. docs/formats.md has the messages and close codes."""

import asyncio
import logging
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from logsvc.api.context import Delivered, Hold
from logsvc.api.delivery import Delivery
from logsvc.errors import LogsvcError

log = logging.getLogger(__name__)

MAX_MESSAGE = 64 * 1024
"""Most bytes a client may send in one message."""


OVER: Final = 3000
"""Close code of IANA's registry, "Unauthorized": the token or log session has ended."""


async def serve_websocket(
    request: web.Request, delivery: Delivery, delivered: Delivered, hold: Hold
) -> web.WebSocketResponse:
    """Send the delivery's frames until it ends, the client goes, or the service stops.

    Deflate is off: each client would cost a window of memory and CPU of its own, where frames are shared.
    """
    socket = web.WebSocketResponse(heartbeat=30.0, compress=False, max_msg_size=MAX_MESSAGE)
    socket.headers["Logsvc-Cursor"] = str(delivery.start)
    await socket.prepare(request)
    async with hold() as lease, asyncio.TaskGroup() as group:
        sending = group.create_task(_send_all(socket, delivery, delivered))
        async for _ in socket:  # ends when the socket is closed; what a client says means nothing yet
            pass
        sending.cancel()
    if lease.over:
        await socket.close(code=OVER, message=b"the token or log session has ended")
    return socket


async def _send_all(socket: web.WebSocketResponse, delivery: Delivery, delivered: Delivered) -> None:
    try:
        await _send(socket, delivery, delivered)
    except ConnectionResetError:
        pass  # the client has gone
    except LogsvcError as error:
        log.warning("a WebSocket was closed early: %s", error)
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"come back with your cursor")


async def _send(socket: web.WebSocketResponse, delivery: Delivery, delivered: Delivered) -> None:
    try:
        async for frame in delivery.frames():
            for message in frame.data.splitlines():
                await socket.send_frame(message, WSMsgType.TEXT)
            delivered.add(frame.lines, len(frame.data))
    finally:
        delivered.flush()
    if delivery.complete:
        await socket.send_str(delivery.form.end().decode())
        await socket.close(code=WSCloseCode.OK)
    else:
        await socket.close(code=WSCloseCode.SERVICE_RESTART, message=b"come back with your cursor")
