"""The aiohttp application: routes, and errors as problem documents."""

import asyncio
import logging
import time

from aiohttp import web

from logsvc import metrics
from logsvc.access.grant import OPERATE, READ, WRITE
from logsvc.api.assets import Assets
from logsvc.api.browsers import mark_shared, only_local, share_with_origins
from logsvc.api.context import CONTEXT, Context
from logsvc.api.drains import add_drains
from logsvc.api.guard import Handler, guarded
from logsvc.api.heroku import as_heroku
from logsvc.api.ingest import post_logs
from logsvc.api.logs import get_logs
from logsvc.api.openapi import Described
from logsvc.api.pages import get_apps, get_ready, get_volume
from logsvc.api.probe import get_health, get_metrics
from logsvc.api.problems import Problem
from logsvc.api.removal import delete_logs
from logsvc.api.sessions import follow_session, get_app, post_session
from logsvc.errors import BusError, OverLimit, StoreAway, StoreError, TooCostly
from logsvc.logs import placed

log = logging.getLogger(__name__)

_CLIENT_GONE = 499
"""Stands in metrics for requests whose client went before the answer's end."""


def make_app(context: Context) -> web.Application:
    """The application. Whatever isn't guarded needs no token."""
    app = web.Application(middlewares=[count_requests, answer_problems, only_local, share_with_origins])
    app[CONTEXT] = context
    app.on_response_prepare.append(mark_shared)
    app.router.add_get("/v1/apps", guarded(READ, get_apps))
    app.router.add_get("/v1/apps/{app}/logs", guarded(READ, get_logs))
    app.router.add_post("/v1/apps/{app}/logs", guarded(WRITE, post_logs))
    app.router.add_delete("/v1/apps/{app}/logs", guarded(OPERATE, delete_logs))
    app.router.add_get("/v1/apps/{app}/volume", guarded(READ, get_volume))
    Assets().add_to(app.router, otherwise=as_heroku(guarded(READ, get_app)))
    app.router.add_post("/apps/{app}/log-sessions", as_heroku(guarded(READ, post_session)))
    app.router.add_get("/v1/log-sessions/{session}", follow_session)
    add_drains(app.router)
    Described().add_to(app.router)
    app.router.add_get("/healthz", get_health)
    app.router.add_get("/readyz", get_ready)
    app.router.add_get("/metrics", get_metrics)
    return app


@web.middleware
async def count_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count every answer, and time those that end by themselves."""
    pattern = pattern_of(request)
    begun = time.perf_counter()
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except (asyncio.CancelledError, ConnectionResetError):
        status = _CLIENT_GONE
        raise
    finally:
        metrics.http_requests.labels(request.method, pattern, status).inc()
        if "tail" not in request.query:
            metrics.http_request_seconds.labels(pattern).observe(time.perf_counter() - begun)
    return response


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is a problem document; what nobody foresaw is logged and says no more than that."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        detail = "There is nothing at this address." if error.status == 404 else error.reason
        return _with_headers(Problem(error.status, detail).response(), error)
    except OverLimit as error:
        return Problem(429, str(error), retry_after=error.retry_after).response()
    except TooCostly as error:
        metrics.over_limit.labels("read").inc()
        return Problem(429, f"This is more than may be read at once: {error}.", retry_after=1).response()
    except (BusError, StoreAway) as error:
        return Problem(503, str(error), retry_after=1).response()
    except StoreError as error:
        log.error("a query failed: %s", error)  # noqa: TRY400 - what it was raised from may quote lines
        return Problem(500, "The store refused the query.").response()
    except ConnectionResetError:
        if request.transport is not None and not request.transport.is_closing():
            raise
        return web.Response(status=499)  # for the metrics, in which nginx's number is known: the client has gone
    except Exception as error:  # noqa: BLE001 - nobody else answers the client
        # A path may be a signed address, the text of an error a line.
        log.error("%s %s failed: %s", request.method, pattern_of(request), placed(error))  # noqa: TRY400 - see above
        return Problem(500, "Something went wrong here; it is in the service's log.").response()


def pattern_of(request: web.Request) -> str:
    """The route's, with `{app}` for whatever stands there."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"


def _with_headers(response: web.Response, error: web.HTTPException) -> web.Response:
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
