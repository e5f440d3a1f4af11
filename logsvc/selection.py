"""Which lines of a chunk pass a filter: by the stream first, then the raw chunk, and only then line by line.

Literals are tested as bytes; patterns are RE2's, in UTF-8 mode on the message's bytes. What one costs grows with the
text and with the program that RE2 makes of it, no faster; so the program's size is bounded, and what making it takes.
The store says the same in SQL (store/sql.py), and the contract suite holds the two together.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import re2

from logsvc.errors import BadFilter
from logsvc.formats import cri
from logsvc.formats.patterns import is_free
from logsvc.model import Chunk, Filter, Selection

MAX_PATTERN = 1000
"""Most characters of a literal or pattern."""

MAX_REPEATS: Final = 1000
"""Most that the counted repetitions of a filter's patterns may add up to: `x{1,1000}` a hundred times over takes RE2
half a minute to make a program of, and nothing else goes on meanwhile."""

MAX_PROGRAM: Final = 5000
"""Most instructions of the programs of a filter's patterns, each of which a byte of a line may cost some ns."""

_LINE: Final = 1000
"""Instructions that a look at one line is like, whatever is in it."""

_SHORT: Final = 40
"""Bytes of a line at least. To count the lines of a chunk takes longer than to see that none of them passes."""

_MEMORY: Final = 256 * 1024
"""Bytes that a pattern may take: RE2 gives up on a program that is far larger than MAX_PROGRAM before it is made."""

_CLASSES: Final = 8
"""Most classes of Unicode (`\\pL`) in a filter's patterns: each may be a thousand instructions."""

_COUNTED: Final = re.compile(r"\{(\d+)(?:,(\d*))?\}", re.ASCII)

_Test = Callable[[bytes], bool]


class Matcher:
    """A filter made ready. Raises BadFilter where a pattern can't be used."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self._reads_lines = wanted.reads_lines
        fold = wanted.ignore_case
        self._needs = [_literal(text, "grep", fold=fold) for text in wanted.grep]
        named = [("grep_re", text) for text in wanted.grep_re] + [("exclude_re", text) for text in wanted.exclude_re]
        patterns = _compiled(named, fold=fold)
        self._patterns = [_test(pattern) for pattern in patterns[: len(wanted.grep_re)]]
        self._hints = [test for test, text in zip(self._patterns, wanted.grep_re, strict=True) if is_free(text)]
        self._bars = [_literal(text, "exclude", fold=fold) for text in wanted.exclude]
        self._bars += [_test(pattern) for pattern in patterns[len(wanted.grep_re) :]]
        self._weight = sum(pattern.programsize for pattern in patterns)
        self._streams = frozenset(name.encode() for name in wanted.stream)
        self._not_streams = frozenset(name.encode() for name in wanted.not_stream)

    def work(self, chunk: Chunk) -> int:
        """What testing a chunk takes at worst, in RE2's instructions, which are some ns each."""
        return self._weight * len(chunk.value) + _LINE * (len(chunk.value) // _SHORT) if self._reads_lines else 0

    def select(self, chunk: Chunk, after: int = -1) -> Selection | None:
        """The lines of `chunk` behind line `after` that pass; None where there are none."""
        if not self.wanted.takes(chunk.stream):
            return None
        reads_lines = self._reads_lines and (not chunk.stream.is_notice or self._timed)
        if not reads_lines and after < 0:
            return Selection(chunk, chunk.value, chunk.numbers)
        if reads_lines and not chunk.stream.is_notice and not self._may_pass(chunk.value):
            return None
        picked = zip(chunk.numbers, cri.lines(chunk.value), strict=True)
        kept = [(n, line) for n, line in picked if n > after and (not reads_lines or self._passes(chunk, line))]
        return _selection(chunk, kept) if kept else None

    def _may_pass(self, value: bytes) -> bool:
        """Whether any line of a chunk can pass; a look at each line takes ten times as long, and most chunks none."""
        return all(need(value) for need in self._needs) and all(hint(value) for hint in self._hints)

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
        return _test(_compile(re2.escape(text), parameter, fold=True))
    needle = text.encode("utf-8", "surrogateescape")
    return lambda data: needle in data


def _compiled(named: Iterable[tuple[str, str]], *, fold: bool) -> list[Any]:
    """The patterns of a filter, each named by its parameter. Raises BadFilter, also where all cost too much."""
    compiled: list[Any] = []
    repeats = size = classes = 0
    for parameter, text in named:
        _check_length(text, parameter)
        classes += text.count(r"\p") + text.count(r"\P")
        if classes > _CLASSES:
            raise BadFilter(parameter, f"too large: more than {_CLASSES} classes of Unicode in all")
        repeats += sum(max(int(least), int(most or 0)) for least, most in _COUNTED.findall(text))
        if repeats > MAX_REPEATS:
            raise BadFilter(parameter, f"repeats more than {MAX_REPEATS} times in all")
        pattern = _compile(text, parameter, fold=fold)
        size += pattern.programsize
        if size > MAX_PROGRAM:
            raise BadFilter(parameter, "too large: fewer repetitions or classes of characters")
        compiled.append(pattern)
    return compiled


def _compile(text: str, parameter: str, *, fold: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not fold
    options.max_mem = _MEMORY
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise BadFilter(parameter, f"not a pattern that RE2 takes: {reason}") from error


def _test(pattern: Any) -> _Test:
    search = pattern.search
    return lambda data: search(data) is not None


def _check_length(text: str, parameter: str) -> None:
    if len(text) > MAX_PATTERN:
        raise BadFilter(parameter, f"longer than {MAX_PATTERN} characters")
