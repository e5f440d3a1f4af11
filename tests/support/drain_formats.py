"""Strict readers of what drains send: whatever isn't exactly as documented is an error."""

import re
from typing import NamedTuple

import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

_HEAD = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) "
)
_OCTETS = re.compile(rb"([1-9]\d{0,8}) ")


class Message(NamedTuple):
    """One syslog message."""

    priority: int
    time: bytes
    host: bytes
    source: bytes
    dyno: bytes
    text: bytes


def logplex(body: bytes) -> list[Message]:
    """The messages of `application/logplex-1`."""
    messages = [_message(each, b"- ") for each in _frames(body)]
    assert all(message.host == b"host" for message in messages)
    return messages


def syslog(data: bytes) -> list[Message]:
    """The messages of a stream of syslog."""
    return [_message(each, b"- - ") for each in _frames(data)]


def _frames(body: bytes) -> list[bytes]:
    frames, at = [], 0
    while at < len(body):
        match = _OCTETS.match(body, at)
        assert match is not None, f"no count of octets at {at}: {body[at : at + 20]!r}"
        at = match.end() + int(match[1])
        frames.append(body[match.end() : at])
        assert len(frames[-1]) == int(match[1]), "a frame that is cut"
    return frames


def whole_messages(data: bytes) -> int:
    """How many bytes at the front of what has come of a stream are whole messages."""
    at = 0
    while (match := _OCTETS.match(data, at)) is not None and match.end() + int(match[1]) <= len(data):
        at = match.end() + int(match[1])
    return at


def _message(frame: bytes, rest: bytes) -> Message:
    match = _HEAD.match(frame)
    assert match is not None, frame[:100]
    text = frame[match.end() :]
    assert text.startswith(rest), text[:20]
    assert text.endswith(b"\n")
    assert b"\n" not in text[:-1]
    assert int(match[1]) < 192
    return Message(int(match[1]), *match.groups()[1:], text[len(rest) : -1])


class Record(NamedTuple):
    """One line as a receiver of structured logs gets it."""

    labels: dict[str, str]
    time: int
    """Unix ns."""
    text: str


def otlp(body: bytes) -> list[Record]:
    """The records of an OTLP request."""
    records = []
    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        labels = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_logs:
            for each in scope.log_records:
                own = {attribute.key: attribute.value.string_value for attribute in each.attributes}
                records.append(Record(labels | own, each.time_unix_nano, each.body.string_value))
    return records


def loki(body: bytes) -> list[Record]:
    """The entries of a push."""
    records = []
    pushed = orjson.loads(body)
    assert set(pushed) == {"streams"}
    for stream in pushed["streams"]:
        assert set(stream) == {"stream", "values"}
        for time, text in stream["values"]:
            records.append(Record(stream["stream"], int(time), text))
    return records
