"""The API as an OpenAPI 3.1 document, and that as a plain page. Tests hold it to the routes and their parameters."""

from html import escape
from importlib.metadata import version
from typing import Any, Final

import orjson
from aiohttp import web

from logsvc.access.grant import DRAINS, NAME, OPERATE, READ, WRITE
from logsvc.api import answers
from logsvc.api.guard import TENANT_HEADER
from logsvc.drains.model import FILTERS as DRAIN_FILTERS

Schema = dict[str, Any]

_NAME: Final[Schema] = {"type": "string", "pattern": f"^{NAME.pattern}$"}
_TEXT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 1000}
_FLAG: Final[Schema] = {"type": "boolean"}
_CURSOR: Final[Schema] = {"type": "string", "pattern": r"^[0-9]{1,9}\.[0-9]{1,5}\.[0-9]{1,18}\.(-1|[0-9]{1,9})$"}
_MOMENT: Final[Schema] = {"type": "string", "examples": ["15m", "2026-11-23T02:00:00Z"]}
_STREAM: Final[Schema] = {"type": "string", "enum": ["stdout", "stderr"]}


def _many(items: Schema) -> Schema:
    return {"type": "array", "items": items}


FILTER: Final[dict[str, tuple[Schema, str]]] = {
    "process": (_many(_NAME), "Process types; one of them."),
    "dyno": (_many(_NAME), "Dynos; one of them."),
    "source": (_many(_NAME), "`app` or `platform`."),
    "stream": (_many(_STREAM), "One of them."),
    "not_process": (_many(_NAME), "Process types; none of them."),
    "not_dyno": (_many(_NAME), "Dynos; none of them."),
    "not_source": (_many(_NAME), "None of them."),
    "not_stream": (_many(_STREAM), "None of them."),
    "grep": (_many(_TEXT), "Literal texts; all of them."),
    "grep_re": (_many(_TEXT), "RE2 patterns; all of them."),
    "exclude": (_many(_TEXT), "Literal texts; none of them."),
    "exclude_re": (_many(_TEXT), "RE2 patterns; none of them."),
    "ignore_case": (_FLAG, "Texts and patterns fold case."),
    "since": (_MOMENT, "Line time from: RFC 3339, or a length of time ago."),
    "until": (_MOMENT, "Line time up to, excluded. Not with `tail`."),
}
READING: Final[dict[str, tuple[Schema, str]]] = {
    **FILTER,
    "tail": (_FLAG, "Go on with new lines."),
    "num": ({"type": "integer", "minimum": 0, "maximum": 999_999_999}, "How many: with `after` the first, else last."),
    "after": (_CURSOR, "Lines behind this one."),
    "before": (_CURSOR, "Lines in front of this one. Not with `tail`."),
    "cursor": (_FLAG, "Each line carries its cursor."),
}
VOLUME: Final[dict[str, tuple[Schema, str]]] = {
    **FILTER,
    "step": (_MOMENT, "Length of a bucket: `1m`."),
    "by": (_many({"type": "string", "enum": ["process", "dyno", "source", "stream"]}), "What is counted by."),
}
PUSHING: Final[dict[str, tuple[Schema, str]]] = {
    "process": (_NAME, "Of lines that don't say."),
    "dyno": (_NAME, "Of lines that don't say."),
    "stream": (_STREAM, "Of lines that don't say."),
}
FOLLOWING: Final[dict[str, tuple[Schema, str]]] = {
    "format": ({"type": "string", "enum": ["text", "json"]}, "Heroku's lines, or JSON lines."),
    "after": (_CURSOR, "Lines behind this one."),
}

_LINES: Final = ("text/plain", "application/x-ndjson", "text/event-stream")
_SESSION: Final[Schema] = {
    "type": "object",
    "properties": {
        "dyno": {"type": ["string", "null"]},
        "type": {"type": ["string", "null"]},
        "source": {"type": ["string", "null"]},
        "lines": {"type": ["integer", "null"]},
        "tail": {"type": ["boolean", "null"]},
    },
}
_DRAIN_FILTER: Final[Schema] = {
    "type": "object",
    "properties": {name: FILTER[name][0] for name in DRAIN_FILTERS},
    "additionalProperties": False,
}
_DRAIN: Final[Schema] = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "maxLength": 2000, "examples": ["https://logs.example.com/in"]},
        "filter": _DRAIN_FILTER,
        "ordered": {"type": "boolean", "default": True, "description": "One frame after the other; else four at once."},
    },
    "additionalProperties": False,
}
_DRAIN_SHOWN: Final[dict[str, tuple[Schema, str]]] = {
    "status": (_FLAG, "Each says how it does."),
    "extended": (_FLAG, "As at Heroku."),
}


def _answer(text: str, *kinds: str) -> Schema:
    return {"description": text, "content": {kind: {"schema": {}} for kind in kinds}}


def _json(text: str, schema: Schema) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _lines(text: str) -> Schema:
    """Of an answer with lines, which says where it begins."""
    return {**_answer(text, *_LINES), "headers": {"Logsvc-Cursor": {"schema": _CURSOR}}}


def _operation(
    summary: str,
    answered: Schema,
    *,
    scope: str | None = None,
    also: str | None = None,
    query: dict[str, tuple[Schema, str]] | None = None,
    headers: tuple[str, ...] = (),
    problems: tuple[int, ...] = (),
) -> Schema:
    parameters: list[Schema] = [
        {"name": name, "in": "query", "schema": schema, "description": text}
        for name, (schema, text) in (query or {}).items()
    ]
    tenant = (TENANT_HEADER,) if scope else ()
    parameters += [{"name": name, "in": "header", "schema": {"type": "string"}} for name in (*headers, *tenant)]
    refused = (400, 401, 403, 429, 503) if scope else ()
    return {
        "summary": summary,
        "parameters": parameters,
        "responses": {
            **answered,
            **{str(status): {"$ref": "#/components/responses/Problem"} for status in sorted({*problems, *refused})},
        },
        "security": [{"token": [one]} for one in (scope, also) if one],
    }


def _paths() -> dict[str, dict[str, Schema]]:
    plain = {"200": _answer("ok", "text/plain")}
    app = _answer("The app.", "text/html")
    app["content"] |= _json("The app.", answers.APP)["content"]
    session = {"required": False, "content": {"application/json": {"schema": _SESSION}}}
    pushed = {"required": True, "content": {key: {"schema": {}} for key in ("application/x-ndjson", "text/plain")}}
    return {
        "/v1/apps": {"get": _operation("The apps.", {"200": _json("By name.", answers.APPS)}, scope=READ)},
        "/v1/apps/{app}/logs": {
            "get": _operation(
                "Lines, past and present; by WebSocket where the request asks to upgrade.",
                {"200": _lines("Lines in the representation that Accept prefers.")},
                scope=READ,
                query=READING,
                headers=("Last-Event-ID",),
                problems=(404, 406),
            ),
            "post": {
                **_operation(
                    "Take lines; the answer comes when they are durable.",
                    {"200": _json("How many were new.", answers.PUSHED)},
                    scope=WRITE,
                    query=PUSHING,
                    headers=("Idempotency-Key",),
                    problems=(404, 408, 409, 415, 422),
                ),
                "requestBody": pushed,
            },
            "delete": _operation(
                "Remove for good what the app has written until now; for operators.",
                {"202": _json("Where the log begins from now on.", answers.REMOVED)},
                scope=OPERATE,
                problems=(404,),
            ),
        },
        "/v1/apps/{app}/volume": {
            "get": _operation(
                "How many lines were written.",
                {"200": _json("Buckets in the order of time.", answers.VOLUME)},
                scope=READ,
                query=VOLUME,
                problems=(404,),
            )
        },
        "/apps/{app}": {
            "get": _operation(
                "Of an app what Heroku's clients ask; a page for browsers.",
                {"200": app},
                scope=READ,
                problems=(404,),
            )
        },
        "/apps/{app}/log-sessions": {
            "post": {
                **_operation(
                    "Open a log session, as at Heroku.",
                    {"201": _json("Its address.", answers.SESSION)},
                    scope=READ,
                    problems=(404, 408, 413),
                ),
                "requestBody": session,
            }
        },
        **_drains(),
        "/v1/log-sessions/{session}": {
            "get": _operation(
                "Follow a log session; its address is the right to do so.",
                {"200": _lines("Lines.")},
                query=FOLLOWING,
                headers=("Last-Event-ID",),
                problems=(400, 403, 404, 406, 429, 503),
            )
        },
        "/healthz": {"get": _operation("Whether the process answers.", plain)},
        "/readyz": {"get": _operation("Whether requests should come here.", plain, problems=(503,))},
        "/metrics": {"get": _operation("Prometheus' text format.", {"200": _answer("Metrics.", "text/plain")})},
    }


def _drains() -> dict[str, dict[str, Schema]]:
    body = {"required": True, "content": {"application/json": {"schema": _DRAIN}}}
    drain = answers.drain(_DRAIN_FILTER)
    shown = {"200": _json("The drain.", drain)}
    all_shown = {"200": _json("The drains.", _many(drain))}
    actions = {
        "pause": ("Have a drain rest.", shown, ()),
        "resume": ("Have it go on where it was.", shown, ()),
        "test": ("Send one marked line.", {"200": _json("What the other side says.", answers.TRIAL)}, (409,)),
    }
    return {
        "/apps/{app}/log-drains": {
            "get": _operation(
                "The drains of an app.", all_shown, scope=READ, also=DRAINS, query=_DRAIN_SHOWN, problems=(404,)
            ),
            "post": {
                **_operation(
                    "Make a drain.",
                    {"201": _json("The drain.", drain)},
                    scope=DRAINS,
                    problems=(404, 408, 409, 413, 422),
                ),
                "requestBody": body,
            },
            "delete": _operation("Take all drains of an app away.", all_shown, scope=DRAINS, problems=(404,)),
        },
        "/apps/{app}/log-drains/{drain}": {
            "get": _operation("One drain.", shown, scope=READ, also=DRAINS, query=_DRAIN_SHOWN, problems=(404,)),
            "put": {
                **_operation("Another URL, filter or order.", shown, scope=DRAINS, problems=(404, 408, 409, 413, 422)),
                "requestBody": body,
            },
            "delete": _operation("Take a drain away.", shown, scope=DRAINS, problems=(404,)),
        },
        **{
            f"/apps/{{app}}/log-drains/{{drain}}/actions/{name}": {
                "post": _operation(summary, answered, scope=DRAINS, problems=(404, *problems))
            }
            for name, (summary, answered, problems) in actions.items()
        },
    }


def document() -> Schema:
    """The document as it is served."""
    paths: dict[str, dict[str, Any]] = {}
    for path, operations in _paths().items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        text = {"type": "string", "minLength": 1}
        schemas = {"app": _NAME, "session": text, "drain": {**text, "description": "Its id, token or URL."}}
        inside = [{"name": name, "in": "path", "required": True, "schema": schemas[name]} for name in names]
        paths[path] = {**operations, "parameters": inside}
    problem = {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "parameter": {"type": "string"},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "logsvc", "version": version("logsvc"), "description": "docs/formats.md says all of it."},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "RFC 9457",
                    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds; 429, 503."}},
                    "content": {"application/problem+json": {"schema": problem}},
                }
            },
        },
    }


class Described:
    """The document and its page, made once."""

    def __init__(self) -> None:
        made = document()
        self._json = orjson.dumps(made)
        self._page = _page(made).encode()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Neither needs a token."""
        router.add_get("/v1/openapi.json", self.get_document)
        router.add_get("/v1/docs", self.get_page)

    async def get_document(self, request: web.Request) -> web.Response:  # noqa: ARG002 - a handler's shape
        return web.Response(body=self._json, content_type="application/json")

    async def get_page(self, request: web.Request) -> web.Response:  # noqa: ARG002 - a handler's shape
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=headers)


_STYLE: Final = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"


def _page(made: Schema) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>logsvc: API</title>",
        f"<style>{_STYLE}</style><h1>logsvc {escape(made['info']['version'])}</h1>",
        '<p>The same for programs: <a href="/v1/openapi.json">openapi.json</a>',
    ]
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}")
            scopes = [scope for entry in operation["security"] for scope in entry["token"]]
            parts.append(f"<p>Scope: {escape(' or '.join(scopes))}" if scopes else "<p>No token.")
            rows = [
                f"<dt><code>{escape(one['name'])}</code><dd>{escape(one.get('description', one['in']))}"
                for one in operation["parameters"]
            ]
            parts.append(f"<dl>{''.join(rows)}</dl><p>Answers: {escape(', '.join(operation['responses']))}")
    return "".join(parts)
