"""`POST /v1/apps/{app}/logs`: lines from anywhere. The answer comes when they are durable."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import TransferEncodingError

from logsvc import metrics
from logsvc.api.bodies import pieces
from logsvc.api.context import CONTEXT
from logsvc.api.decoding import Decoder, decoder_for
from logsvc.api.guard import GRANT, app_of
from logsvc.api.problems import Problem, bad_parameter
from logsvc.api.query import check_names, read_name
from logsvc.errors import BadLine, BadToken, BusError, FormatError, OverLimit, StoreAway
from logsvc.formats.pushed import JsonReader, Labels, Pushed, Reader, TextReader
from logsvc.sources.push import KeyInUse, OtherBody, Post

_READERS: dict[str, type[JsonReader | TextReader]] = {
    "application/x-ndjson": JsonReader,
    "application/json": JsonReader,
    "text/plain": TextReader,
}
_INLINE: Final = 128
"""Lines that are read before others get a turn."""

_KEY = re.compile(r"[ -~]{1,255}", re.ASCII)


async def post_logs(request: web.Request) -> web.Response:
    """Take lines; `{"lines": N}` says how many were new."""
    app = app_of(request)
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise bad_parameter("Idempotency-Key", "has 1 to 255 characters of ASCII")
    reader_type, labels, stream = _read_head(request)
    decoder = decoder_for(request.headers.get("Content-Encoding", ""))
    if decoder is None:
        raise Problem(415, "Content-Encoding is gzip, deflate or zstd, or nothing.")
    grant, access = request[GRANT], request.app[CONTEXT].access
    limits = access.limits
    limits.admit_push(grant)
    outcome = "failed"
    try:
        with limits.post(grant):
            async with (
                access.leases.hold(grant) as lease,
                request.app[CONTEXT].push.post(app, key, limits.plan(grant).retention) as post,
            ):
                reader = reader_type(labels, stream, time.time_ns, post.start)
                count = await _take(post, reader, _decoded(request, decoder), partial(limits.pushed, grant))
        outcome = "refused" if lease.over else "taken"
    except (BadToken, OverLimit):
        outcome = "refused"
        raise
    except BadLine as error:
        outcome = "refused"
        raise Problem(400, f"{error}. Lines before it were taken.", line=error.number) from error
    except OtherBody as error:
        outcome = "refused"
        raise Problem(422, str(error)) from error
    except KeyInUse as error:
        outcome = "refused"
        raise Problem(409, str(error), retry_after=1) from error
    except (BusError, StoreAway) as error:
        raise Problem(503, f"Lines can't be taken now: {error}", retry_after=2) from error
    finally:
        metrics.push_requests.labels(outcome).inc()
    if lease.over:
        raise BadToken("The token has ended. Lines before that were taken.")
    request.app[CONTEXT].known_apps.add(app)
    return web.json_response({"lines": count})


def _read_head(request: web.Request) -> tuple[type[JsonReader | TextReader], Labels, bytes]:
    check_names(request.query, {"process", "dyno", "stream"}, many=())
    reader: type[JsonReader | TextReader] | None = _READERS.get(request.content_type)
    if reader is None:
        raise Problem(415, "Post application/x-ndjson or text/plain.")
    process = read_name("process", request.query.get("process", "app"))
    dyno = read_name("dyno", request.query.get("dyno", f"{process}.1"))
    stream = request.query.get("stream", "stdout")
    if stream not in {"stdout", "stderr"}:
        raise bad_parameter("stream", "is stdout or stderr")
    return reader, Labels(process, dyno), stream.encode()


async def _take(post: Post, reader: Reader, body: AsyncIterator[bytes], pushed: Callable[[int], float]) -> int:
    """Read, append, wait, read on: the sender is held to the pace of the bus and its plan, and memory to one piece."""
    count, pause = 0, 0.0
    async for data in body:
        if pause:
            await asyncio.sleep(pause)
        metrics.push_bytes.inc(len(data))
        if new := post.take(data):
            count += await _send(post, reader, reader.feed(new))
        pause = pushed(len(data))
    post.finish()
    return count + await _send(post, reader, reader.finish())


async def _send(post: Post, reader: Reader, pushed: Iterator[Pushed]) -> int:
    """Append lines, up to one that can't be read where there is one. Raises BadLine, BusError."""
    lines: list[Pushed] = []
    bad = None
    try:
        for line in pushed:
            lines.append(line)
            if not len(lines) % _INLINE:
                await asyncio.sleep(0)
    except BadLine as error:
        bad = error
    await post.send(lines, reader.at)
    metrics.push_lines.inc(len(lines))
    if bad is not None:
        raise bad
    return len(lines)


async def _decoded(request: web.Request, decoder: Decoder) -> AsyncIterator[bytes]:
    """The decoded body as it comes in. What came before a cut is kept; a repeated post goes on behind it."""
    try:
        async for data in pieces(request):
            for decoded in decoder.feed(data):
                yield decoded
                await asyncio.sleep(0)  # others get a turn, however much a few bytes hold
        decoder.finish()
    except (FormatError, TransferEncodingError, web.RequestPayloadError) as error:
        raise Problem(400, "The body can't be decoded or was cut. Lines before that were taken.") from error
