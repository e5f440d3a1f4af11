"""Log sessions: the right to follow one app's log, as an address that needs no token. No I/O; the clock is passed in.

The address holds the session itself, signed: `<payload>.<HMAC-SHA-256>`, both base64url. So any process that has the
key takes it, also from a client that another one has sent away, and nothing is kept of any.
"""

import binascii
import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Final

import orjson

from logsvc.errors import BadToken

_REFUSAL: Final = "This log session has ended, or there never was one at this address: open a new one."
"""One answer to all: what is wrong with an address tells whoever guesses too much."""


@dataclass(frozen=True, slots=True)
class Session:
    """What somebody may follow, and on whose token."""

    id: str
    tenant: str
    app: str
    ps: str
    """A process type or dyno; empty for all."""
    process: str
    source: str
    lines: int
    tail: bool
    created: float
    """Unix s."""
    subject: str
    plan: str
    token: str
    """What the token is revoked by (Grant.id)."""
    root: str
    """What the token stands on (Grant.root)."""
    expires: float | None
    """When the token does, Unix s."""
    operator: bool = False
    """As Grant.operator."""


class Sessions:
    """Signs and checks; the first of `keys` signs, each of them checks.

    An address is good for `idle` seconds after the session was made, for who comes back with a place for `most`.
    """

    def __init__(
        self,
        keys: Sequence[bytes] = (),
        idle: float = 300.0,
        most: float = 3600.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = list(keys) or [secrets.token_bytes(32)]
        self._idle, self._most, self._now = idle, most, now

    def sign(self, session: Session) -> str:
        payload = urlsafe_b64encode(orjson.dumps(astuple(session))).rstrip(b"=")
        return f"{payload.decode()}.{_signature(self._keys[0], payload).decode()}"

    def read(self, text: str, *, resumed: bool = False) -> Session:
        """The session of an address; `resumed`: the client says up to where it has lines, so it has followed it before.

        Raises BadToken where it is forged or over.
        """
        payload, _, signature = text.encode("utf-8", "surrogateescape").partition(b".")
        good = [hmac.compare_digest(_signature(key, payload), signature) for key in self._keys]
        if not any(good):
            raise BadToken(_REFUSAL)
        try:
            session = Session(*orjson.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))))
        except (ValueError, TypeError, binascii.Error):
            raise BadToken(_REFUSAL) from None  # signed by a logsvc that writes other fields
        now = self._now()
        if now > self.end(session) or (now > session.created + self._idle and not resumed):
            raise BadToken(_REFUSAL)
        return session

    def end(self, session: Session) -> float:
        """When nobody may follow it any longer, Unix s."""
        return session.created + self._most


def _signature(key: bytes, payload: bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(key, payload, "sha256")).rstrip(b"=")
