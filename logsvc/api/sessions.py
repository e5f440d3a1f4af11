"""Heroku's Platform API, as far as reading logs goes: what `heroku logs` asks for, byte for byte as it expects it.

GET  /apps/{app}
POST /apps/{app}/log-sessions    → 201 with `logplex_url`
GET  <logplex_url>               lines, for whoever has the address
"""

import re
import time
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid4, uuid5

from aiohttp import web

from logsvc.access.grant import NAME, READ, Grant
from logsvc.access.sessions import Session
from logsvc.api.bodies import read_object
from logsvc.api.context import CONTEXT
from logsvc.api.guard import GRANT
from logsvc.api.logs import answer, choose_form, require_app, timeline_of, upgrades
from logsvc.api.problems import Problem, bad_parameter
from logsvc.api.query import DEFAULT_NUM, Query, check_names, read_cursor, read_matcher
from logsvc.errors import BadToken
from logsvc.formats.representations import (
    HerokuEvents,
    NewlineDelimitedJson,
    PlainText,
    Representation,
    ServerSentEvents,
    WebSocketMessages,
)
from logsvc.model import AppId, Filter

_MOST_LINES: Final = 999_999_999
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_MOST_PORT: Final = 65535


async def get_app(request: web.Request) -> web.Response:
    """Of Heroku's app what its clients ask before they ask for logs."""
    check_names(request.query, ())
    timeline = timeline_of(request, request.app[CONTEXT])
    await require_app(timeline, request.app[CONTEXT])
    tenant, app = timeline.app
    generation = {"id": str(uuid5(NAMESPACE_URL, "cedar")), "name": "cedar"}
    return web.json_response(
        {"id": str(uuid5(NAMESPACE_URL, f"{tenant}/{app}")), "name": app, "generation": generation}
    )


async def post_session(request: web.Request) -> web.Response:
    """Open a log session; the answer's address is good for whoever has it."""
    context = request.app[CONTEXT]
    timeline = timeline_of(request, context)
    asked = await read_object(request)
    session = _session(timeline.app, request[GRANT], asked)
    await require_app(timeline, context)
    access = context.access
    base = access.public_url or _asked_at(request)
    created = datetime.fromtimestamp(session.created, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return web.json_response(
        {
            "id": session.id,
            "logplex_url": f"{base}/v1/log-sessions/{access.sessions.sign(session)}",
            "created_at": created,
            "updated_at": created,
        },
        status=201,
        headers={"Cache-Control": "no-store"},
    )


async def follow_session(request: web.Request) -> web.StreamResponse:
    """A session's lines: text as Heroku sends it, server-sent events for those who accept them; or JSON."""
    access = request.app[CONTEXT].access
    try:
        session = access.sessions.read(request.match_info["session"], resumed=_place(request) is not None)
        grant = _grant(session)
        if access.gate is not None:
            access.gate.check(grant)
        query = _query(request, session)
        until = access.sessions.end(session)
        return await answer(request, AppId(session.tenant, session.app), query, _form(request), grant, until)
    except BadToken as error:
        raise Problem(403, str(error)) from error


def _asked_at(request: web.Request) -> str:
    """The address that the client has used. Raises Problem where its Host is none: it would be in what is signed."""
    found = _HOST.fullmatch(request.host)
    if found is None or int(found["port"] or 0) > _MOST_PORT:
        raise Problem(400, "Host: name a host, and a port where there is one.", parameter="Host")
    return f"{request.scheme}://{request.host}"


def _session(app: AppId, grant: Grant, asked: dict[str, Any]) -> Session:
    lines, tail = asked.get("lines"), asked.get("tail")
    if lines is not None and (type(lines) is not int or not 0 <= lines <= _MOST_LINES):
        raise bad_parameter("lines", f"is a whole number from 0 to {_MOST_LINES}")
    if tail is not None and type(tail) is not bool:
        raise bad_parameter("tail", "is true or false")
    source = _name(asked, "source")
    return Session(
        id=str(uuid4()),
        tenant=app.tenant,
        app=app.app,
        ps=_name(asked, "dyno"),
        process=_name(asked, "type"),
        source="platform" if source == "heroku" else source,
        lines=DEFAULT_NUM if lines is None else lines,
        tail=bool(tail),
        created=time.time(),
        subject=grant.subject,
        plan=grant.plan,
        token=grant.id,
        root=grant.root,
        expires=grant.expires,
        operator=grant.operator,
    )


def _name(asked: dict[str, Any], parameter: str) -> str:
    name = asked.get(parameter)
    if name is None or name == "":
        return ""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise bad_parameter(parameter, "is a name of letters, digits, `.`, `_` and `-`")
    return name


def _grant(session: Session) -> Grant:
    return Grant(
        subject=session.subject,
        tenant=session.tenant,
        scopes=frozenset({READ}),
        apps=frozenset({session.app}),
        plan=session.plan,
        expires=session.expires,
        id=session.token,
        root=session.root,
        operator=session.operator,
    )


def _query(request: web.Request, session: Session) -> Query:
    check_names(request.query, {"format", "after"})
    wanted = Filter(ps=_set(session.ps), process=_set(session.process), source=_set(session.source))
    matcher = read_matcher(wanted)
    place = _place(request)
    if place is None:
        return Query(matcher, session.tail, session.lines, None, None, cursors=False)
    name, _ = place
    return Query(matcher, session.tail, None, read_cursor(*place), None, cursors=False, resumed=name == "Last-Event-ID")


def _place(request: web.Request) -> tuple[str, str] | None:
    """Where a client goes on: the parameter that says so, and what it says; None for one that begins."""
    for name, given in (("Last-Event-ID", request.headers), ("after", request.query)):
        if name in given:
            return name, given[name]
    return None


def _set(name: str) -> frozenset[str]:
    return frozenset({name} if name else ())


def _form(request: web.Request) -> Representation:
    if upgrades(request):
        return WebSocketMessages()
    chosen = choose_form(", ".join(request.headers.getall("Accept", [])))
    given = request.query.get("format", "text")
    if given not in {"text", "json"}:
        raise bad_parameter("format", "is text or json")
    events = chosen is ServerSentEvents
    if given == "json" or chosen is NewlineDelimitedJson:
        return ServerSentEvents() if events else NewlineDelimitedJson()
    return HerokuEvents() if events else PlainText()
