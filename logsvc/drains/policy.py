"""What an answer means, and when to try again. Pure.

One policy for all protocols, as heroku/logplex has it (`logplex_http_drain.erl`): 2xx is done, 4xx but 429 is dropped,
and everything else is tried again.
"""

import random
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from typing import Final, NamedTuple

Hide = Callable[[str], str]
"""Takes secrets out of a text."""

LONGEST_PATIENCE: Final = 3600.0
"""Most seconds that a receiver may ask for by `Retry-After`."""
_TOLD: Final = 200
"""Most characters that are told of what a receiver answers."""


class Outcome(Enum):
    """What came of a frame."""

    TAKEN = "taken"
    """The other side has it."""
    REFUSED = "refused"
    """It will never take it: drop it."""
    FAILED = "failed"
    """It may take it later, and may have it: send it again, under the same id."""


class Rejected(NamedTuple):
    """What a receiver didn't take of a frame that it took."""

    lines: int
    reason: str
    """In its own words; perhaps none."""


class Answer(NamedTuple):
    """What came of one try."""

    outcome: Outcome
    words: str
    """What the other side did, as the end of a sentence that begins with it: `answers 503 Service Unavailable`."""
    retry_after: float | None = None
    """Seconds that it asks to be left alone."""
    rejected: int = 0
    """Messages of a frame that it took which it didn't take; `words` say why."""


def judge(status: int, body: bytes, retry_after: str | None, now: float, hide: Hide = str) -> Answer:
    """What an HTTP status means; `now` in Unix seconds. Of an error's body the beginning is told."""
    words = f"answers {_named(status)}"
    if 200 <= status < 300:
        return Answer(Outcome.TAKEN, words)
    if 300 <= status < 400:
        words += " (redirects are not followed: use the address that it leads to)"
    elif said := told(body.decode("utf-8", "ignore"), hide):
        words += f": {said}"
    if 400 <= status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS:
        return Answer(Outcome.REFUSED, words)
    return Answer(Outcome.FAILED, words, seconds_of(retry_after, now))


def with_rejected(answer: Answer, rejected: Rejected | None, hide: Hide = str) -> Answer:
    """The answer to a frame that was taken, but for what was rejected."""
    if rejected is None:
        return answer
    reason = told(rejected.reason, hide) or "no reason given"
    return answer._replace(words=f"rejects lines of what it takes: {reason}", rejected=rejected.lines)


def told(text: str, hide: Hide = str) -> str:
    """What a receiver says, fit for a line of a log: one line, no control characters, no secrets, short."""
    text = hide(text)[: 4 * _TOLD]  # before it is cut: half of a secret would not be found
    text = "".join(character if character.isprintable() else " " for character in text).strip()
    if text.startswith("<"):
        return ""  # a page for browsers
    return text if len(text) <= _TOLD else f"{text[:_TOLD]}…"


def seconds_of(retry_after: str | None, now: float) -> float | None:
    """`Retry-After` (RFC 9110 §10.2.3) in seconds from `now`; None where it says nothing that can be used."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), LONGEST_PATIENCE)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, at - now), LONGEST_PATIENCE)


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


class Backoff:
    """The pauses between tries of a frame: each twice the one before, a part left to chance: drains spread out."""

    def __init__(self, first: float, most: float, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives numbers from 0 to 1."""
        self._first, self._most, self._chance = first, most, chance
        self._pause = first

    def next(self, asked: float | None = None) -> float:
        """Seconds to wait after one more failure, and no less than what was `asked` for."""
        pause = self._pause * (0.5 + self._chance() / 2)
        self._pause = min(2 * self._pause, self._most)
        return pause if asked is None else max(pause, asked)
