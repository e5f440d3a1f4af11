"""Bodies of requests as they come in: the pieces of a long one, and those that say something in JSON."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from aiohttp import web

from logsvc.api.problems import Problem

_MOST: Final = 16 * 1024
"""Bytes."""

IDLE = 300.0
"""Seconds in which something must come of a body that is sent as it is made."""

WHOLE = 30.0
"""Seconds in which a body of JSON must be there."""


async def pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The body, however long. Raises Problem where no more of it comes."""
    while True:
        try:
            async with asyncio.timeout(IDLE):
                data = await request.content.readany()
        except TimeoutError as error:
            raise Problem(408, f"Nothing more came of the body for {IDLE:g} seconds.") from error
        if not data:
            return
        yield data


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; an empty one for none. Raises Problem."""
    data = b""
    try:
        async with asyncio.timeout(WHOLE):
            while len(data) <= _MOST and (more := await request.content.readany()):
                data += more
    except TimeoutError as error:
        raise Problem(408, f"The body wasn't there within {WHOLE:g} seconds.") from error
    if len(data) > _MOST:
        raise Problem(413, f"The body is longer than {_MOST} bytes.")
    try:
        body = orjson.loads(data or b"{}")
    except ValueError as error:
        raise Problem(400, "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Problem(400, "The body is not a JSON object.")
    return body
