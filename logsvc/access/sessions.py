"""Log sessions: the right to follow one app's log, as an address that needs no token. No I/O; the clock is passed in.

The address holds the session itself, encrypted and signed (Fernet: AES-128-CBC, HMAC-SHA-256). So it shows nothing of
what may be followed and on whose token, any process that has the key takes it, also from a client that another one has
sent away, and nothing is kept of any.
"""

import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Final

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from logsvc.errors import BadToken

_PURPOSE: Final = b"logsvc: addresses of log sessions"
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
    """Signs and reads; the first of `keys` signs, by each of them is read.

    An address is good for `idle` seconds after the session was made, for who comes back with a place for `most`.
    """

    def __init__(
        self,
        keys: Sequence[bytes] = (),
        idle: float = 300.0,
        most: float = 3600.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        made = [hmac.digest(key, _PURPOSE, "sha256") for key in keys or [secrets.token_bytes(32)]]
        self._keys = MultiFernet([Fernet(urlsafe_b64encode(key)) for key in made])
        self._idle, self._most, self._now = idle, most, now

    def sign(self, session: Session) -> str:
        return self._keys.encrypt(orjson.dumps(astuple(session))).rstrip(b"=").decode()

    def read(self, text: str, *, resumed: bool = False) -> Session:
        """The session of an address; `resumed`: the client says up to where it has lines, so it has followed it before.

        Raises BadToken where it is forged or over.
        """
        try:
            payload = self._keys.decrypt(text + "=" * (-len(text) % 4))
            session = Session(*orjson.loads(payload))
        except (InvalidToken, ValueError, TypeError):  # the last two: of a logsvc that writes other fields
            raise BadToken(_REFUSAL) from None
        now = self._now()
        if now > self.end(session) or (now > session.created + self._idle and not resumed):
            raise BadToken(_REFUSAL)
        return session

    def end(self, session: Session) -> float:
        """When nobody may follow it any longer, Unix s."""
        return session.created + self._most
