"""Where the service is and who asks: `PAAS_URL` and `PAAS_TOKEN`, else the user's config file, else this machine.

The file is `paas/config.toml` under `$XDG_CONFIG_HOME` (`~/.config` by default):

    url = "https://logs.example.com"
    token = "…"
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from logsvc.errors import ConfigError

DEFAULT_URL: Final = "http://127.0.0.1:8080"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the service is."""

    url: str = DEFAULT_URL
    """Scheme, host and perhaps a path, without a slash at the end."""
    token: str | None = field(default=None, repr=False)

    @property
    def local(self) -> bool:
        """Whether the service is on this machine, where compressing its answers is a waste."""
        return urlsplit(self.url).hostname in _LOOPBACK


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this user.

    The file's token goes to the file's service only: with another `PAAS_URL` it is not used. Raises ConfigError.
    """
    path = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".config")
    written = _read(path / "paas" / "config.toml")
    url = _url(environ["PAAS_URL"], "PAAS_URL") if environ.get("PAAS_URL") else written.url
    token = environ.get("PAAS_TOKEN") or (written.token if url == written.url else None)
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError("the token holds a space or a character that no token has")
    return Settings(url, token)


def _read(path: Path) -> Settings:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"can't read {path}: {reason}") from error
    for name, value in table.items():
        if name not in {"url", "token"} or not isinstance(value, str):
            raise ConfigError(f"{path}: {name} is not a setting; there are url and token, both text")
    url = _url(table["url"], f"{path}: url") if "url" in table else DEFAULT_URL
    return Settings(url, table.get("token"))


def _url(text: str, where: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        usable = False
    else:
        if parts.username is not None or parts.query or parts.fragment:
            usable = False
    if not usable:
        raise ConfigError(f"{where} must look like https://logs.example.com, with nothing after the path")
    return text.rstrip("/")
