"""What is replaced in lines before anybody keeps them: tokens, e-mail addresses, card numbers, and own patterns.

Rules see one line of a chunk at a time, its message only. What a rule matches becomes `[name]`, or as many `*` where
that would be longer: so a chunk never grows, and what a source knows of its places stays true.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import re2

from logsvc import metrics
from logsvc.config import Redact as Settings
from logsvc.errors import ConfigError
from logsvc.formats import cri
from logsvc.formats.patterns import is_free
from logsvc.model import Stream

Redact = Callable[[Stream, bytes], bytes]
"""A chunk's value as it is to be kept."""


class Preset(NamedTuple):
    """A rule that everybody has."""

    pattern: str
    needs: bytes = b""
    """A literal without which nothing matches."""
    check: Callable[[bytes], bool] | None = None
    """Whether a match is what it looks like. Another one may begin within one that is not, and within one that is."""


_OTHERS: Final = bytes(set(range(256)) - set(b"0123456789"))
_PLAIN: Final = bytes(max(0, byte - 48) for byte in range(256))
_DOUBLED: Final = bytes(sum(divmod(2 * (byte - 48), 10)) if 48 <= byte <= 57 else 0 for byte in range(256))


def luhn(number: bytes) -> bool:
    """Whether the check digit of a card's number is right (ISO/IEC 7812-1); what is no digit is passed over."""
    digits = number.translate(None, _OTHERS)
    return (sum(digits[::-2].translate(_PLAIN)) + sum(digits[-2::-2].translate(_DOUBLED))) % 10 == 0


PRESETS: Final[Mapping[str, Preset]] = {
    # JWTs, and tokens that say by how they begin whose they are; anything that is sent as a bearer token.
    "token": Preset(
        r"(?:\b|_)eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"
        r"|(?:\b|_)(?:gh[pousr]_|github_pat_|glpat-|npm_|lsv_|[sr]k_(?:live|test)_|xox[abeoprs]-|HRKU-)[A-Za-z0-9_-]{16,}"
        r"|(?:\b|_)(?:AKIA|ASIA)[0-9A-Z]{16}(?:\b|_)"
        r"|(?i:(?:\b|_)bearer[ \t]+)[A-Za-z0-9._~+/-]{16,}=*"
    ),
    "email": Preset(r"[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}\b", needs=b"@"),
    # Visa, Mastercard, Discover of 16 digits, American Express of 15, in groups or not. Longer ones are mostly ids: of
    # random numbers of 19 digits, a tenth has the right check digit.
    "card": Preset(
        r"(?:\b|_)(?:4\d{3}|5[1-5]\d{2}|2[2-7]\d{2}|6(?:011|5\d{2}))(?:[ -]?\d{4}){3}(?:\b|_)"
        r"|(?:\b|_)3[47]\d{2}[ -]?\d{6}[ -]?\d{5}(?:\b|_)",
        check=luhn,
    ),
}


class Rule:
    """One rule made ready."""

    def __init__(self, name: str, preset: Preset) -> None:
        """Raises ConfigError for what RE2 doesn't take, and for a pattern that matches nothing at all."""
        options = re2.Options()
        options.log_errors = False
        try:
            self._pattern: Any = re2.compile(preset.pattern.encode(), options)
        except re2.error as error:
            raise ConfigError(f"redact.rules: {name} is not a pattern that RE2 takes") from error
        if self._pattern.search(b"") is not None:
            raise ConfigError(f"redact.rules: {name} matches an empty text, so it would match everywhere")
        self._needs, self._check = preset.needs, preset.check
        self._ahead = b"(?=(%b))" % preset.pattern.encode()
        self._anywhere = is_free(preset.pattern)
        self._mark = b"[%b]" % name.encode()
        self._count = metrics.redacted.labels(name)

    def may_match(self, value: bytes) -> bool:
        """Whether it is worth to look at the lines of a chunk."""
        return self._needs in value and (not self._anywhere or self._pattern.search(value) is not None)

    def apply(self, message: bytes) -> bytes:
        """The message without what matches."""
        if self._pattern.search(message) is None:
            return message
        if self._check is not None:
            return self._apply_checked(message, self._check)
        found: bytes = self._pattern.sub(lambda match: self._replacement(match.group()), message)
        return found

    def _apply_checked(self, message: bytes, check: Callable[[bytes], bool]) -> bytes:
        """Whatever stands in front of what is looked for, and looks like a part of it, must not hide it."""
        spans: list[tuple[int, int]] = []
        # Finds matches that begin within others as well, which RE2 can't. A preset's pattern is the same to both.
        for match in re.finditer(self._ahead, message):
            if check(match[1]):
                begin, end = match.span(1)
                if spans and begin < spans[-1][1]:
                    begin, _ = spans.pop()
                spans.append((begin, end))
        parts, done = [], 0
        for begin, end in spans:
            parts += [message[done:begin], self._replacement(message[begin:end])]
            done = end
        return b"".join([*parts, message[done:]])

    def _replacement(self, text: bytes) -> bytes:
        if not text:
            return text
        self._count.inc()
        return self._mark if len(self._mark) <= len(text) else b"*" * len(text)


class Redaction:
    """The rules of all tenants."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for a rule that isn't there or can't be used."""
        self._rules: dict[str, Rule] = {}
        self._everywhere = self._named(settings, settings.everywhere)
        self._tenants = {
            tenant: [*self._everywhere, *self._named(settings, names)] for tenant, names in settings.tenants.items()
        }

    def _named(self, settings: Settings, names: Sequence[str]) -> list[Rule]:
        rules = []
        for name in names:
            if name not in self._rules:
                pattern = settings.rules.get(name)
                preset = PRESETS.get(name) if pattern is None else Preset(pattern)
                if preset is None:
                    there = ", ".join([*PRESETS, *settings.rules])
                    raise ConfigError(f"redact: there is no rule {name}; there are {there}")
                self._rules[name] = Rule(name, preset)
            rules.append(self._rules[name])
        return rules

    def __call__(self, stream: Stream, value: bytes) -> bytes:
        """A chunk's value without what the tenant's rules match; the same object where that is nothing."""
        for rule in self._tenants.get(stream.tenant, self._everywhere):
            if rule.may_match(value):
                value = b"".join([_with_message(line, rule.apply) + b"\n" for line in cri.lines(value)])
        return value


def _with_message(line: bytes, change: Callable[[bytes], bytes]) -> bytes:
    message = cri.parse(line)[3]
    return line[: len(line) - len(message)] + change(message)


def redaction(settings: Settings) -> Redact | None:
    """None where no rule is in force. Raises ConfigError."""
    named = settings.everywhere or any(settings.tenants.values())
    made = Redaction(settings) if named or settings.rules else None
    return made if named else None
