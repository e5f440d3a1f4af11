"""The application on a socket: when it listens, and how it stops."""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from logsvc.api.app import make_app
from logsvc.api.context import Context
from logsvc.api.problems import Problem
from logsvc.errors import ConfigError

log = logging.getLogger(__name__)

_BACKLOG = 4096

_IDLE = 75.0
"""Seconds that a client may take until its request's head is whole, and between two requests. A little longer than
balancers keep their connections (60 s), so that they don't send a request into one that is being closed."""


@asynccontextmanager
async def listening(context: Context, host: str, port: int, grace: float) -> AsyncIterator[str]:
    """Serve until the block ends; gives the address, `http://127.0.0.1:8080`.

    At the end answers have `grace` seconds to finish. Raises ConfigError where the address can't be had.
    """
    runner = web.AppRunner(make_app(context), shutdown_timeout=grace, handler_cancellation=True)
    await runner.setup()
    try:
        loop = asyncio.get_running_loop()
        assert runner.server is not None, "the runner is set up"
        runner.server.request_handler = _expecting(runner.server.request_handler)
        sock = await _bind(host, port)
        server = await loop.create_server(lambda: _Connection(runner.server, loop), sock=sock, backlog=_BACKLOG)
        try:
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{sock.getsockname()[1]}"
        finally:
            server.close()
    finally:
        await runner.cleanup()


def _expecting(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """The application, which looks at Expect before anything of ours does."""

    async def expecting(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPExpectationFailed:
            return Problem(417, "Expect may be 100-continue and nothing else.").response()

    return expecting


class _Connection(web.RequestHandler):
    """A client's connection, where what isn't HTTP is answered like any other error.

    aiohttp would answer in plain text and log a traceback for whatever anybody sends to the port.
    """

    __slots__ = ()

    def __init__(self, manager: web.Server | None, loop: asyncio.AbstractEventLoop) -> None:
        assert manager is not None, "the runner is set up"
        # None is no log of requests; aiohttp checks for it, though its annotation has only loggers.
        # Bodies come as they are: see decoding.py.
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # see above
            auto_decompress=False,
            keepalive_timeout=_IDLE,
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        log.debug("something that isn't HTTP came from %s: %s", request.remote, message)
        response = Problem(status, "This request can't be read, or its first line or a header is too long.").response()
        response.force_close()
        return response


async def _bind(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"http.host {host} is not an address of this machine: {error.strerror}") from error
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        reason = "in use by another program" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigError(f"port {port} of {host} is {reason}; choose another with --port") from error
    return sock
