"""The CRI format: what goes through as it is, what is read line by line, and times."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.formats import cri
from logsvc.model import MAX_LINE
from tests.support import cri_line, cri_time

SECOND = 1_000_000_000
messages = st.binary(max_size=60).map(lambda message: message.replace(b"\n", b" "))
times = st.integers(0, 4_102_444_800 * SECOND)
streams = st.sampled_from(["stdout", "stderr"])
good_lines = st.builds(cri_line, times, streams, messages)
parts = st.builds(cri_line, times, streams, messages, st.just("P"))
NOISE = (
    b"2026",
    b"-11-23T02:00:00",
    b".123",
    b"Z",
    b"+01:00",
    b" ",
    b"stdout",
    b"stderr",
    b"F",
    b"P",
    b"\n",
    b"\0",
    b"x",
)
noise = st.lists(st.sampled_from(NOISE) | st.binary(max_size=5)).map(b"".join)


@given(st.lists(good_lines), parts | noise)
def test_clean_takes_whole_lines_and_stops_at_anything_else(lines: list[bytes], rest: bytes) -> None:
    data = b"".join(lines) + rest
    end = cri.clean(data)
    assert end >= len(data) - len(rest)
    taken = cri.lines(data[:end]) if end else []
    for line in taken:
        part = cri.read_part(line)
        assert part is not None
        assert not part.partial
        assert not part.platform
        assert cri.format_line(part.time, part.stream, part.message) == line + b"\n"


@given(st.lists(good_lines, min_size=1), st.binary(max_size=20))
def test_clean_can_begin_anywhere(lines: list[bytes], front: bytes) -> None:
    data = front + b"".join(lines)
    assert cri.clean(data, len(front)) == len(data)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"\0" * 40,
        b"2026-11-23T02:00:00Z stdout F",
        b"2026-11-23T02:00:00Z stdout",
        b"2026-11-23T02:00:00Z stdin F hello",
        b"2026-11-23T02:00:00Z stdout X hello",
        b"2026-11-23T02:00:00Z stdout FF hello",
        b"2026-11-23T02:00:00Z stdout P hello",
        b"2026-11-23T02:00:00Z stdout F:platform hello",
        b"2026-11-23T02:00:00 stdout F hello",
        b"2026-11-23T02:00:00.1234567890Z stdout F hello",
        b"2026-11-23T02:00:00.Z stdout F hello",
        b"2026-11-23 02:00:00Z stdout F hello",
        b" 2026-11-23T02:00:00Z stdout F hello",
        "\uff12026-11-23T02:00:00Z stdout F hello".encode(),
    ],
)
def test_what_is_not_a_whole_line_of_the_container_is_not_clean(line: bytes) -> None:
    assert cri.clean(line + b"\n") == 0


@pytest.mark.parametrize(
    "time",
    [
        "2026-13-01T02:00:00Z",
        "2026-00-01T02:00:00Z",
        "2026-02-30T02:00:00Z",
        "2025-02-29T02:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T02:60:00Z",
        "2026-11-23T02:00:60Z",
        "2026-11-23T02:00:00+24:00",
        "2026-11-23T02:00:00+01:60",
        "1899-12-31T23:59:59Z",
        "2262-04-12T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
def test_a_time_that_no_calendar_has_is_none(time: str) -> None:
    """History could not count it, so live it would be shown as another."""
    line = f"{time} stdout F hello".encode()
    assert cri.clean(line + b"\n") == 0
    assert cri.read_part(line) is None
    before = cri_line(1, "stdout", b"one")
    assert cri.clean(before + line + b"\n") == len(before)


def test_a_run_goes_on_over_hours_and_days() -> None:
    hour = 3_600_000_000_000
    data = b"".join(cri_line(number * hour * 13, "stdout", b"x") for number in range(200))
    assert cri.clean(data) == len(data)
    assert cri.clean(b"2024-02-29T23:59:59.9+05:30 stdout F leap\n") > 0


def test_a_line_without_its_newline_is_not_taken() -> None:
    whole = cri_line(0, "stdout", b"one")
    assert cri.clean(whole + cri_line(0, "stdout", b"two")[:-1]) == len(whole)


def test_a_message_longer_than_a_line_may_be_is_not_clean() -> None:
    assert cri.clean(cri_line(0, "stdout", b"x" * (MAX_LINE - 64))) > 0
    assert cri.clean(cri_line(0, "stdout", b"x" * (MAX_LINE + 1))) == 0


@given(times, streams, messages, st.sampled_from(["F", "P", "F:platform", "P:platform", "F:new:tags"]))
def test_a_part_is_read_as_it_was_written(at: int, stream: str, message: bytes, tag: str) -> None:
    part = cri.read_part(cri_line(at, stream, message, tag)[:-1])
    assert part == (cri_time(at), stream.encode(), tag[0] == "P", tag.endswith(":platform"), message)


def test_an_empty_message_may_lack_its_space() -> None:
    part = cri.read_part(b"2026-11-23T02:00:00Z stdout F")
    assert part is not None
    assert part.message == b""


@given(noise)
def test_anything_can_be_asked_whether_it_is_a_part(line: bytes) -> None:
    part = cri.read_part(line)
    if part is not None:
        assert b"\n" not in part.message
        cri.time_ns(cri.utc(part.time))


@given(times, streams, messages, st.booleans())
def test_a_line_of_a_chunk_is_parsed_with_its_time_padded(at: int, stream: str, message: bytes, partial: bool) -> None:
    line = cri.format_line(cri_time(at), stream.encode(), message, partial=partial)
    padded, parsed_stream, parsed_partial, parsed_message = cri.parse(line[:-1])
    assert len(padded) == 30
    assert cri.time_ns(padded) == at
    assert (parsed_stream, parsed_partial, parsed_message) == (stream.encode(), partial, message)


@given(st.lists(messages, min_size=1))
def test_lines_are_cut_at_newlines_and_nowhere_else(texts: list[bytes]) -> None:
    value = b"".join(cri_line(0, "stdout", text) for text in texts)
    assert [cri.parse(line)[3] for line in cri.lines(value)] == texts


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001 - the zone is drawn apart
def test_offsets_become_utc(local: datetime, minutes: int) -> None:
    aware = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    got = cri.utc(aware.isoformat(timespec="microseconds").encode())
    assert got == aware.astimezone(UTC).isoformat(timespec="microseconds")[:26].encode() + b"000Z"


@given(times)
def test_times_are_written_and_read_back(at: int) -> None:
    assert cri.time_ns(cri.format_time(at)) == at


def test_times_no_calendar_has_are_numbers_all_the_same() -> None:
    for text in (b"0000-00-00T00:00:00Z", b"9999-99-99T99:99:99.999999999Z", b"0000-01-01T00:00:00+14:00"):
        assert isinstance(cri.time_ns(cri.utc(text)), int)
