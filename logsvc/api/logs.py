"""`GET /v1/apps/{app}/logs`: an app's lines, past and present, in the representation the client asks for."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from logsvc.api.compression import Encoder, encoder_for
from logsvc.api.context import CONTEXT, Context, Delivered, tenant_of
from logsvc.api.delivery import Delivery
from logsvc.api.problems import Problem, no_such_app
from logsvc.api.query import Query, read_name, read_query
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
from logsvc.timeline import Timeline

log = logging.getLogger(__name__)

_Form = type[PlainText | NewlineDelimitedJson | ServerSentEvents]
_FORMS: dict[str, _Form] = {
    form.content_type.partition(";")[0]: form for form in (PlainText, NewlineDelimitedJson, ServerSentEvents)
}
_RANGES: dict[str, _Form] = {"*/*": PlainText, "text/*": PlainText, "application/*": NewlineDelimitedJson}


async def get_logs(request: web.Request) -> web.StreamResponse:
    """Lines by HTTP; by WebSocket where the request asks to upgrade."""
    context = request.app[CONTEXT]
    timeline = timeline_of(request, context)
    query = read_query(request.query, last_event_id=request.headers.get("Last-Event-ID"), now=time.time_ns())
    upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
    form = WebSocketMessages if upgrade else choose_form(", ".join(request.headers.getall("Accept", [])))
    with context.admit_tail(form.name) if query.tail else contextlib.nullcontext():
        async with _opened(timeline, context, query, form(cursors=query.cursors)) as delivery:
            # Asked last: an answer that has lines says so by itself.
            await require_app(timeline, context, found=delivery.found)
            send = serve_websocket if upgrade else _stream
            return await send(request, delivery)


def timeline_of(request: web.Request, context: Context) -> Timeline:
    """The timeline of the app that the URL names, which may not be there. Raises Problem where it can't be a name."""
    return Timeline(AppId(tenant_of(request), read_name("app", request.match_info["app"])), context.tiers)


async def require_app(timeline: Timeline, context: Context, *, found: bool = False) -> None:
    """Raise Problem where there is no such app; `found`: a line of it has been seen."""
    if timeline.app not in context.known_apps:
        if not found and not await timeline.exists():
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


async def _stream(request: web.Request, delivery: Delivery) -> web.StreamResponse:
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
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        await _write(response, delivery, encoder)
    except LogsvcError as error:
        # The answer has begun, so it can't become an error: a client sees that it is cut, and comes again.
        log.warning("an answer was cut: %s", error)
        if request.transport is not None:
            request.transport.close()
    return response


async def _write(response: web.StreamResponse, delivery: Delivery, encoder: Encoder | None) -> None:
    delivered = Delivered(delivery.form.name)
    try:
        async for frame in delivery.frames():
            if frame.data:
                await response.write(frame.data if encoder is None else encoder.encode(frame.data))
                delivered.add(frame.lines, len(frame.data))
    finally:
        delivered.flush()
    closing = delivery.form.end() if delivery.complete else delivery.form.farewell()
    await response.write_eof(closing if encoder is None else encoder.encode(closing) + encoder.finish())


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
