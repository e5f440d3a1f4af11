"""What browsers ask before they show an answer to a page: where it comes from, and whether it may be read there."""

import re
from typing import Final

from aiohttp import hdrs, web

from logsvc.api.context import CONTEXT
from logsvc.api.guard import Handler
from logsvc.api.problems import Problem

_LOOPBACK: Final = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)

_METHODS: Final = "GET, HEAD, POST, PUT, DELETE"
_HEADERS: Final = "Authorization, Content-Type, Content-Encoding, Idempotency-Key, Last-Event-ID, Logsvc-Tenant"
_EXPOSED: Final = "Logsvc-Cursor, Retry-After"
_DAY: Final = "86400"


@web.middleware
async def only_local(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Without tokens a web page must not read logs through the browser of whoever runs the service.

    A rebound DNS name shows in Host, another site's page in Origin.
    """
    if request.app[CONTEXT].access.gate is not None:
        return await handler(request)
    if not _LOOPBACK.fullmatch(request.headers.get("Host", "")):
        raise Problem(403, "Without tokens this service answers only to localhost.")
    scheme, _, host = request.headers.get("Origin", "http://localhost").partition("://")
    if scheme not in {"http", "https"} or not _LOOPBACK.fullmatch(host):
        raise Problem(403, "Without tokens this service answers only pages of localhost.")
    return await handler(request)


@web.middleware
async def share_with_origins(request: web.Request, handler: Handler) -> web.StreamResponse:
    """CORS (WHATWG Fetch, section 3.2) for the sites of `http.origins`. No cookie is ever asked for."""
    origins = request.app[CONTEXT].access.origins
    origin = request.headers.get(hdrs.ORIGIN, "")
    if not origins or hdrs.ORIGIN not in request.headers:
        return await handler(request)
    if origin in origins and request.method == "OPTIONS" and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        return web.Response(
            status=204,
            headers={
                hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
                hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
                hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _HEADERS,
                hdrs.ACCESS_CONTROL_MAX_AGE: _DAY,
                hdrs.VARY: hdrs.ORIGIN,
            },
        )
    return await handler(request)


async def mark_shared(request: web.Request, response: web.StreamResponse) -> None:
    """Say before the head of an answer goes out which page may read it."""
    origins = request.app[CONTEXT].access.origins
    if origins:
        response.headers[hdrs.VARY] = ", ".join(filter(None, (response.headers.get(hdrs.VARY), hdrs.ORIGIN)))
        if (origin := request.headers.get(hdrs.ORIGIN, "")) in origins:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED
