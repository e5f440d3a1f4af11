"""`GET /v1/apps/{app}/logs`: an app's lines, past and present, in the representation the client asks for."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from secrets import token_hex
from typing import Final

from aiohttp import ClientConnectionResetError, HttpVersion11, web

from logsvc.access.audit import audit
from logsvc.access.grant import Grant
from logsvc.api.compression import Encoder, encoder_for
from logsvc.api.context import CONTEXT, Context, Delivered, Hold
from logsvc.api.delivery import Delivery, http_chunk
from logsvc.api.guard import GRANT, app_of
from logsvc.api.problems import Problem, no_such_app
from logsvc.api.query import Query, described, read_query
from logsvc.api.websocket import serve_websocket
from logsvc.errors import LogsvcError
from logsvc.formats.representations import (
    NewlineDelimitedJson,
    PlainText,
    Representation,
    ServerSentEvents,
    WebSocketMessages,
)
from logsvc.model import AppId
from logsvc.store.protocol import ReadLimits, StoreReader
from logsvc.timeline import Timeline

log = logging.getLogger(__name__)

CLOSING: Final = 2.0
"""Seconds for the last bytes of an answer that is ended early."""

STALLED = 300.0
"""Seconds after which a client that takes nothing of an answer is let go. Not so of a tail: a terminal may be stopped
for hours, and holds one step meanwhile."""

_Form = type[PlainText | NewlineDelimitedJson | ServerSentEvents]
_FORMS: dict[str, _Form] = {
    form.content_type.partition(";")[0]: form for form in (PlainText, NewlineDelimitedJson, ServerSentEvents)
}
_RANGES: dict[str, _Form] = {"*/*": PlainText, "text/*": PlainText, "application/*": NewlineDelimitedJson}


async def get_logs(request: web.Request) -> web.StreamResponse:
    """Lines by HTTP; by WebSocket where the request asks to upgrade."""
    app = app_of(request)
    query = read_query(request.query, last_event_id=request.headers.get("Last-Event-ID"), now=time.time_ns())
    form = WebSocketMessages if upgrades(request) else choose_form(", ".join(request.headers.getall("Accept", [])))
    return await answer(request, app, query, form(cursors=query.cursors), request[GRANT])


def upgrades(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def answer(
    request: web.Request, app: AppId, query: Query, form: Representation, grant: Grant, until: float | None = None
) -> web.StreamResponse:
    """What a query asks of an app, for as long as the grant holds, at most until `until` (Unix s)."""
    context = request.app[CONTEXT]
    timeline = limited_timeline(app, context, grant)
    with _counted(context, form, grant) if query.tail else context.access.limits.answer(grant):
        async with _opened(timeline, context, query, form) as delivery:
            # Asked last: an answer that has lines says so by itself.
            await require_app(timeline, context, found=delivery.found)
            delivered = Delivered(form.name)
            audited = _audited(app, query, grant, delivered) if query.tail else contextlib.nullcontext(_unchanged)
            with audited as changed:
                hold = partial(context.access.leases.hold, grant, until=until)
                if form.name != "websocket":
                    return await _stream(request, delivery, delivered, hold, tail=query.tail)

                def reopen(asked: Query) -> AbstractAsyncContextManager[Delivery]:
                    changed(asked)
                    return _opened(timeline, context, asked, form)

                return await serve_websocket(request, query, delivery, delivered, hold, reopen, refilter=until is None)


@contextmanager
def _counted(context: Context, form: Representation, grant: Grant) -> Iterator[None]:
    """Raises OverLimit, Problem where there are too many tails."""
    with context.access.limits.tail(grant), context.admit_tail(form.name):
        yield


def _unchanged(_: Query) -> None:
    """Only tails are changed."""


@contextmanager
def _audited(app: AppId, query: Query, grant: Grant, delivered: Delivered) -> Iterator[Callable[[Query], None]]:
    """Write down who watches what: as it begins, for a process may be killed, as it ends, and what it is changed to.

    Gives what is to be told of a change.
    """
    begun = time.monotonic()
    wanted = query.matcher.wanted
    watching = {"tail": token_hex(4), "subject": grant.subject, "tenant": app.tenant, "app": app.app}

    def changed(asked: Query) -> None:
        nonlocal wanted
        if asked.matcher.wanted != wanted:
            wanted = asked.matcher.wanted
            audit("tail changed", **watching, filters=described(wanted))

    audit("tail begun", **watching, filters=described(wanted))
    try:
        yield changed
    finally:
        delivered.flush()
        seconds = round(time.monotonic() - begun, 1)
        audit("tail", **watching, filters=described(wanted), lines=delivered.all_lines, seconds=seconds)


def timeline_of(request: web.Request, context: Context) -> Timeline:
    """The timeline of the app that the URL names, which may not be there. Raises Problem where it can't be a name."""
    return limited_timeline(app_of(request), context, request[GRANT])


def limited_timeline(app: AppId, context: Context, grant: Grant) -> Timeline:
    """An app's timeline, with what the plan allows of the store."""
    return Timeline(app, context.tiers, limited_store(context, grant))


def limited_store(context: Context, grant: Grant) -> StoreReader:
    """The store, with what the plan allows of it."""
    limits = context.access.limits
    plan = limits.plan(grant)
    reading = limits.reading(grant)
    allowed = ReadLimits(plan.query_seconds, plan.read_bytes, None if reading is None else reading.turn)
    return context.tiers.store if allowed == ReadLimits() else context.tiers.store.limited(allowed)


async def require_app(timeline: Timeline, context: Context, *, found: bool = False) -> None:
    """Raise Problem where there is no such app; `found`: a line of it has been seen."""
    if timeline.app in context.known_apps:
        return
    if not found:
        # One at a time: of a thousand tails that come back at once, the first one asks for all.
        async with context.asking.setdefault(timeline.app, asyncio.Lock()):
            if timeline.app not in context.known_apps and not await timeline.exists():
                raise no_such_app(timeline.app.app)
    context.known_apps.add(timeline.app)


@asynccontextmanager
async def _opened(timeline: Timeline, context: Context, query: Query, form: Representation) -> AsyncIterator[Delivery]:
    delivery = Delivery(timeline, context, query, form)
    try:
        await delivery.open()
        yield delivery
    finally:
        await delivery.close()


async def _stream(
    request: web.Request, delivery: Delivery, delivered: Delivered, hold: Hold, *, tail: bool
) -> web.StreamResponse:
    form = delivery.form
    response = web.StreamResponse(
        headers={
            "Content-Type": form.content_type,
            "Logsvc-Cursor": str(delivery.start),
            "Cache-Control": "no-store",
            "Vary": "Accept, Accept-Encoding",
            "X-Accel-Buffering": "no",
        }
    )
    encoder = encoder_for(", ".join(request.headers.getall("Accept-Encoding", [])))
    if encoder is not None:
        response.headers["Content-Encoding"] = encoder.name
    if request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    try:
        async with hold():
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            await _write(request, response, delivery, encoder, delivered, None if tail else STALLED)
        await _close(request, response, delivery, encoder)
    except LogsvcError as error:
        if not response.prepared:
            raise
        # The answer has begun, so it can't become an error: a client sees that it is cut, and comes again.
        log.warning("an answer was cut: %s", error)
        if request.transport is not None:
            request.transport.close()
    return response


async def _write(
    request: web.Request,
    response: web.StreamResponse,
    delivery: Delivery,
    encoder: Encoder | None,
    delivered: Delivered,
    patience: float | None,
) -> None:
    transport = request.transport
    if transport is None:
        raise ClientConnectionResetError("the client has gone")
    request.writer.send_headers()
    try:
        async for frame in delivery.frames():
            if not frame.data:
                continue
            if encoder is not None:
                data = encoder.encode(frame.data)
                data = http_chunk(data) if response.chunked else data
            else:
                data = frame.chunk if response.chunked else frame.data
            # What `response.write` does for bytes that are no chunk yet takes as long as the kernel's part of it.
            if transport.is_closing():
                raise ClientConnectionResetError("the client has gone")
            transport.write(data)
            if transport.get_write_buffer_size():
                await _drain(request, transport, patience)
            delivered.add(frame.lines, len(frame.data))
    finally:
        delivered.flush()


async def _drain(request: web.Request, transport: asyncio.Transport, patience: float | None) -> None:
    """Wait until most of what was written is taken; abort where nothing of it is for `patience` seconds."""
    while True:
        left = transport.get_write_buffer_size()
        try:
            async with asyncio.timeout(patience):
                return await request.writer.drain()
        except TimeoutError:
            if transport.get_write_buffer_size() < left:
                continue
            transport.abort()
            raise ClientConnectionResetError("the client takes nothing") from None


async def _close(
    request: web.Request, response: web.StreamResponse, delivery: Delivery, encoder: Encoder | None
) -> None:
    """End the answer; a client that doesn't read is not waited for."""
    closing = delivery.form.end() if delivery.complete else delivery.form.farewell()
    try:
        async with asyncio.timeout(STALLED if delivery.complete else CLOSING):
            await response.write_eof(closing if encoder is None else encoder.encode(closing) + encoder.finish())
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()


def choose_form(accept: str) -> _Form:
    """The representation that `Accept` prefers (RFC 9110 §12.5.1); text for whoever doesn't say."""
    if not accept.strip():
        return PlainText
    best, weight = None, 0.0
    for choice in accept.lower().split(","):
        kind, _, rest = choice.partition(";")
        form = _FORMS.get(kind.strip()) or _RANGES.get(kind.strip())
        quality = _quality(rest)
        if form is not None and quality > weight:
            best, weight = form, quality
    if best is None:
        raise Problem(406, f"Accept one of {', '.join(_FORMS)}.")
    return best


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
