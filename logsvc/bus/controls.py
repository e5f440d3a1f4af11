"""What operators have said, on the control topic: what was removed of which app, and which tokens are revoked.

Keys and values, beside those of epochs (see epochs.py): `purge/<tenant>/<app>`, a JSON object
`{"epoch":1,"partition":37,"before":12345,"at":<Unix ms>}`; `revoked/<id>`, `{"at":<Unix ms>}`, where the id is the
`jti` of a JWT or the name of a static token. A key without a value takes back what was said. The topic is compacted, so
the last record of a key stays.
"""

import re
from collections.abc import Callable
from typing import Final

import orjson

from logsvc.model import AppId, Cursor
from logsvc.purges import Purge, Purges

_KEY: Final = re.compile(rb"purge/([^/]{1,128})/([^/]{1,128})|revoked/(.{1,1024})", re.DOTALL)


def purge_record(purge: Purge) -> tuple[bytes, bytes]:
    """Key and value."""
    place = purge.before
    value = {"epoch": place.epoch, "partition": place.partition, "before": place.offset, "at": purge.at}
    return f"purge/{purge.app.tenant}/{purge.app.app}".encode(), orjson.dumps(value)


def revoked_key(name: str) -> bytes:
    return b"revoked/" + name.encode()


class Controls:
    """What the records say. Pure; records come in offset order."""

    def __init__(self) -> None:
        self.purges = Purges()
        self.revoked: frozenset[str] = frozenset()
        self._followers: list[Callable[[frozenset[str]], None]] = []

    def follow_revoked(self, follower: Callable[[frozenset[str]], None]) -> None:
        """Have `follower` called with all that is revoked, now and whenever that changes."""
        self._followers.append(follower)
        follower(self.revoked)

    def apply(self, key: bytes | None, value: bytes | None) -> bool:
        """Take the next record; whether it changed anything. What isn't understood is passed over."""
        match = _KEY.fullmatch(key or b"")
        if match is None:
            return False
        try:
            if match[3] is not None:
                return self._revoke(match[3].decode(), taken_back=value is None)
            # Lines that were removed don't come back, whatever is said of them later.
            return value is not None and self.purges.add(_purge(AppId(match[1].decode(), match[2].decode()), value))
        except (ValueError, TypeError, KeyError):
            return False

    def _revoke(self, name: str, *, taken_back: bool) -> bool:
        before = self.revoked
        self.revoked = before - {name} if taken_back else before | {name}
        if self.revoked == before:
            return False
        for follower in self._followers:
            follower(self.revoked)
        return True


def _purge(app: AppId, value: bytes) -> Purge:
    content = orjson.loads(value)
    place = Cursor(int(content["epoch"]), int(content["partition"]), int(content["before"]), -1)
    return Purge(app, place, int(content["at"]))
