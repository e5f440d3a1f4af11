"""The nouns of drains, and how they are written down. No I/O.

Each is one JSON object with its version `v`; `docs/formats.md` has the members. Whoever reads takes this version and
the one before, and stops at a newer one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, Self
from uuid import uuid4

import orjson

from logsvc.errors import BadCursor, FormatError, NewerFormat
from logsvc.model import EVERYTHING, AppId, Cursor, Filter, kept_json

VERSION: Final = 1

_SETS: Final = ("process", "dyno", "source", "stream", "not_process", "not_dyno", "not_source", "not_stream")
_TEXTS: Final = ("grep", "grep_re", "exclude", "exclude_re")
FILTERS: Final = (*_SETS, *_TEXTS, "ignore_case")
"""The parts of a filter that a drain can have, named as the parameters of the logs API."""


@dataclass(frozen=True, slots=True)
class Drain:
    """A place that an app's lines are forwarded to."""

    id: str
    """A UUID."""
    token: str
    """`d.<UUID>`: what the receiver knows the drain by, the same for as long as the drain is there."""
    tenant: str
    app: str
    url: str = field(repr=False)
    """With whatever secrets it holds: for the owner and the delivery only."""
    start: Cursor
    """Where the log ended when the drain was made: what comes behind is delivered."""
    created_at: int
    """Unix seconds."""
    updated_at: int
    paused: bool = False
    """Whether delivery rests; what comes meanwhile is delivered afterwards."""
    filter: Filter = EVERYTHING
    plan: str = ""
    """Of whoever made or changed it last: says how much of a backlog is kept."""
    ordered: bool = True
    """Whether a frame is sent only once the one before it is settled; else several are under way at once."""

    @classmethod
    def new(
        cls,
        app: AppId,
        url: str,
        start: Cursor,
        now: int,
        *,
        wanted: Filter = EVERYTHING,
        plan: str = "",
        ordered: bool = True,
    ) -> Self:
        """A drain that nobody knows yet."""
        return cls(
            id=str(uuid4()),
            token=f"d.{uuid4()}",
            tenant=app.tenant,
            app=app.app,
            url=url,
            start=start,
            created_at=now,
            updated_at=now,
            filter=wanted,
            plan=plan,
            ordered=ordered,
        )

    @property
    def app_id(self) -> AppId:
        return AppId(self.tenant, self.app)

    def encode(self) -> bytes:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return _written(values | {"start": str(self.start), "filter": filter_members(self.filter)})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises FormatError; NewerFormat for what a newer logsvc wrote."""
        values = _read(data)
        try:
            _check_texts(values, "id", "token", "tenant", "app", "url", "plan")
            _check_flags(values, "paused", "ordered")
            places = {"start": Cursor.parse(values["start"]), "filter": filter_of(values["filter"])}
            return cls(**values | places)
        except (TypeError, ValueError, KeyError, BadCursor) as error:
            raise FormatError(f"not a drain: {error}") from error


def filter_members(wanted: Filter) -> dict[str, Any]:
    """A filter as a JSON object: what it says, and nothing else."""
    members: dict[str, Any] = {name: sorted(getattr(wanted, name)) for name in _SETS}
    members |= {name: list(getattr(wanted, name)) for name in _TEXTS}
    members["ignore_case"] = wanted.ignore_case
    return {name: value for name, value in members.items() if value}


def filter_of(members: Mapping[str, Any]) -> Filter:
    """The filter of a JSON object. Raises TypeError or ValueError where it says what a drain's filter can't."""
    if unknown := set(members) - set(FILTERS):
        raise ValueError(f"{', '.join(sorted(unknown))}: not part of a drain's filter")
    parts: dict[str, Any] = {name: frozenset(_names(members, name)) for name in _SETS}
    parts |= {name: tuple(_names(members, name)) for name in _TEXTS}
    fold = members.get("ignore_case", False)
    if type(fold) is not bool:
        raise TypeError("ignore_case is true or false")
    return Filter(**parts, ignore_case=fold)


def _names(members: Mapping[str, Any], name: str) -> list[str]:
    values = members.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} is a list of text")
    return values


@dataclass(frozen=True, slots=True)
class Lost:
    """Lines that a drain will never get: said in its own stream."""

    lines: int
    since: int
    """Unix seconds: when the first of them was written, or the skipping began."""

    def and_also(self, other: "Lost | None") -> "Lost":
        """Both together."""
        return self if other is None else Lost(self.lines + other.lines, min(self.since, other.since))


@dataclass(frozen=True, slots=True)
class Frame:
    """What is sent at once: the lines behind `first` up to and including `last`, always under the same id.

    `first` is the place in front of it, read as "after". The filter doesn't matter to the range, only to what of it is
    sent.
    """

    first: Cursor
    last: Cursor
    id: str
    """32 upper-case hexadecimal digits: a hash of drain and range. See `frame_id`."""
    lost: Lost | None = None
    """What the frame says at its head was lost before it."""


def frame_id(drain: str, first: Cursor, last: Cursor) -> str:
    """The id of a frame, from the drain's id and its range: 32 upper-case hexadecimal digits, the same at each try."""
    return sha256(f"{drain} {first} {last}".encode()).hexdigest()[:32].upper()


@dataclass(frozen=True, slots=True)
class Told:
    """What an app was told last of its drain's troubles: whoever goes on with the drain doesn't tell it again."""

    at: int
    """Unix seconds."""
    failing: bool
    """Whether it believes that the drain fails."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a drain is. Saved before a frame is sent, and some time after it is settled."""

    read: Cursor
    """Everything up to and including this line was delivered, dropped or left out by the filter, or is pending."""
    pending: tuple[Frame, ...] = ()
    """What was being sent, in the order of the log: after a crash exactly these are sent again. One at most in a drain
    that keeps the order."""
    lost: Lost | None = None
    """What was lost and has not been said yet."""
    told: Told | None = None

    @property
    def oldest(self) -> Cursor:
        """The place behind which there may be lines that the other side doesn't have."""
        return self.pending[0].first if self.pending else self.read

    def begin(self, first: Cursor, last: Cursor, drain: str) -> tuple["Position", Frame]:
        """The position with one more frame, of the lines behind `first` up to `last`; and that frame."""
        frame = Frame(first, last, frame_id(drain, first, last), self.lost)
        return replace(self, read=last, pending=(*self.pending, frame), lost=None), frame

    def settle(self, frame: Frame) -> "Position":
        """The position without a frame."""
        return replace(self, pending=tuple(each for each in self.pending if each is not frame))

    def encode(self) -> bytes:
        pending = [_frame(frame) for frame in self.pending]
        told = None if self.told is None else [self.told.at, self.told.failing]
        return _written({"read": str(self.read), "pending": pending, "lost": _lost(self.lost), "told": told})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises FormatError; NewerFormat for what a newer logsvc wrote."""
        values = _read(data)
        try:
            return cls(
                Cursor.parse(values["read"]),
                tuple(_frame_of(each) for each in values["pending"]),
                _lost_of(values["lost"]),
                None if values.get("told") is None else Told(*values["told"]),
            )
        except (TypeError, ValueError, KeyError, BadCursor) as error:
            raise FormatError(f"not a drain's position: {error}") from error


def _frame(frame: Frame) -> dict[str, Any]:
    return {"first": str(frame.first), "last": str(frame.last), "id": frame.id, "lost": _lost(frame.lost)}


def _frame_of(values: Mapping[str, Any]) -> Frame:
    lost = _lost_of(values.get("lost"))
    return Frame(Cursor.parse(values["first"]), Cursor.parse(values["last"]), str(values["id"]), lost)


def _lost(lost: Lost | None) -> list[int] | None:
    return None if lost is None else [lost.lines, lost.since]


def _lost_of(values: Any) -> Lost | None:
    if values is None:
        return None
    lines, since = values
    return Lost(int(lines), int(since))


class State(StrEnum):
    """What a drain is doing."""

    STARTING = "starting"
    """Nobody delivers it yet."""
    DELIVERING = "delivering"
    """All is well: it is at the end, or on the way there."""
    RETRYING = "retrying"
    """The other side does not take what is sent; it is tried again."""
    DROPPING = "dropping"
    """The other side refuses what is sent for good (4xx): it is dropped."""


@dataclass(frozen=True, slots=True)
class DrainStatus:
    """How a drain does, as of `at`."""

    state: State
    at: float
    """Unix seconds."""
    lag_lines: int = 0
    """Lines of the app that it has not got yet, before its filter."""
    lag_seconds: float = 0.0
    """Age of the oldest of them."""
    lines: int = 0
    """Lines delivered since this delivery began."""
    lines_per_second: float = 0.0
    """Of the last minute or so."""
    error: str = ""
    """What went wrong last, in words for a developer, without a secret; empty where nothing has."""
    error_at: float | None = None
    """Unix seconds."""
    retry_at: float | None = None
    """When it is tried again, Unix seconds."""

    def encode(self) -> bytes:
        return _written({each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises FormatError; NewerFormat for what a newer logsvc wrote."""
        values = _read(data)
        try:
            return cls(**values | {"state": State(values["state"])})
        except (TypeError, ValueError, KeyError) as error:
            raise FormatError(f"not a drain's status: {error}") from error


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of sending one marked line to a drain."""

    taken: bool
    """Whether the other side has it."""
    answer: str
    """What it said, or what kept the line from it: one line of words, without a secret."""
    seconds: float
    """From the look-up of its name to its answer."""


def _check_texts(values: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if not isinstance(values[name], str):
            raise TypeError(f"{name} is not text")


def _check_flags(values: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if type(values.get(name, False)) is not bool:
            raise TypeError(f"{name} is true or false")


def _written(values: Mapping[str, Any]) -> bytes:
    return kept_json({"v": VERSION, **values})


def _read(data: bytes) -> dict[str, Any]:
    try:
        values = orjson.loads(data)
        version = values.pop("v")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise FormatError("not a record of drains") from error
    if type(version) is int and version > VERSION:
        raise NewerFormat(f"a record of drains has version {version}; this logsvc knows {VERSION}")
    if version != VERSION:
        raise FormatError(f"a record of drains has version {version!r}")
    return dict(values)
