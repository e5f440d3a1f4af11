"""The application on a socket: when it listens, and how it stops."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from logsvc.api.app import make_app
from logsvc.api.context import Context
from logsvc.errors import ConfigError

_BACKLOG = 4096


@asynccontextmanager
async def listening(context: Context, host: str, port: int, grace: float) -> AsyncIterator[str]:
    """Serve until the block ends; gives the address, `http://127.0.0.1:8080`.

    At the end answers have `grace` seconds to finish. Raises ConfigError where the address can't be had.
    """
    runner = web.AppRunner(
        make_app(context), access_log=None, handle_signals=False, shutdown_timeout=grace, handler_cancellation=True
    )
    await runner.setup()
    try:
        sock = await _bind(host, port)
        await web.SockSite(runner, sock, backlog=_BACKLOG).start()
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{sock.getsockname()[1]}"
    finally:
        await runner.cleanup()


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
