"""What drains send, as bytes: lines in, a frame out. No I/O.

    logplex    HTTPS, `application/logplex-1`, as Heroku's
    syslog     TCP and TLS, RFC 5424 messages with counted octets (RFC 6587 §3.4.1, RFC 5425 §4.3)
    otlp       HTTPS, OTLP/HTTP in protobuf
    loki       HTTPS, Loki's push API in JSON

`docs/formats.md` has each of them. What a protocol makes of the same lines is the same each time: a frame that is sent
again is the same bytes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from logsvc.drains.policy import Rejected
from logsvc.model import Selection


class Framed(NamedTuple):
    """A frame's bytes before compression, and how many messages are in it."""

    body: bytes
    messages: int


class Framer(Protocol):
    """What makes a frame of lines."""

    def frame(self, selections: Sequence[Selection]) -> Framed:
        """All lines of the selections, in their order."""


class Posted(Framer, Protocol):
    """A protocol over HTTP: a frame is the body of a POST."""

    path: str
    """Where it goes if the URL names no path."""
    content_type: str

    def headers(self, frame_id: str, framed: Framed) -> Mapping[str, str]:
        """Headers besides Content-Type, Content-Encoding, User-Agent and Authorization."""

    def rejected(self, body: bytes) -> Rejected | None:
        """What a receiver that answers 2xx says it did not take of the frame; None where it took all."""
