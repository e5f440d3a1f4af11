"""`application/logplex-1`: syslog messages as the body of a POST, as Heroku's HTTPS drains send them.

    <octets> <PRI>1 <time> host <source> <dyno> - <message>\\n

It is syslog's form but for two things that receivers count on: the hostname is the word `host`, and there is no
structured data, not even the `-` for none.
"""

from collections.abc import Mapping, Sequence

from logsvc.drains.policy import Rejected
from logsvc.drains.protocols import Framed
from logsvc.drains.protocols.syslog import framed
from logsvc.model import Selection


class Logplex:
    """Heroku's drain over HTTPS."""

    path = "/"
    content_type = "application/logplex-1"

    def __init__(self, token: str) -> None:
        self._token = token

    def frame(self, selections: Sequence[Selection]) -> Framed:
        return framed(selections, b"host", b"- ")

    def headers(self, frame_id: str, framed: Framed) -> Mapping[str, str]:
        return {
            "Logplex-Msg-Count": str(framed.messages),
            "Logplex-Frame-Id": frame_id,
            "Logplex-Drain-Token": self._token,
        }

    def rejected(self, body: bytes) -> Rejected | None:  # noqa: ARG002 - a status says it all
        return None
