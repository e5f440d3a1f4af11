"""Drains as Heroku's Platform API has them, byte for byte what its clients expect, and what is added to that.

GET    /apps/{app}/log-drains             the app's drains; with `status=true` how each of them does
POST   /apps/{app}/log-drains             → 201, of `url` and perhaps a `filter` and `ordered`
DELETE /apps/{app}/log-drains             all of them go: for whoever deletes the app
GET    /apps/{app}/log-drains/{drain}     one, by its id, its token or its URL
PUT    /apps/{app}/log-drains/{drain}     another `url`, `filter` or `ordered`
DELETE /apps/{app}/log-drains/{drain}
POST   /apps/{app}/log-drains/{drain}/actions/{pause|resume|test}
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import web
from multidict import MultiDict

from logsvc.access.audit import audit
from logsvc.access.grant import DRAINS, OPERATE, READ, Grant
from logsvc.api.bodies import read_object
from logsvc.api.context import CONTEXT
from logsvc.api.guard import GRANT, app_of, guarded
from logsvc.api.heroku import as_heroku
from logsvc.api.problems import Problem, bad_parameter
from logsvc.api.query import check_names, read_filter, read_flag, read_matcher
from logsvc.drains import urls
from logsvc.drains.addresses import Forbidden
from logsvc.drains.model import FILTERS, Drain, DrainStatus, State, filter_members
from logsvc.errors import BadUrl
from logsvc.model import AppId, Filter
from logsvc.timeline import Timeline

_MOST_TRIALS: Final = 32
"""Drains that are sent a test line at once."""
_SILENCE: Final = 60.0
"""Seconds without a word of a drain's delivery after which nobody seems to deliver it; it says something each 20."""

Known = Mapping[str, Drain]


def add_drains(router: web.UrlDispatcher) -> None:
    """All routes of drains."""

    def add(method: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        scope, also = (READ, DRAINS) if method == "GET" else (DRAINS, None)
        router.add_route(method, f"/apps/{{app}}/log-drains{path}", as_heroku(guarded(scope, handler, also=also)))

    # A drain's name may be a URL, percent-encoded, and hold whatever else a URL holds.
    one = "/{drain:[^/]+}"
    add("GET", "", get_drains)
    add("POST", "", post_drain)
    add("DELETE", "", delete_drains)
    add("GET", one, get_drain)
    add("PUT", one, put_drain)
    add("DELETE", one, delete_drain)
    add("POST", f"{one}/actions/pause", partial(switch, paused=True))
    add("POST", f"{one}/actions/resume", partial(switch, paused=False))
    add("POST", f"{one}/actions/test", test_drain)


# ---- what is asked


async def get_drains(request: web.Request) -> web.Response:
    """The drains of an app, in the order in which they were made."""
    registry = request.app[CONTEXT].drains.registry
    return await _shown(request, _of_app(registry.drains, app_of(request)))


async def get_drain(request: web.Request) -> web.Response:
    """One drain."""
    registry = request.app[CONTEXT].drains.registry
    return await _shown(request, _named(request, registry.drains))


async def post_drain(request: web.Request) -> web.Response:
    """Make a drain; what is written after the answer's beginning is delivered."""
    check_names(request.query, ())
    context, grant = request.app[CONTEXT], request[GRANT]
    app, body = app_of(request), await _body(request)
    if "url" not in body:
        raise _invalid("url", "say where lines are to go")
    url, wanted, ordered = (
        _url(request, body["url"]),
        _filter(body.get("filter", {})),
        _ordered(body.get("ordered", True)),
    )
    start = await Timeline(app, context.tiers).end()
    new = Drain.new(app, url, start, int(time.time()), wanted=wanted, plan=grant.plan, ordered=ordered)
    most = context.access.limits.plan(grant).drains

    def add(drains: Known) -> Drain:
        _check_single(drains, new)
        if most is not None and len(_of_app(drains, app)) >= most:
            raise Problem(422, f"Your plan allows {most} drains for an app.")
        return new

    await context.drains.registry.change(add)
    _audited("drain added", new, grant)
    return web.json_response(_members(new, grant), status=201)


async def put_drain(request: web.Request) -> web.Response:
    """Give a drain another URL, filter or order; its token stays, and so does the place where it is."""
    check_names(request.query, ())
    _named(request, request.app[CONTEXT].drains.registry.drains)  # a drain that isn't there is told before all else
    body = await _body(request)
    if not body:
        raise _invalid("url", "say where lines are to go")
    given: dict[str, Any] = {}
    if "url" in body:
        given["url"] = _url(request, body["url"])
    if "filter" in body:
        given["filter"] = _filter(body["filter"])
    if "ordered" in body:
        given["ordered"] = _ordered(body["ordered"])

    def put(drain: Drain, drains: Known) -> Drain:
        changed = replace(drain, **given, plan=request[GRANT].plan)
        _check_single(drains, changed)
        return changed

    return await _changed(request, put, "drain changed")


async def switch(request: web.Request, *, paused: bool) -> web.Response:
    """Have a drain rest, or go on where it was."""
    check_names(request.query, ())
    return await _changed(
        request, lambda drain, _: replace(drain, paused=paused), f"drain {'paused' if paused else 'resumed'}"
    )


async def delete_drain(request: web.Request) -> web.Response:
    """Take a drain away; the answer is what it was."""
    check_names(request.query, ())
    registry = request.app[CONTEXT].drains.registry
    drain = _named(request, registry.drains)
    await registry.remove(drain.id)
    _audited("drain removed", drain, request[GRANT])
    return web.json_response(_members(drain, request[GRANT]))


async def delete_drains(request: web.Request) -> web.Response:
    """Take all drains of an app away; the answer is what they were."""
    check_names(request.query, ())
    registry = request.app[CONTEXT].drains.registry
    gone = _of_app(registry.drains, app_of(request))
    for drain in gone:
        await registry.remove(drain.id)
        _audited("drain removed", drain, request[GRANT])
    return web.json_response([_members(drain, request[GRANT]) for drain in gone])


async def test_drain(request: web.Request) -> web.Response:
    """Send one marked line, and say what the other side answers."""
    check_names(request.query, ())
    drains = request.app[CONTEXT].drains
    drain = _named(request, drains.registry.drains)
    if drain.id in drains.trying:
        raise Problem(409, "A test of this drain is under way.", retry_after=1)
    if len(drains.trying) >= _MOST_TRIALS:
        raise Problem(503, "Too many drains are being tested here.", retry_after=1)
    drains.trying.add(drain.id)
    try:
        trial = await drains.try_out(drain)
    finally:
        drains.trying.discard(drain.id)
    return web.json_response({"taken": trial.taken, "answer": trial.answer, "seconds": round(trial.seconds, 3)})


# ---- which drains


def _of_app(drains: Known, app: AppId) -> list[Drain]:
    return sorted(
        (drain for drain in drains.values() if drain.app_id == app), key=lambda drain: (drain.created_at, drain.id)
    )


def _named(request: web.Request, drains: Known) -> Drain:
    """The drain that a request names. Raises Problem."""
    app, name = app_of(request), request.match_info["drain"]
    for drain in _of_app(drains, app):
        if name in {drain.id, drain.token, drain.url} or _same_place(drain.url, name):
            return drain
    raise Problem(404, f"App {app.app} has no such drain.")


def _same_place(one: str, other: str) -> bool:
    with suppress(BadUrl):
        return urls.parse(one).same_place(urls.parse(other))
    return False


def _check_single(drains: Known, new: Drain) -> None:
    """Raise Problem where another drain of the app leads to the same place: every line would come twice."""
    for drain in _of_app(drains, new.app_id):
        if drain.id != new.id and _same_place(drain.url, new.url):
            raise Problem(409, "The app has a drain with this URL already.")


async def _changed(request: web.Request, change: Callable[[Drain, Known], Drain], event: str) -> web.Response:
    def apply(drains: Known) -> Drain:
        return replace(change(_named(request, drains), drains), updated_at=int(time.time()))

    drain = await request.app[CONTEXT].drains.registry.change(apply)
    assert drain is not None
    _audited(event, drain, request[GRANT])
    return web.json_response(_members(drain, request[GRANT]))


# ---- what bodies say


async def _body(request: web.Request) -> dict[str, Any]:
    body = await read_object(request)
    if unknown := set(body) - {"url", "filter", "ordered"}:
        raise _invalid(min(unknown), "there is no such member")
    return body


def _invalid(parameter: str, detail: str) -> Problem:
    problem = bad_parameter(parameter, detail)
    problem.status = 422
    return problem


def _url(request: web.Request, text: object) -> str:
    """A URL that may be used. Raises Problem."""
    drains = request.app[CONTEXT].drains
    if not isinstance(text, str):
        raise _invalid("url", "is text")
    try:
        url = urls.parse(text)
    except BadUrl as error:
        raise _invalid("url", str(error)) from error
    if not (url.tls or url.protocol == "syslog" or drains.unencrypted):
        raise _invalid("url", f"{url.scheme}:// sends lines unencrypted, which is switched off here")
    with suppress(ValueError):
        ip_address(url.host)
        try:
            drains.addresses.check(url.host)
        except Forbidden:
            raise _invalid("url", "drains may not connect to this address") from None
    return text


def _ordered(flag: object) -> bool:
    if not isinstance(flag, bool):
        raise _invalid("ordered", "is true or false")
    return flag


def _filter(members: object) -> Filter:
    """The filter that a body asks for, by the rules of the logs API. Raises Problem."""
    if not isinstance(members, dict):
        raise _invalid("filter", "is an object")
    query: MultiDict[str] = MultiDict()
    for name, values in members.items():
        if name not in FILTERS:
            raise _invalid(f"filter.{name}", "there is no such filter")
        if name == "ignore_case" and isinstance(values, bool):
            query.add(name, str(values))
        elif isinstance(values, list) and name != "ignore_case" and all(isinstance(value, str) for value in values):
            query.extend((name, value) for value in values)
        else:
            raise _invalid(f"filter.{name}", "is true or false" if name == "ignore_case" else "is a list of text")
    try:
        wanted = read_filter(query, now=0)
        read_matcher(wanted)
    except Problem as problem:
        problem.status = 422
        raise
    return wanted


# ---- what answers say


async def _shown(request: web.Request, drains: Drain | list[Drain]) -> web.Response:
    check_names(request.query, {"status", "extended"})
    wanted, extended = read_flag(request.query, "status"), read_flag(request.query, "extended")
    found = drains if isinstance(drains, list) else [drains]
    statuses = await request.app[CONTEXT].drains.registry.statuses(found) if wanted else {}
    shown = []
    for drain in found:
        members = _members(drain, request[GRANT])
        if wanted:
            members["status"] = _status(drain, statuses.get(drain.id))
        if extended:  # what `heroku drains --extended` asks for
            members["extended"] = {"drain_id": drain.id}
        shown.append(members)
    return web.json_response(shown if isinstance(drains, list) else shown[0])


def _members(drain: Drain, grant: Grant) -> dict[str, Any]:
    """A drain as Heroku shows it, and what is added to that. Its URL is whole for those who may change it only."""
    owner = DRAINS in grant.scopes and OPERATE not in grant.scopes
    return {
        "addon": None,
        "created_at": _moment(drain.created_at),
        "id": drain.id,
        "token": drain.token,
        "updated_at": _moment(drain.updated_at),
        "url": drain.url if owner else urls.masked(drain.url),
        "filter": filter_members(drain.filter),
        "paused": drain.paused,
        "ordered": drain.ordered,
    }


def _status(drain: Drain, status: DrainStatus | None) -> dict[str, Any]:
    if status is None or drain.paused:  # what was said of it before it was paused is over
        status = DrainStatus(State.STARTING, drain.updated_at)
    state: str = status.state
    if drain.paused:
        state = "paused"
    elif time.time() - max(status.at, drain.updated_at) > _SILENCE:
        state = "unattended"
    return {
        "state": state,
        "at": _moment(status.at),
        "lag_lines": status.lag_lines,
        "lag_seconds": round(status.lag_seconds, 1),
        "lines": status.lines,
        "lines_per_second": round(status.lines_per_second, 1),
        "error": status.error or None,
        "error_at": None if status.error_at is None else _moment(status.error_at),
        "retry_at": None if status.retry_at is None else _moment(status.retry_at),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _audited(event: str, drain: Drain, grant: Grant) -> None:
    audit(
        event,
        subject=grant.subject,
        tenant=drain.tenant,
        app=drain.app,
        drain=drain.id,
        url=urls.masked(drain.url),
    )
