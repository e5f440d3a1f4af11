"""What an orchestrator and Prometheus ask of a process: `/healthz`, `/readyz`, `/metrics`. Knows nothing of logs.

`listening` answers them on a port of its own, for roles without an API and from before there is one.
"""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from logsvc import metrics
from logsvc.api.problems import Problem
from logsvc.errors import ConfigError


async def get_health(request: web.Request) -> web.Response:  # noqa: ARG001 - a handler's shape
    """200 while the process answers at all."""
    return web.Response(text="ok\n")


async def get_metrics(request: web.Request) -> web.Response:
    """Prometheus' text format."""
    body, content_type = metrics.render(request.headers.get("Accept"))
    return web.Response(body=body, headers={"Content-Type": content_type})


def readiness(problem: str | None) -> web.Response:
    """200 where there is no problem, else 503 that tells it."""
    if problem is not None:
        return Problem(503, problem, retry_after=1).response()
    return web.Response(text="ok\n")


@asynccontextmanager
async def listening(host: str, port: int, problem: Callable[[], str | None]) -> AsyncIterator[int]:
    """Answer probes until the end of the block; gives the port. `problem` is what keeps the process from its work.

    Raises ConfigError where the address can't be had.
    """
    app = web.Application(middlewares=[_answer_problems])
    app.router.add_get("/healthz", get_health)
    app.router.add_get("/readyz", _get_ready(problem))
    app.router.add_get("/metrics", get_metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            reason = "in use by another program" if error.errno == errno.EADDRINUSE else error.strerror
            raise ConfigError(f"probe.port {port} of {host} can't be listened on: {reason}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@web.middleware
async def _answer_problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        allowed = {name: value for name, value in error.headers.items() if name == "Allow"}
        return Problem(error.status, error.reason, headers=allowed).response()


def _get_ready(problem: Callable[[], str | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def get_ready(request: web.Request) -> web.Response:  # noqa: ARG001 - a handler's shape
        """200 while the process does its work."""
        return readiness(problem())

    return get_ready
