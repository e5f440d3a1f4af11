"""What the clients of Heroku's Platform API expect besides what is asked for."""

from typing import Final

from aiohttp import web

from logsvc.api.guard import Handler
from logsvc.api.problems import Problem

_IDS: Final = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    422: "invalid_params",
    429: "rate_limit",
}


def as_heroku(handler: Handler) -> Handler:
    """The handler, whose problems also say what Heroku's clients read: `id` and `message`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            problem.members.setdefault("id", _IDS.get(problem.status, "bad_request"))
            problem.members.setdefault("message", str(problem))
            raise

    return handle
