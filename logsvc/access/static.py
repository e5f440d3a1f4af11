"""Tokens from a file, for set-ups without an issuer of JWTs. The file holds only their hashes. No I/O.

    [[token]]
    name = "ci"
    hash = "sha256:9f86d0…"
    tenant = "acme"
    scopes = ["logs:read"]
    apps = ["shop"]                      # all of the tenant's where it isn't given
    plan = "pro"                         # optional
    expires = 2027-01-01T00:00:00Z       # optional

SHA-256 without salt or stretching is enough, because `logsvc token` makes tokens of 256 random bits: nobody guesses
one, and no two are the same.
"""

import hmac
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from logsvc.access.grant import NAME, SCOPES, Grant
from logsvc.access.jwts import read_apps, read_scopes, read_tenant
from logsvc.errors import BadToken, FormatError

PREFIX: Final = "lsv_"
"""Begins every token, so that scanners for leaked secrets find it."""

_NAMES: Final = frozenset({"name", "hash", "tenant", "scopes", "apps", "plan", "expires"})


def digest(token: str) -> str:
    """`sha256:<hex>`, as the file has it."""
    return "sha256:" + sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def mint(name: str, tenant: str, scopes: Sequence[str], apps: Sequence[str]) -> tuple[str, str]:
    """A new token, and its entry in the file. Raises FormatError for what isn't a name or a scope."""
    for word in (name, tenant, *apps):
        if not NAME.fullmatch(word):
            raise FormatError(f"{word!r} is not a name: letters, digits, `.`, `_` and `-`")
    if unknown := set(scopes) - SCOPES:
        raise FormatError(f"there is no scope {min(unknown)!r}; there are {', '.join(sorted(SCOPES))}")
    token = PREFIX + secrets.token_urlsafe(32)
    entry = [
        "[[token]]",
        f'name = "{name}"',
        f'hash = "{digest(token)}"',
        f'tenant = "{tenant}"',
        f"scopes = {_list(scopes)}",
        *([f"apps = {_list(apps)}"] if apps else []),
    ]
    return token, "\n".join(entry) + "\n"


def _list(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


class StaticTokens:
    """The grants of a file, by hash."""

    def __init__(self, grants: Sequence[Grant] = ()) -> None:
        self._grants = {grant.root: grant for grant in grants}

    @classmethod
    def parse(cls, text: str) -> "StaticTokens":
        """Raises FormatError for what can't be used, naming the token."""
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise FormatError(f"not TOML: {error}") from error
        entries = document.pop("token", [])
        if document or not isinstance(entries, list):
            raise FormatError("a file of tokens has [[token]] and nothing else")
        grants = [_grant(number, entry) for number, entry in enumerate(entries, 1)]
        names = [grant.id for grant in grants]
        if len(set(names)) < len(names) or len({grant.root for grant in grants}) < len(grants):
            raise FormatError("two tokens have the same name or hash")
        return cls(grants)

    def verify(self, token: str) -> Grant | None:
        """What a token grants; None where the file doesn't have it. All are compared, each in constant time."""
        root = f"token:{digest(token)}".encode()
        found = None
        for known, grant in self._grants.items():
            if hmac.compare_digest(known.encode(), root):
                found = grant
        return found

    def get(self, root: str) -> Grant | None:
        """The grant that stands on `token:<hash>`."""
        return self._grants.get(root)


def _grant(number: int, entry: Mapping[str, Any]) -> Grant:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise FormatError(f"token {number} has no name")
    if unknown := sorted(set(entry) - _NAMES):
        raise FormatError(f"token {name}: {unknown[0]} means nothing")
    hashed, tenant = entry.get("hash"), entry.get("tenant")
    if not isinstance(hashed, str) or not _is_hash(hashed):
        raise FormatError(f"token {name}: hash is not sha256: and 64 digits")
    expires = entry.get("expires")
    if expires is not None and not isinstance(expires, datetime):
        raise FormatError(f"token {name}: expires is not a date and time")
    try:
        return Grant(
            subject=name,
            tenant=read_tenant(tenant or ""),
            scopes=read_scopes(entry.get("scopes", [])),
            apps=read_apps(entry.get("apps")),
            plan=str(entry.get("plan", "")),
            expires=None if expires is None else _unix(expires),
            id=name,
            root=f"token:{hashed}",
        )
    except BadToken as error:
        raise FormatError(f"token {name}: {error}") from error


def _unix(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _is_hash(text: str) -> bool:
    kind, _, digits = text.partition(":")
    return kind == "sha256" and len(digits) == 64 and all(digit in "0123456789abcdef" for digit in digits)
