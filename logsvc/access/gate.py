"""From a bearer token to a grant: static tokens, JWTs, and what was revoked since.

The rim of this room: it reads the files and the key set, and again when they change.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from logsvc import metrics
from logsvc.access.grant import OPERATE, Grant
from logsvc.access.jwts import KeySet, Rules, UnknownKey
from logsvc.access.leases import Leases
from logsvc.access.static import StaticTokens, digest
from logsvc.config import Auth
from logsvc.errors import BadToken, ConfigError, FormatError, KeysAway

log = logging.getLogger(__name__)

_LOOK: Final = 1.0
"""Seconds between two looks at whether a file has changed."""
_AGAIN: Final = 10.0
"""Least seconds between two fetches of the key set, however many tokens name a key that it doesn't have."""
_TIMEOUT: Final = 5.0
_MOST: Final = 1024 * 1024
"""Bytes of a key set or a file."""
_REMEMBERED: Final = 10_000
"""Tokens that were found good and needn't be verified again."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Gate:
    """Tells whose a token is; leases end when that changes."""

    def __init__(self, settings: Auth, leases: Leases) -> None:
        """Raises ConfigError for settings that can't be used together."""
        self._leases = leases
        leases.holds = self.holds
        self._rules = _rules(settings)
        self._every = settings.jwks_seconds
        self._url, jwks = _place(settings.jwks)
        self._keys: KeySet | None = None
        self._static = StaticTokens()
        self._revoked: frozenset[str] = frozenset()
        self._revoked_elsewhere: frozenset[str] = frozenset()
        self._good: OrderedDict[str, Grant] = OrderedDict()
        self._fetching = asyncio.Lock()
        self._fetched = -_AGAIN
        self._files = [
            _File("auth.jwks", jwks, self._take_keys),
            _File("auth.tokens_file", settings.tokens_file, self._take_tokens),
            _File("auth.revoked_file", settings.revoked_file, self._take_revoked),
        ]

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Auth, leases: Leases, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> AsyncIterator["Gate"]:
        """A gate that follows its files and keys. Raises ConfigError for a file that can't be used.

        `pause` waits for so many seconds until the files are looked at again.
        """
        gate = cls(settings, leases)
        for file in gate._files:
            try:
                await file.look()
            except (OSError, UnicodeDecodeError, FormatError) as error:
                raise ConfigError(f"{file.setting} ({file.path}): {_reason(error)}") from error
        if gate._url is not None:
            await gate._fetch()
        async with asyncio.TaskGroup() as group:
            following = [group.create_task(gate._follow_files(pause), name="files of tokens")]
            if gate._url is not None:
                following.append(group.create_task(gate._follow_keys(), name="keys of tokens"))
            try:
                yield gate
            finally:
                for task in following:
                    task.cancel()

    async def admit(self, token: str) -> Grant:
        """What a token grants now. Raises BadToken, or KeysAway where that can't be told."""
        name = digest(token)
        grant = self._good.get(name)
        if grant is None:
            grant = self._static.verify(token) or await self._verify(token)
            self._good[name] = grant
            if len(self._good) > _REMEMBERED:
                self._good.popitem(last=False)
        self.check(grant)
        return grant

    def knows(self, token: str) -> bool:
        """Whether the token was good before, so that nobody tries it out."""
        return digest(token) in self._good

    def check(self, grant: Grant) -> None:
        """Raise BadToken where a grant that was given holds no more."""
        if grant.expires is not None and time.time() >= grant.expires:
            raise BadToken("The token has expired.")
        if not self.holds(grant):
            raise BadToken("The token was revoked.")

    def holds(self, grant: Grant) -> bool:
        """Whether nobody has revoked it, and what it stands on is still there."""
        if grant.id and (grant.id in self._revoked or grant.id in self._revoked_elsewhere):
            return False
        kind, _, what = grant.root.partition(":")
        if kind == "key":
            return self._keys is not None and what in self._keys
        # Whoever takes a right from a token ends what goes on with it.
        known = self._static.get(grant.root)
        return (
            known is not None
            and (known.tenant == grant.tenant or OPERATE in known.scopes)
            and grant.scopes <= known.scopes
            and (known.expires is None or (grant.expires is not None and grant.expires <= known.expires))
            and (known.apps is None or (grant.apps is not None and grant.apps <= known.apps))
        )

    def revoke(self, names: frozenset[str]) -> None:
        """What is revoked apart from what the file says; what was said so before holds no more."""
        self._revoked_elsewhere = names
        self._changed()

    async def _verify(self, token: str) -> Grant:
        if self._rules is None:
            raise BadToken("The token is not valid.")
        if self._keys is None:
            await self._fetch()
        if self._keys is None:
            raise KeysAway("Tokens can't be checked now: the keys can't be fetched.")
        try:
            return self._keys.verify(token, self._rules)
        except UnknownKey:
            if self._url is None:
                raise
        await self._fetch()
        return self._keys.verify(token, self._rules)

    async def _fetch(self) -> None:
        """Fetch the key set, if that wasn't tried just now; what there is stays where it can't be had."""
        if self._url is None:
            return
        async with self._fetching:
            now = asyncio.get_running_loop().time()
            if now - self._fetched < _AGAIN:
                return
            self._fetched = now
            try:
                self._take_keys(await _get(self._url))
            except (OSError, TimeoutError, aiohttp.ClientError, FormatError) as error:
                metrics.auth_key_fetches.labels("failed").inc()
                log.warning("the keys of tokens (auth.jwks) can't be fetched: %s", _reason(error))
            else:
                metrics.auth_key_fetches.labels("done").inc()

    async def _follow_keys(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._fetch()

    async def _follow_files(self, pause: Callable[[float], Awaitable[None]]) -> None:
        while True:
            await pause(_LOOK)
            for file in self._files:
                try:
                    await file.look()
                except (OSError, UnicodeDecodeError, FormatError) as error:
                    log.warning("%s stays as it was: %s can't be used: %s", file.setting, file.path, _reason(error))

    def _take_keys(self, data: bytes) -> None:
        self._keys = KeySet.parse(data)
        self._changed()

    def _take_tokens(self, data: bytes) -> None:
        self._static = StaticTokens.parse(data.decode())
        self._changed()

    def _take_revoked(self, data: bytes) -> None:
        lines = (line.strip() for line in data.decode().splitlines())
        self._revoked = frozenset(line for line in lines if line and not line.startswith("#"))
        self._changed()

    def _changed(self) -> None:
        self._good.clear()
        self._leases.review()


class _File:
    """A file that is read again when it has changed."""

    def __init__(self, setting: str, path: str, take: Callable[[bytes], None]) -> None:
        self.setting, self.path = setting, path
        self._take = take
        self._seen: tuple[int, ...] | None = ()

    async def look(self) -> None:
        """Raises OSError, UnicodeDecodeError, FormatError, once a change."""
        if not self.path:
            return
        state = await asyncio.to_thread(self._state)
        if state == self._seen:
            return
        self._seen = state
        if state is None:
            raise FileNotFoundError(2, "there is no such file")
        self._take(await asyncio.to_thread(self._read))

    def _state(self) -> tuple[int, ...] | None:
        try:
            status = Path(self.path).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> bytes:
        with Path(self.path).open("rb") as file:
            return file.read(_MOST)


async def _get(url: str) -> bytes:
    limit = aiohttp.ClientTimeout(total=_TIMEOUT)
    async with aiohttp.ClientSession(timeout=limit) as client, client.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise FormatError(f"it answers {answer.status}")
        return await answer.content.read(_MOST)


def _rules(settings: Auth) -> Rules | None:
    if not settings.jwks:
        return None
    if not settings.audience:
        raise ConfigError("auth.audience is needed with auth.jwks: else tokens for other services would be taken")
    return Rules(
        audience=settings.audience,
        issuer=settings.issuer,
        leeway=settings.leeway,
        tenant_claim=settings.tenant_claim,
        apps_claim=settings.apps_claim,
        scope_claim=settings.scope_claim,
        plan_claim=settings.plan_claim,
    )


def _place(jwks: str) -> tuple[str | None, str]:
    """The address and the path of a key set, one of them empty. Raises ConfigError."""
    if "://" not in jwks:
        return None, jwks
    url = URL(jwks)
    if url.scheme == "https" or (url.scheme == "http" and url.host in _LOOPBACK):
        return jwks, ""
    raise ConfigError("auth.jwks: an address is https, or http on loopback: whoever changes the keys may read all")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
