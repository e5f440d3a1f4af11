"""Which lines of a chunk pass a filter: by the stream first, then the raw chunk, and only then line by line.

Literals are tested as bytes; patterns are RE2's, which no pattern can make slow, in UTF-8 mode on the message's
bytes. The store says the same in SQL (store/sql.py), and the contract suite holds the two together.
"""

from collections.abc import Callable, Iterable

import re2

from logsvc.errors import BadFilter
from logsvc.formats import cri
from logsvc.model import Chunk, Filter, Selection

MAX_PATTERN = 1000
"""Most characters of a literal or pattern."""

_Test = Callable[[bytes], bool]


class Matcher:
    """A filter made ready. Raises BadFilter where a pattern can't be used."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self._reads_lines = wanted.reads_lines
        fold = wanted.ignore_case
        self._needs = [_literal(text, "grep", fold=fold) for text in wanted.grep]
        self._patterns = [_pattern(text, "grep_re", fold=fold) for text in wanted.grep_re]
        self._bars = [_literal(text, "exclude", fold=fold) for text in wanted.exclude]
        self._streams = frozenset(name.encode() for name in wanted.stream)
        self._not_streams = frozenset(name.encode() for name in wanted.not_stream)

    def select(self, chunk: Chunk, after: int = -1) -> Selection | None:
        """The lines of `chunk` behind line `after` that pass; None where there are none."""
        if not self.wanted.takes(chunk.stream):
            return None
        reads_lines = self._reads_lines and (not chunk.stream.is_notice or self._timed)
        if not reads_lines and after < 0:
            return Selection(chunk, chunk.value, chunk.numbers)
        if reads_lines and not chunk.stream.is_notice and not all(need(chunk.value) for need in self._needs):
            return None
        picked = zip(chunk.numbers, cri.lines(chunk.value), strict=True)
        kept = [(n, line) for n, line in picked if n > after and (not reads_lines or self._passes(chunk, line))]
        return _selection(chunk, kept) if kept else None

    @property
    def _timed(self) -> bool:
        return self.wanted.since is not None or self.wanted.until is not None

    def _passes(self, chunk: Chunk, line: bytes) -> bool:
        time, stream, _, message = cri.parse(line)
        if self._timed:
            at = cri.time_ns(time)
            if self.wanted.since is not None and at < self.wanted.since:
                return False
            if self.wanted.until is not None and at >= self.wanted.until:
                return False
        if chunk.stream.is_notice:
            return True
        return (
            (not self._streams or stream in self._streams)
            and stream not in self._not_streams
            and all(need(message) for need in self._needs)
            and all(pattern(message) for pattern in self._patterns)
            and not any(bar(message) for bar in self._bars)
        )


def first(selection: Selection, count: int) -> Selection:
    """The first `count` lines of a selection."""
    return _cut(selection, slice(0, count))


def last(selection: Selection, count: int) -> Selection:
    """The last `count` lines of a selection."""
    return _cut(selection, slice(max(0, len(selection.numbers) - count), None))


def _cut(selection: Selection, which: slice) -> Selection:
    lines = cri.lines(selection.value)[which]
    if len(lines) == len(selection.numbers):
        return selection
    return Selection(selection.chunk, b"\n".join((*lines, b"")), selection.numbers[which])


def _selection(chunk: Chunk, kept: Iterable[tuple[int, bytes]]) -> Selection:
    numbers, lines = zip(*kept, strict=True)
    return Selection(chunk, b"\n".join((*lines, b"")), numbers)


def _literal(text: str, parameter: str, *, fold: bool) -> _Test:
    _check_length(text, parameter)
    if fold:
        return _search(re2.escape(text), parameter, fold=True)
    needle = text.encode("utf-8", "surrogateescape")
    return lambda data: needle in data


def _pattern(text: str, parameter: str, *, fold: bool) -> _Test:
    _check_length(text, parameter)
    return _search(text, parameter, fold=fold)


def _search(text: str, parameter: str, *, fold: bool) -> _Test:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not fold
    try:
        search = re2.compile(text, options).search
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise BadFilter(parameter, f"not a pattern that RE2 takes: {reason}") from error
    return lambda data: search(data) is not None


def _check_length(text: str, parameter: str) -> None:
    if len(text) > MAX_PATTERN:
        raise BadFilter(parameter, f"longer than {MAX_PATTERN} characters")
