"""From a file's bytes to the lines of chunks: however the bytes arrive, the same lines come out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from logsvc.formats import cri
from logsvc.model import MAX_CHUNK, MAX_LINE
from logsvc.sources.kubernetes import assemble
from logsvc.sources.kubernetes.assemble import Assembler, Piece
from tests.support import cri_line, cri_parts

NOW: Final = 1_795_399_200_000_000_000
INVARIANT: Final = re.compile(
    rb"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) [FP] [^\n]*\n)*"
)


class Said(NamedTuple):
    """A line as somebody meant it, whole."""

    stream: bytes
    platform: bool
    message: bytes


@contextmanager
def small_limits() -> Iterator[None]:
    """Lines of at most 256 bytes and chunks of 512, so that examples stay small."""
    with (
        patch.object(assemble, "MAX_LINE", 256),
        patch.object(assemble, "SEGMENT", 256),
        patch.object(assemble, "MAX_CHUNK", 512),
        patch.object(cri, "_runs", partial(cri._runs, longest=256 - 64)),
    ):
        yield


def assembler() -> Assembler:
    return Assembler(lambda: NOW)


def feed(target: Assembler, data: bytes, cuts: list[int] = [], file: str = "f") -> list[Piece]:  # noqa: B006 - read only
    """Give a file in reads that end at `cuts`, as a source does: what is left over comes again with more."""
    pieces: list[Piece] = []
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        while True:
            more, end = target.feed(file, at, data[at : min(cut, at + assemble.MAX_CHUNK)])
            pieces += more
            if end == at:
                break
            at = end
    return pieces


def said(pieces: list[Piece]) -> list[Said]:
    """Lines of pieces, those tagged `P` joined with what follows them."""
    held: dict[tuple[bytes, bool], bytes] = {}
    out: list[Said] = []
    for piece in pieces:
        for line in cri.lines(piece.value):
            _, stream, partial, message = cri.parse(line)
            key = stream, piece.platform
            held[key] = held.get(key, b"") + message
            if not partial:
                out.append(Said(*key, held.pop(key)))
    return out


messages = st.binary(max_size=30).map(lambda message: message.replace(b"\n", b" "))
long_messages = st.integers(0, 1000).map(lambda size: bytes(97 + number % 26 for number in range(size)))
streams = st.sampled_from(["stdout", "stderr"])


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, list[Said]]:
    """A file's bytes and what they say, in the order in which the lines end.

    Either with lines that have to be cut, or with garbage, which would come to lie between the pieces of such a line.
    """
    lines: list[bytes] = []
    meant: list[Said] = []
    open_lines: dict[str, bytes] = {}
    kind_of_part, kinds = draw(
        st.sampled_from([(st.just(b"x" * 7), "FFFFPPGS"), (messages | long_messages, "FFFFPPPS")])
    )
    for number in range(draw(st.integers(0, 25))):
        stream = draw(streams)
        kind = draw(st.sampled_from(kinds))
        text = draw(messages | st.just(b"\0" * 100) if kind == "G" else kind_of_part)
        if kind == "P":
            lines.append(cri_line(NOW + number, stream, text, "P"))
            open_lines[stream] = open_lines.get(stream, b"") + text
        elif kind == "F":
            lines.append(cri_line(NOW + number, stream, text))
            meant.append(Said(stream.encode(), platform=False, message=open_lines.pop(stream, b"") + text))
        elif kind == "S":
            lines.append(cri_line(NOW + number, stream, text, "F:platform"))
            meant.append(Said(stream.encode(), platform=True, message=text))
        elif cri.read_part(text) is None:
            lines.append(text + b"\n")
            meant.append(Said(b"stdout", platform=False, message=text))
    for stream, message in open_lines.items():
        lines.append(cri_line(NOW, stream, b""))
        meant.append(Said(stream.encode(), platform=False, message=message))
    return b"".join(lines), meant


garbage = st.lists(
    st.sampled_from(
        [b"\n", b"\0", b"2026-11-23T02:00:00Z", b" stdout", b" stderr", b" F ", b" P ", b"F:platform", b"x" * 300]
    )
    | st.binary(max_size=9)
).map(b"".join)


@given(logs(), st.lists(st.integers(0, 5000)))
def test_everything_said_comes_out_once_and_in_order_however_it_is_read(
    log: tuple[bytes, list[Said]], cuts: list[int]
) -> None:
    data, meant = log
    with small_limits():
        assert said(feed(assembler(), data, [cut % (len(data) + 1) for cut in cuts])) == meant


@given(st.lists(logs().map(lambda log: log[0]) | garbage).map(b"".join), st.lists(st.integers(0, 9000)))
@example(b"\0" * 2000, [300])
@example(cri_line(NOW, "stdout", b"y" * 2000, "P") + cri_line(NOW, "stdout", b"end"), [100, 700])
def test_any_bytes_give_the_same_well_formed_lines_however_they_are_read(data: bytes, cuts: list[int]) -> None:
    with small_limits():
        whole = feed(assembler(), data)
        pieces = feed(assembler(), data, [cut % (len(data) + 1) for cut in cuts])
    assert b"".join(piece.value for piece in pieces) == b"".join(piece.value for piece in whole)
    for piece in pieces:
        assert 0 < len(piece.value) <= 512
        assert INVARIANT.fullmatch(piece.value)
        parsed = [cri.parse(line) for line in cri.lines(piece.value)]
        assert piece.partial == any(partial for _, _, partial, _ in parsed)
        assert all(len(message) <= 256 for *_, message in parsed)


def test_a_run_of_whole_lines_goes_through_as_it_is() -> None:
    data = b"".join(cri_line(NOW + number, "stdout", b"line %d" % number) for number in range(1000))
    assert assembler().feed("f", 7, data) == ([Piece(data, 7 + len(data), (), False, False)], 7 + len(data))


def test_the_time_of_a_joined_line_is_that_of_its_first_part() -> None:
    [piece] = feed(assembler(), cri_parts(NOW, "stderr", b"z" * 100_000))
    assert piece.value == cri_line(NOW, "stderr", b"z" * 100_000)


def test_a_line_is_joined_across_files() -> None:
    target = assembler()
    feed(target, cri_line(NOW, "stdout", b"first "), file="old")
    assert feed(target, cri_line(NOW + 1, "stdout", b"begin ", "P"), file="old") == []
    assert target.held == (("old", 0),)
    [piece] = feed(target, cri_line(NOW + 2, "stdout", b"end"), file="new")
    assert piece.value == cri_line(NOW + 1, "stdout", b"begin end")
    assert piece.held == ()


def test_what_is_held_is_named_until_it_is_sent() -> None:
    target = assembler()
    part = cri_line(NOW, "stdout", b"begin", "P")
    other = cri_line(NOW, "stderr", b"whole")
    [piece] = feed(target, part + other)
    assert (piece.value, piece.end, piece.held) == (other, len(part + other), (("f", 0),))


def test_a_line_of_10_mb_goes_out_in_lines_that_say_they_go_on() -> None:
    message = bytes(range(32, 127)) * (10_000_000 // 95)
    pieces = feed(assembler(), cri_parts(NOW, "stdout", message))
    lines = [cri.parse(line) for piece in pieces for line in cri.lines(piece.value)]
    assert b"".join(message for *_, message in lines) == message
    assert [partial for _, _, partial, _ in lines] == [True] * (len(lines) - 1) + [False]
    assert all(len(message) <= MAX_LINE for *_, message in lines)
    assert all(len(piece.value) <= MAX_CHUNK for piece in pieces)


def test_a_hole_of_zeros_is_a_line_and_what_follows_is_read() -> None:
    good = cri_line(NOW, "stdout", b"before")
    pieces = feed(assembler(), good + b"\0" * 1_000_000 + b"\n" + good)
    lines = [cri.parse(line) for piece in pieces for line in cri.lines(piece.value)]
    assert lines[0][3] == lines[-1][3] == b"before"
    assert b"".join(message for *_, message in lines[1:-1]) == b"\0" * 1_000_000
    assert lines[1][0] == lines[0][0], "the time of the last good line"


def test_a_line_without_any_time_before_it_has_the_time_of_now() -> None:
    [piece] = feed(assembler(), b"hello\n")
    assert piece.value == cri.format_line(cri.format_time(NOW), b"stdout", b"hello")


def test_what_the_platform_says_stands_between_the_lines_around_it() -> None:
    lines = [
        cri_line(NOW, "stdout", b"starting"),
        cri_line(NOW, "stdout", b"State changed from starting to up", "F:platform"),
        cri_line(NOW, "stdout", b"ready"),
    ]
    pieces = feed(assembler(), b"".join(lines))
    assert [piece.platform for piece in pieces] == [False, True, False]
    assert b"".join(piece.value for piece in pieces) == b"".join(lines).replace(b"F:platform", b"F")


def test_a_flood_of_lines_that_grow_is_taken_in_bounded_steps() -> None:
    target = assembler()
    pieces, end = target.feed("f", 0, b"\n" * MAX_CHUNK)
    assert 0 < end < MAX_CHUNK
    assert sum(len(piece.value) for piece in pieces) <= 2 * MAX_CHUNK


def test_a_held_line_ends_with_its_process() -> None:
    target = assembler()
    feed(target, cri_line(NOW, "stdout", b"half", "P") + cri_line(NOW, "stderr", b"other half", "P"))
    [piece] = target.end(99)
    assert piece == Piece(
        cri_line(NOW, "stdout", b"half") + cri_line(NOW, "stderr", b"other half"), 99, (), False, False
    )
    assert target.held == ()
