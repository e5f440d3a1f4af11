"""Who did what, as lines of the service's own log: for people `event name=value …`, for machines the same as fields."""

import logging

import orjson

log = logging.getLogger("logsvc.audit")


def audit(event: str, **fields: object) -> None:
    """Write a line. Values are JSON, so that none of them can begin a line of its own."""
    text = " ".join(f"{name}={orjson.dumps(value).decode()}" for name, value in fields.items())
    log.info("%s %s", event, text, extra={"fields": {"event": event, **fields}})
