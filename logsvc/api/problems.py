"""Errors as problem documents (RFC 9457), one sentence for whoever sent the request."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web


class Problem(Exception):
    """An answer that isn't what was asked for; `members` are added to the document."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        self.members = members

    def document(self) -> dict[str, Any]:
        """`{"type":"about:blank","title":…,"status":…,"detail":…}` and what `members` say."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
            **self.members,
        }

    def response(self) -> web.Response:
        return web.Response(
            body=orjson.dumps(self.document()),
            status=self.status,
            content_type="application/problem+json",
            headers=self.headers,
        )


def bad_parameter(parameter: str, detail: str) -> Problem:
    """A 400 that names what is wrong with which parameter."""
    return Problem(400, f"{parameter}: {detail}", parameter=parameter)


def no_such_app(app: str) -> Problem:
    return Problem(404, f"There is no app {app}, or it has not written a line yet.", app=app)
