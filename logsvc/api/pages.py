"""What is not lines: the apps, how many lines they write, and how the service is."""

import time
from itertools import groupby

import orjson
from aiohttp import web

from logsvc.api.context import CONTEXT
from logsvc.api.guard import GRANT
from logsvc.api.logs import limited_store, require_app, timeline_of
from logsvc.api.probe import readiness
from logsvc.api.problems import Problem
from logsvc.api.query import FILTER_PARAMETERS, check_names, read_by, read_filter, read_matcher, read_step
from logsvc.formats import cri
from logsvc.waiting import waits

MAX_BUCKETS = 10_000


async def get_apps(request: web.Request) -> web.Response:
    """`{"apps":[{"app":"demo","processes":["web"],"last":"2026-11-23T02:00:00.123Z"}]}`, by name."""
    check_names(request.query, ())
    grant = request[GRANT]
    found = await limited_store(request.app[CONTEXT], grant).apps(grant.tenant)
    apps = [
        {"app": app.app, "processes": app.processes, "last": _time(app.last * 1_000_000)}
        for app in found
        if grant.allows(app.app)
    ]
    return _json({"apps": apps})


async def get_volume(request: web.Request) -> web.Response:
    """Lines by bucket of time, and by process and stream or whatever `by` names, of all lines that pass the filter.

    `{"step":60.0,"buckets":[{"time":"…","process":"web","stream":"stdout","lines":17}]}`, in order of time.
    """
    timeline = timeline_of(request, request.app[CONTEXT])
    await require_app(timeline, request.app[CONTEXT])
    check_names(request.query, FILTER_PARAMETERS | {"step", "by"})
    wanted = read_filter(request.query, now=time.time_ns())
    read_matcher(wanted)
    step, by = read_step(request.query), read_by(request.query)
    buckets = await timeline.volume(wanted, step, by)
    if len([start for start, _ in groupby(buckets, key=lambda bucket: bucket.start)]) > MAX_BUCKETS:
        raise Problem(400, f"step: gives more than {MAX_BUCKETS} buckets; take a longer one", parameter="step")
    rows = [
        {"time": _time(start), **dict(zip(by, names, strict=True)), "lines": lines} for start, names, lines in buckets
    ]
    return _json({"step": step / 1e9, "buckets": rows})


async def get_ready(request: web.Request) -> web.Response:
    """200 while requests should come here: not before it is up, while it waits for an epoch, or while it stops."""
    context = request.app[CONTEXT]
    if context.stopping.is_set():
        return readiness("Stopping.")
    if waits():
        return readiness("Waiting for what is behind this service; its log says for what.")
    return readiness(None if context.ready.is_set() else "Starting.")


def _time(ns: int) -> str:
    return cri.format_time(max(0, ns)).decode()


def _json(document: object) -> web.Response:
    return web.Response(
        body=orjson.dumps(document), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
