"""Who may do what, as the settings say."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from logsvc.access.gate import Gate
from logsvc.access.limits import Limits
from logsvc.access.sessions import Sessions
from logsvc.api.context import Access
from logsvc.config import Limits as LimitSettings
from logsvc.config import Settings
from logsvc.errors import ConfigError
from logsvc.service.lifecycle import LOOPBACK

log = logging.getLogger(__name__)


def require_tokens(settings: Settings) -> None:
    """Raises ConfigError where the service would be open to whoever reaches it."""
    host = settings.http.host
    if host not in LOOPBACK and not settings.auth.on:
        raise ConfigError(
            f"http.host {host}: without tokens logsvc listens on loopback only. "
            "Set auth.jwks or auth.tokens_file, or make a token with `logsvc token`"
        )


@asynccontextmanager
async def access_of(settings: Settings) -> AsyncIterator[Access]:
    """Raises ConfigError for settings or files that can't be used."""
    auth, http = settings.auth, settings.http
    if http.host not in LOOPBACK and not http.public_url:
        log.warning(
            "http.public_url is not set: addresses of log sessions begin with http and the Host that a client names. "
            "Set it to how clients reach the service, as https://logs.example.com"
        )
    keys = [key.get_secret_value().encode() for key in settings.sessions.keys]
    access = Access(
        sessions=Sessions(keys, settings.sessions.idle, settings.sessions.most),
        limits=Limits(settings.limits if auth.on else _unlimited(settings.limits)),
        failures=auth.failures,
        forwarded=http.forwarded,
        origins=frozenset(http.origins),
        public_url=http.public_url.rstrip("/"),
    )
    async with AsyncExitStack() as stack:
        if auth.on:
            access.gate = await stack.enter_async_context(Gate.open(auth, access.leases))
        yield access


def _unlimited(limits: LimitSettings) -> LimitSettings:
    """Where no tokens are asked for: how long lines are kept is all that is left of a plan."""
    return LimitSettings(
        default=limits.default,
        retention=limits.retention,
        tails={},
        answers={},
        query_seconds={},
        read_bytes={},
        read_rows={},
        reads={},
        push_bytes={},
        posts={},
        drains={},
    )
