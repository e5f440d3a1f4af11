"""The file of `logsvc backup`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.bus.kafka_copy import Copy
from logsvc.errors import FormatError, NewerFormat

texts = st.text().map(str.encode)
values = st.dictionaries(texts, texts)
copies = st.builds(Copy, made=st.integers(0, 2**60), control=values, drains=st.lists(values).map(tuple))


@given(copies)
def test_a_copy_reads_as_it_was_written(copy: Copy) -> None:
    assert Copy.parse(copy.encode()) == copy


def test_what_another_tool_wrote_is_left_out() -> None:
    assert Copy.parse(Copy(1, {b"\xff": b"", b"k": b"v"}, ()).encode()) == Copy(1, {b"k": b"v"}, ())


def test_epochs_are_those_that_the_records_tell_of() -> None:
    epoch = b'{"partitions":2,"created":1,"topic_id":"a"}'
    control = {b"epoch/1/aa": epoch, b"epoch/1/bb": b"{}", b"sealed/1/cc": b'{"ends":[5,6]}', b"epoch/2/dd": epoch}
    epochs = Copy(1, control, ()).epochs
    assert {number: each.sealed for number, each in epochs.items()} == {1: {0: 5, 1: 6}, 2: None}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"[]\n",
        b'{"v":1,"made":1}\n',
        b'{"v":1,"made":1,"partitions":1}\n{"topic":"drains","partition":1,"key":"a","value":"b"}\n',
        b'{"v":1,"made":1,"partitions":1}\n{"topic":"other","partition":0,"key":"a","value":"b"}\n',
        b'{"v":1,"made":1,"partitions":1}\n{"topic":"control","partition":0,"key":1,"value":"b"}\n',
    ],
)
def test_what_is_no_copy_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        Copy.parse(data)


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(NewerFormat, match="format 2"):
        Copy.parse(b'{"v":2}\n')
