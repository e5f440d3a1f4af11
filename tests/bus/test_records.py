"""The journal's format gives back what was written, whatever it is, and takes nothing else for a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.bus.records import Head, Record, decode, encode, new_head, places, sound_record_behind
from logsvc.errors import NewerFormat

SEED = 0x5EED

records = st.builds(
    Record,
    partition=st.integers(0, 65535),
    offset=st.integers(0, 2**63),
    appended=st.integers(0, 2**63),
    flags=st.integers(0, 255),
    key=st.binary(max_size=50),
    origin=st.binary(max_size=50),
    value=st.binary(max_size=200),
)


def written(what: list[Record]) -> bytes:
    return b"".join(encode(record, SEED) + record.value for record in what)


def read(buffer: bytes) -> list[Record | None]:
    return [decode(buffer, place.start, place.end, SEED) for place in places(buffer, SEED)]


@given(st.lists(records, max_size=5))
def test_records_come_back(what: list[Record]):
    assert read(written(what)) == what


@given(st.lists(records, max_size=5), st.data())
def test_a_cut_buffer_gives_the_whole_records_before_the_cut(what: list[Record], data: st.DataObject):
    buffer = written(what)
    cut = data.draw(st.integers(0, len(buffer)))
    whole = [count for count in range(len(what) + 1) if len(written(what[:count])) <= cut]
    assert read(buffer[:cut]) == what[: whole[-1]]


@given(st.lists(records, min_size=1, max_size=3), st.data())
def test_any_changed_bit_ends_the_reading_at_its_record(what: list[Record], data: st.DataObject):
    buffer = bytearray(written(what))
    at = data.draw(st.integers(0, len(buffer) - 1))
    buffer[at] ^= 1 << data.draw(st.integers(0, 7))
    sound = max(count for count in range(len(what)) if len(written(what[:count])) <= at)
    assert read(bytes(buffer)) == what[:sound]


def test_a_line_that_looks_like_a_record_is_not_taken_for_one():
    inner = Record(1, 2, 3, 0, b"key", b"", b"forged\n")
    forged = encode(inner, 0) + inner.value
    outer = encode(Record(1, 2, 3, 0, b"key", b"", forged), SEED) + forged
    assert sound_record_behind(outer, 0, 1) is not None
    assert sound_record_behind(outer, SEED, 1) is None


@given(st.binary(max_size=100))
def test_a_sound_record_is_found_behind_anything(before: bytes):
    record = Record(1, 2, 3, 0, b"key", b"", b"line\n")
    buffer = before + written([record])
    assert sound_record_behind(buffer, SEED, 0) == len(before)


@given(st.lists(st.integers(0, 2**60), max_size=70), st.binary(max_size=40))
def test_a_head_comes_back_and_a_cut_one_is_known(following: list[int], behind: bytes):
    head = new_head(7, 3, following, 1234, jumps=True)
    encoded = head.encode()
    assert Head.decode(encoded + behind) == (head, len(encoded))
    for cut in range(len(encoded)):
        assert Head.decode(encoded[:cut]) is None
        assert Head.begins(encoded[:cut])


@given(st.integers(0, 59), st.integers(0, 7))
def test_a_damaged_head_is_not_taken_for_a_cut_one(at: int, bit: int):
    encoded = bytearray(new_head(7, 3, [1, 2, 3], 1234).encode())
    encoded[at] ^= 1 << bit
    try:
        assert Head.decode(bytes(encoded)) is None
        assert not Head.begins(bytes(encoded))
    except NewerFormat:
        assert 8 <= at < 12


def test_a_newer_format_is_refused():
    encoded = bytearray(new_head(7, 3, [1, 2, 3], 1234).encode())
    encoded[8] = 2
    with pytest.raises(NewerFormat, match="format 2"):
        Head.decode(bytes(encoded))
