"""What the API server gives of a log, cut anywhere and asked for again at any time, becomes each line once."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logsvc.formats import cri
from logsvc.model import MAX_CHUNK, MAX_LINE
from logsvc.sources.kubernetes.apilines import ApiLines, Piece, Place

BEGIN = 1_795_399_200_000_000_000
SECOND = 1_000_000_000


def line(ns: int, message: bytes) -> bytes:
    return cri.format_time(ns) + b" " + message


def answer(log: list[bytes]) -> bytes:
    """What the kubelet gives of a file."""
    return b"".join([each + b"\n" for each in log])


def messages(pieces: list[Piece]) -> list[bytes]:
    out, held = [], b""
    for piece in pieces:
        assert len(piece.value) <= MAX_CHUNK
        for each in cri.lines(piece.value):
            time, stream, partial, message = cri.parse(each)
            assert stream == b"stdout"
            assert len(time) == 30
            assert partial <= piece.partial
            held += message
            if not partial:
                out.append(held)
                held = b""
    return out + ([held] if held else [])


def take(given: bytes, place: Place, sizes: list[int]) -> tuple[list[Piece], ApiLines]:
    lines, pieces, at = ApiLines(place), [], 0
    for number in count():
        if at >= len(given):
            return pieces, lines
        size = sizes[number % len(sizes)]
        pieces += lines.feed(given[at : at + size])
        at += size
    raise AssertionError


HOUR = 3600 * SECOND
steps = st.sampled_from([0, 1, 1000, SECOND // 3, SECOND, -1000, -SECOND // 2, HOUR, -HOUR, -5 * SECOND])
texts = st.sampled_from([b"", b"a", b"same", b"\xff\x00", b"2026-11-23T02:00:00.000000000Z x", b"x" * 1000])


@settings(deadline=None)
@given(
    st.lists(st.tuples(steps, texts), min_size=1, max_size=40),
    st.lists(st.integers(1, 300), min_size=1, max_size=8),
    st.lists(st.integers(0, 2000), max_size=4),
)
def test_whatever_is_cut_off_and_asked_for_again_each_line_comes_once(
    written: list[tuple[int, bytes]], sizes: list[int], cuts: list[int]
) -> None:
    """Also where the node's clock jumps by an hour, ahead and back."""
    log, now = [], BEGIN
    for number, (step, text) in enumerate(written):
        now += step
        log.append(line(now, b"%d %b" % (number, text)))
    place, pieces = Place(), list[Piece]()
    while True:
        cut = cuts.pop(0) if cuts else None
        more, lines = take(answer(log)[:cut], place, sizes)
        pieces += more
        place = more[-1].place if more else place
        if cut is None and not lines.went_back:
            break
        assert more or cut is not None, "each time it is asked there is more"
    assert messages(pieces) == [each[31:] for each in log]


def test_lines_that_are_the_same_to_the_nanosecond_are_counted() -> None:
    log = [line(BEGIN, b"same") for _ in range(10)]
    place = Place()
    for number in range(10):
        pieces, _ = take(answer(log[: number + 1]), place, [7])
        assert messages(pieces) == [b"same"]
        place = pieces[-1].place
    assert place.same == 10


def test_where_the_last_line_is_gone_nothing_is_taken() -> None:
    place = take(answer([line(BEGIN, b"old")]), Place(), [100])[0][-1].place
    pieces, lines = take(answer([line(BEGIN + 1, b"new")]), place, [100])
    assert (pieces, lines.seeking, lines.first) == ([], True, "2026-11-23T02:00:00.000000001Z")


def test_a_file_that_is_given_again_and_a_clock_that_is_set_back_are_told_apart_by_looking_at_all_of_it() -> None:
    first = [line(BEGIN + number * SECOND, b"%d" % number) for number in range(10)]
    pieces, lines = take(answer(first) * 2, Place(), [64])
    assert messages(pieces) == [b"%d" % number for number in range(10)]
    assert lines.went_back
    again, lines = take(answer(first), pieces[-1].place, [64])
    assert (again, lines.seeking) == ([], False)
    back = [*first, *(line(BEGIN - number, b"back %d" % number) for number in range(3))]
    pieces, lines = take(answer(back), Place(), [64])
    assert lines.went_back
    more, lines = take(answer(back), pieces[-1].place, [64])
    assert messages(more) == [b"back 0", b"back 1", b"back 2"]
    assert not lines.went_back


def test_what_has_no_time_is_not_the_containers() -> None:
    given = b"rest of a line\n" + answer([line(BEGIN, b"hello")]) + b"failed to watch file\n"
    assert messages(take(given, Place(), [9])[0]) == [b"hello"]


@pytest.mark.parametrize("size", [MAX_LINE - 100, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE + 17])
@pytest.mark.parametrize("step", [1 << 14, 1 << 17, 1 << 30])
def test_a_long_line_is_cut_and_gone_on_with(size: int, step: int) -> None:
    text = b"%d" % size + b"y" * (size - 8)
    log = [line(BEGIN, b"before"), line(BEGIN + 1, text), line(BEGIN + 2, b"behind")]
    whole, _ = take(answer(log), Place(), [step])
    assert messages(whole) == [b"before", text, b"behind"]
    for number, piece in enumerate(whole):
        more, lines = take(answer(log), piece.place, [step])
        assert not lines.seeking
        assert messages([*whole[: number + 1], *more]) == [b"before", text, b"behind"]


def test_the_end_of_a_run_ends_its_last_line() -> None:
    lines = ApiLines(Place())
    assert lines.feed(line(BEGIN, b"no newline")) == []
    assert messages(lines.end()) == [b"no newline"]
    assert ApiLines(Place()).end() == []
