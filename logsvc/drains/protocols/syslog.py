"""Syslog messages (RFC 5424) with counted octets (RFC 6587 §3.4.1), as Heroku's drains send them.

    <octets> <PRI>1 <time> <hostname> <source> <dyno> - - <message>\\n

`octets` counts what follows its space, the newline included; messages stand one behind the other. Time is UTC with
microseconds. A message of more than MAX_MESSAGE bytes goes on in further ones, as log-shuttle has it.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from logsvc.drains.protocols import Framed
from logsvc.formats import cri
from logsvc.model import Selection, Stream

MAX_MESSAGE: Final = 10_000
"""Most bytes of a message. Receivers of Heroku's drains never see more: its own inputs refuse frames above 10 KiB."""

NOTICES: Final = "heroku"
"""Source of what the log service itself says in a drain, and `logplex` its process, as receivers know them."""

_APP: Final = b"<190>1 "
"""local7.info"""
_PLATFORM: Final = b"<45>1 "
"""syslog.notice"""
_ROUTER: Final = b"<158>1 "
"""local3.info"""
_NOTICE: Final = b"<172>1 "
"""local5.warning"""

_UNPRINTABLE: Final = re.compile(rb"[^\x21-\x7e]")


class Syslog:
    """Syslog over TCP or TLS; the drain's token is the hostname."""

    def __init__(self, token: str) -> None:
        self._host = token.encode()

    def frame(self, selections: Sequence[Selection]) -> Framed:
        return framed(selections, self._host, b"- - ")


def framed(selections: Sequence[Selection], host: bytes, rest: bytes) -> Framed:
    """Messages with `rest` between the dyno and the message: the message id, and what structured data there is."""
    messages = [message for selection in selections for message in _messages(selection, host, rest)]
    return Framed(b"".join(messages), len(messages))


def _messages(selection: Selection, host: bytes, rest: bytes) -> Iterator[bytes]:
    priority, head = _header(selection.chunk.stream, host, rest)
    octets = len(priority) + 26 + len(head) + 1
    for line in cri.lines(selection.value):
        if line[29:31] == b"Z ":  # nine digits, UTC: the time's end and the message's start are known
            time, message = line[:26], line[40:]
        else:
            whole, _, _, message = cri.parse(line)
            time = whole[:26]
        if len(message) <= MAX_MESSAGE:
            yield b"%d %b%b%b%b\n" % (octets + len(message), priority, time, head, message)
            continue
        for part in parts(message):
            yield b"%d %b%b%b%b\n" % (octets + len(part), priority, time, head, part)


def parts(message: bytes) -> Iterator[bytes]:
    """A message in parts of at most MAX_MESSAGE bytes; no character of UTF-8 is cut."""
    start = 0
    while len(message) - start > MAX_MESSAGE:
        end = start + MAX_MESSAGE
        while end > start + MAX_MESSAGE - 3 and message[end] & 0xC0 == 0x80:
            end -= 1
        if message[end] & 0xC0 == 0x80:  # not UTF-8
            end = start + MAX_MESSAGE
        yield message[start:end]
        start = end
    yield message[start:]


@lru_cache(maxsize=4096)
def _header(stream: Stream, host: bytes, rest: bytes) -> tuple[bytes, bytes]:
    """What stands before a message's time, and what between the time and the message."""
    source, dyno = _name(stream.source, 48), _name(stream.dyno, 128)
    return _priority(stream), b"+00:00 %b %b %b %b" % (host, source, dyno, rest)


def _priority(stream: Stream) -> bytes:
    if stream.source == NOTICES or stream.is_notice:
        return _NOTICE
    if stream.source == "app":
        return _APP
    return _ROUTER if stream.process == "router" else _PLATFORM


def _name(text: str, most: int) -> bytes:
    """A field of the header: printable ASCII without spaces (RFC 5424 §6)."""
    return _UNPRINTABLE.sub(b"_", text.encode("utf-8", "replace"))[:most] or b"-"
