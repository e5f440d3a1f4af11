"""The URL of a drain: where lines go, in which protocol, with which secrets. Text in, a DrainUrl out. No I/O.

    https://user:password@host:port/path?query#gzip      logplex-1, as Heroku posts it; http:// where that is allowed
    syslog+tls://host:port#insecure   syslog://host:port  RFC 5424 lines, counted in octets (RFC 6587, RFC 5425)
    otlp+https://…   otlp+http://…                        OpenTelemetry's logs over HTTP
    loki+https://…   loki+http://…                        Loki's push API

What stands behind `#` is for the delivery and never sent: `insecure` takes any certificate, as at Heroku; `gzip`
compresses what is posted. Both at once are `#gzip&insecure`.
"""

import re
from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, NamedTuple
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit

from logsvc.errors import BadUrl

MAX_URL: Final = 2000
"""Most characters."""

Protocol = Literal["logplex", "syslog", "otlp", "loki"]


class _Scheme(NamedTuple):
    protocol: Protocol
    tls: bool
    port: int


SCHEMES: Final = {
    "https": _Scheme("logplex", tls=True, port=443),
    "http": _Scheme("logplex", tls=False, port=80),
    "syslog+tls": _Scheme("syslog", tls=True, port=6514),
    "syslog": _Scheme("syslog", tls=False, port=601),
    "otlp+https": _Scheme("otlp", tls=True, port=443),
    "otlp+http": _Scheme("otlp", tls=False, port=80),
    "loki+https": _Scheme("loki", tls=True, port=443),
    "loki+http": _Scheme("loki", tls=False, port=80),
}

_PRINTABLE: Final = re.compile(r"[!-~]+")
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HIDDEN: Final = "****"
_SEPARATORS: Final = re.compile(r"[/?&=]")
_SECRET: Final = 4
"""Fewer characters are no secret; to hide them would leave little of a sentence."""


@dataclass(frozen=True, slots=True)
class DrainUrl:
    """A URL that can be used."""

    scheme: str
    host: str
    """A name in lower case, or an address without brackets."""
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    target: str = field(default="/", repr=False)
    """Path and query, percent-encoded as they were given."""
    options: frozenset[str] = frozenset()

    @property
    def protocol(self) -> Protocol:
        return SCHEMES[self.scheme].protocol

    @property
    def tls(self) -> bool:
        return SCHEMES[self.scheme].tls

    @property
    def insecure(self) -> bool:
        """Whether any certificate will do."""
        return "insecure" in self.options

    @property
    def gzip(self) -> bool:
        return "gzip" in self.options

    @property
    def authority(self) -> str:
        """Host and port as a URL has them; the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == SCHEMES[self.scheme].port else f"{host}:{self.port}"

    def same_place(self, other: "DrainUrl") -> bool:
        """Whether both mean the same receiver, however the URLs are written."""
        return (self.scheme, self.host, self.port, self.target, self.user, self.password) == (
            other.scheme, other.host, other.port, other.target, other.user, other.password,
        )  # fmt: skip

    def without_secrets(self, text: str) -> str:
        """A text of the receiver, in which it may say back what it was called with: each part of that is hidden."""
        known = {form for part in self._parts() for form in (part, unquote_plus(part), unquote(part), quote(part))}
        known |= {basic(self.user, self.password).rstrip("=")} if self.user or self.password else set()
        secrets = sorted((form for form in known if len(form) >= _SECRET), key=len, reverse=True)
        return re.sub("|".join(map(re.escape, secrets)), _HIDDEN, text, flags=re.IGNORECASE) if secrets else text

    def _parts(self) -> set[str]:
        split = [part for text in (self.target, unquote(self.target)) for part in _SEPARATORS.split(text)]
        return {self.target, *self.target.split("?", 1), *split, self.user, self.password}

    def masked(self) -> str:
        """The URL for those who may not see its secrets: only who is written to, and how.

        Any part of path and query may be a secret: many receivers have their tokens there.
        """
        user = f"{_HIDDEN}@" if self.user or self.password else ""
        target = "" if self.target == "/" else f"/{_HIDDEN}"
        options = f"#{'&'.join(sorted(self.options))}" if self.options else ""
        return f"{self.scheme}://{user}{self.authority}{target}{options}"


def basic(user: str, password: str) -> str:
    """User and password as `Authorization: Basic` has them."""
    return b64encode(f"{user}:{password}".encode()).decode()


def parse(text: str) -> DrainUrl:
    """Raises BadUrl, with a sentence that holds none of the URL but its scheme and options."""
    if len(text) > MAX_URL:
        raise BadUrl(f"the URL is longer than {MAX_URL} characters")
    if not _PRINTABLE.fullmatch(text):
        raise BadUrl("the URL has a space, or a character that must be percent-encoded")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadUrl("the URL's host or port can't be read") from None
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise BadUrl(f"the URL must begin with {', '.join(f'{name}://' for name in SCHEMES)}")
    if port == 0:
        raise BadUrl("the URL's port is a number from 1 to 65535")
    if scheme.protocol == "syslog":
        _check_bare(parts)
    return DrainUrl(
        scheme=parts.scheme,
        host=_host(parts),
        port=port or scheme.port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        options=_options(parts.fragment, scheme),
    )


def masked(text: str) -> str:
    """`DrainUrl.masked` of any text."""
    try:
        return parse(text).masked()
    except BadUrl:
        return _HIDDEN


def _check_bare(parts: SplitResult) -> None:
    if parts.username is not None or parts.query or parts.path not in {"", "/"}:
        raise BadUrl("a syslog URL has a host and a port, and no user, path or query")


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if parts.netloc.rpartition("@")[2].startswith("["):
        try:
            return IPv6Address(host).compressed if "%" not in host else _refuse_host()
        except ValueError:
            _refuse_host()
    if len(host) > 253 or not _NAME.fullmatch(host):
        _refuse_host()
    host = host.removesuffix(".")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        _check_address(host)
    return host


def _check_address(host: str) -> None:
    """Raise BadUrl unless that is an address in full: no name ends in a number, and short forms lead nowhere here."""
    try:
        IPv4Address(host)
    except ValueError:
        _refuse_host()


def _refuse_host() -> str:
    raise BadUrl("the URL's host is neither a name nor an address")


def _options(fragment: str, scheme: _Scheme) -> frozenset[str]:
    given = frozenset(fragment.split("&")) if fragment else frozenset[str]()
    known = {"insecure"} if scheme.tls else set[str]()
    known |= {"gzip"} if scheme.protocol != "syslog" else set()
    if not given <= known:
        may = " or ".join(f"#{name}" for name in sorted(known))
        raise BadUrl(f"the URL may end in {may} and in no other fragment" if may else "the URL has no fragment")
    return given
