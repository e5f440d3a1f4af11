"""Bodies of requests that say something in JSON."""

from typing import Any, Final

import orjson
from aiohttp import web

from logsvc.api.problems import Problem

_MOST: Final = 16 * 1024
"""Bytes."""


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; an empty one for none. Raises Problem."""
    data = await request.content.read(_MOST + 1)
    while len(data) <= _MOST and (more := await request.content.read(_MOST)):
        data += more
    if len(data) > _MOST:
        raise Problem(413, f"The body is longer than {_MOST} bytes.")
    try:
        body = orjson.loads(data or b"{}")
    except ValueError as error:
        raise Problem(400, "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Problem(400, "The body is not a JSON object.")
    return body
