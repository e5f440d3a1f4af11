"""The nouns: what is written of them is read again as the same, and nothing else is taken for them."""

import tracemalloc
from zlib import crc32

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logsvc.errors import BadCursor, BadKey
from logsvc.model import AppId, Chunk, Cursor, Origin, Stream, notices_of

cursors = st.builds(
    Cursor, st.integers(0, 10**9 - 1), st.integers(0, 99_999), st.integers(0, 10**18 - 1), st.integers(-1, 10**9 - 1)
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
streams = st.builds(Stream, names, names, names, names, names, names, st.integers(0, 7))


@given(cursors)
def test_a_cursor_is_read_as_it_was_written(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor


@given(cursors, cursors)
def test_cursors_of_an_app_compare_in_the_order_of_its_log(one: Cursor, other: Cursor) -> None:
    one, other = one._replace(epoch=1, partition=2), other._replace(epoch=1, partition=2)
    assert (one < other) == ((one.offset, one.line) < (other.offset, other.line))


@given(st.text(max_size=12))
@example("1.2.3.4\n")
@example("1.2.3.-2")
@example("+1.2.3.4")
@example("1.2.3.٤")
@example("1.2.3.1e3")
@example("1234567890.0.0.0")
def test_what_is_no_cursor_is_refused(text: str) -> None:
    parts = text.split(".")
    if len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts) and len(parts[0]) < 10:
        return
    with pytest.raises(BadCursor):
        Cursor.parse(text)


@given(streams)
def test_a_key_is_canonical_and_gives_one_and_the_same_stream(stream: Stream) -> None:
    fields = orjson.loads(stream.key())
    assert list(fields) == sorted(fields)
    assert Stream.of(stream.key()) == stream
    assert Stream.of(stream.key()) is Stream.of(bytes(stream.key()))


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"app":"a"}',
        b'{"app":1,"dyno":"","incarnation":"","process":"","retention":0,"source":"","tenant":""}',
        b'{"app":"","dyno":"","incarnation":"","process":"","retention":"0","source":"","tenant":""}',
        b'{"app":"","dyno":"","incarnation":"","process":"","retention":true,"source":"","tenant":""}',
        b'{"app":"","dyno":"","incarnation":"","process":"","retention":0,"source":"","tenant":"","more":1}',
    ],
)
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(BadKey):
        Stream.of(key)


bytes_of_file = st.integers(0, 2**53)
held = st.lists(st.tuples(names, bytes_of_file), max_size=2).map(tuple)


@given(st.builds(Origin, names, names, bytes_of_file, bytes_of_file, st.integers(0, 2**32 - 1), held))
def test_an_origin_is_read_as_it_was_written(origin: Origin) -> None:
    assert Origin.parse(origin.header()) == origin


def test_what_is_kept_of_keys_and_origins_is_no_more_than_their_bytes() -> None:
    tracemalloc.start()
    try:
        kept = [
            (Stream("t", "a", "web", "web.1", "app", str(number)).key(), Origin("n", str(number), 0, 1).header())
            for number in range(100)
        ]
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used < len(kept) * 1000


def test_the_partition_is_the_documented_one() -> None:
    assert AppId("local", "demo").partition(64) == crc32(b"local\0demo") % 64


def test_notices_are_told_from_what_an_app_could_write() -> None:
    assert notices_of(AppId("t", "a")).is_notice
    assert not Stream("t", "a", "logsvc", "logsvc", "app", "").is_notice
    assert not Stream("t", "a", "web", "web.1", "platform", "").is_notice


def test_a_chunk_numbers_its_lines_as_they_were_written() -> None:
    stream = Stream("t", "a", "web", "web.1", "app", "")
    assert list(Chunk(1, 2, 3, 0, stream, b"x\ny\n").numbers) == [0, 1]
    assert list(Chunk(1, 2, 3, 0, stream, b"x\ny\n", indices=[4, 7]).numbers) == [4, 7]
