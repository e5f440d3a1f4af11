"""The reader's side of server-sent events: exact however the stream is split, and never an event that was cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.client.sse import Event, Parser
from logsvc.errors import ClientError


def parse(*parts: bytes) -> list[Event]:
    parser = Parser()
    return [event for part in parts for event in parser.feed(part)]


def by_the_letter(stream: bytes) -> list[Event]:
    """The standard's algorithm, line by line, with nothing done in bulk."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[Event] = []
    data: list[bytes] = []
    last_id, kind, seen = "", "message", False
    for line in text.split(b"\n")[:-1]:
        if not line:
            if data or seen:
                events.append(Event(kind, data, last_id))
            kind, data, seen = "message", [], False
            continue
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            data.append(value)
        elif name == b"id" and b"\0" not in value:
            last_id, seen = value.decode("utf-8", "replace"), True
        elif name == b"event":
            kind = value.decode("utf-8", "replace") or "message"
    return events


fields = st.sampled_from(
    [b"data: ", b"data:", b"data", b"data:  ", b"id: ", b"id:", b"id", b"event: ", b"event", b": ", b"retry: ", b"x: "]
)
values = st.one_of(
    st.sampled_from([b"", b"1.37.5.6", b"end", b"notice", b"{}", b"0", b"a\0b", b"data: ", b"\xff", b"\xef\xbb\xbf"]),
    st.binary(max_size=8).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"")),
)
ends = st.sampled_from([b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b"\r\r", b"\n\r\n", b"\r\n\n", b"\n\n\n"])
streams = st.builds(
    lambda bom, lines, tail: bom + b"".join(map(b"".join, lines)) + tail,
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\n"]),
    st.lists(st.tuples(fields, values, ends), max_size=12),
    st.sampled_from([b"", b"data: cut", b"id: 9"]),
)


@given(streams, st.lists(st.integers(0, 200), max_size=12))
def test_however_the_stream_is_split_the_events_are_those_of_the_standard(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[start:end] for start, end in pairwise(places)]
    assert parse(*parts) == by_the_letter(stream)


@given(streams)
def test_a_byte_at_a_time_is_the_same(stream: bytes) -> None:
    assert parse(*(stream[at : at + 1] for at in range(len(stream)))) == by_the_letter(stream)


@given(
    st.lists(st.lists(st.sampled_from([b"{}", b"", b"data: ", b'{"a":1}', b" "]), min_size=1), min_size=1), st.data()
)
def test_a_cut_stream_gives_whole_events_only(events: list[list[bytes]], data: st.DataObject) -> None:
    blocks = [b"id: %d\n" % n + b"".join(b"data: %b\n" % line for line in lines) for n, lines in enumerate(events)]
    stream = b"".join(block + b"\n" for block in blocks)
    cut = data.draw(st.integers(0, len(stream)))
    got = parse(stream[:cut])
    assert got == [Event("message", lines, str(n)) for n, lines in enumerate(events)][: len(got)]
    assert sum(len(block) + 1 for block in blocks[: len(got)]) <= cut


def test_an_event_is_seen_as_soon_as_its_blank_line_is() -> None:
    parser = Parser()
    assert parser.feed(b"id: 1\r\ndata: x\r\n") == []
    assert parser.feed(b"\r") == [Event("message", [b"x"], "1")]
    assert parser.feed(b"\ndata: y\n\n") == [Event("message", [b"y"], "1")]


def test_a_heartbeat_moves_the_id_on_and_has_no_data() -> None:
    assert parse(b"id: 1.2.3.4\n\n: comment\n\n") == [Event("message", [], "1.2.3.4")]


def test_the_stream_says_how_long_to_wait_before_reconnecting() -> None:
    parser = Parser()
    assert parser.feed(b"retry: 1500\n\nretry: soon\n\n") == []
    assert parser.retry == 1.5


def test_an_event_without_end_does_not_fill_the_memory() -> None:
    parser = Parser(limit=100)
    for _ in range(6):
        assert parser.feed(b"data: and so on\n") == []
    with pytest.raises(ClientError, match="more than 100 bytes"):
        parser.feed(b"data: and so on\n")


def test_long_events_are_taken_apart_alike_alone_or_in_company() -> None:
    lines = [b"{%d}" % n for n in range(2000)]
    long = b"id: 1\n" + b"".join(b"data: %b\n" % line for line in lines) + b"\n"
    other = b"event: notice\nid: 2\ndata: {}\n\n"
    both = [Event("message", lines, "1"), Event("notice", [b"{}"], "2")]
    assert parse(long) == both[:1]
    assert parse(long, other) == both
    assert parse(long + other) == both
    assert parse(long + long + other) == both[:1] + both
    assert parse(long[:-1] + b"data\n\n") == [Event("message", [*lines, b""], "1")]
