"""What the API's JSON answers hold, as JSON Schema (2020-12). Tests hold answers to it."""

from typing import Any, Final

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
_MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}


def _object(*optional: str, **members: Schema) -> Schema:
    """With these members, all of them but `optional`, and no others."""
    return {
        "type": "object",
        "properties": members,
        "required": [name for name in members if name not in optional],
        "additionalProperties": False,
    }


def _maybe(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _many(items: Schema) -> Schema:
    return {"type": "array", "items": items}


APPS: Final = _object(apps=_many(_object(app=_TEXT, processes=_many(_TEXT), last=_MOMENT)))
PUSHED: Final = _object(lines=_COUNT)
REMOVED: Final = _object(before=_TEXT)
_BY: Final = ("process", "dyno", "source", "stream")
VOLUME: Final = _object(
    step=_NUMBER, buckets=_many(_object(*_BY, time=_MOMENT, lines=_COUNT, **dict.fromkeys(_BY, _TEXT)))
)
APP: Final = _object(id=_TEXT, name=_TEXT, generation=_object(id=_TEXT, name=_TEXT))
SESSION: Final = _object(id=_TEXT, logplex_url=_TEXT, created_at=_MOMENT, updated_at=_MOMENT)
_STATUS: Final = _object(
    state=_TEXT,
    at=_MOMENT,
    lag_lines=_COUNT,
    lag_seconds=_NUMBER,
    lines=_COUNT,
    lines_per_second=_NUMBER,
    error=_maybe(_TEXT),
    error_at=_maybe(_MOMENT),
    retry_at=_maybe(_MOMENT),
)


def drain(filters: Schema) -> Schema:
    """A drain; `filters` is what a filter of one may be."""
    return _object(
        "status",
        "extended",
        addon={"type": "null"},
        created_at=_MOMENT,
        id=_TEXT,
        token=_TEXT,
        updated_at=_MOMENT,
        url=_TEXT,
        filter=filters,
        paused=_FLAG,
        ordered=_FLAG,
        status=_STATUS,
        extended=_object(drain_id=_TEXT),
    )


TRIAL: Final = _object(taken=_FLAG, answer=_TEXT, seconds=_NUMBER)
