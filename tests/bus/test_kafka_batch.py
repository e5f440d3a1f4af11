"""Batches as aiokafka reads them, with records of every shape that logsvc writes."""

from aiokafka.record.memory_records import MemoryRecords
from hypothesis import example, given
from hypothesis import strategies as st
from zstandard import ZstdCompressor

from logsvc.bus.kafka_batch import Outgoing, encode

COMPRESS = ZstdCompressor(level=1).compress
NAMES = st.sampled_from(["v", "o", "p", "f"])
RECORDS = st.builds(
    Outgoing,
    st.none() | st.binary(max_size=200),
    st.binary(max_size=300),
    st.lists(st.tuples(NAMES, st.binary(max_size=200)), max_size=3),
)


@given(st.lists(RECORDS, min_size=1, max_size=200), st.integers(0, 2**31 - 1), st.integers(0, 2**15 - 1))
@example([Outgoing(b"k" * 63, b"x" * 8191, [("o", b"y" * 64)]), Outgoing(None, b"", [])], 2**31 - 1, 0)
@example([Outgoing(b"k" * 64, b"x" * 524_288, [("o", b"y" * 63)])] * 2, 0, 7)
def test_a_batch_is_read_as_it_was_written(records: list[Outgoing], sequence: int, epoch: int):
    data = encode(records, (2**62 + 1, epoch), sequence, COMPRESS)
    batches = MemoryRecords(data)
    assert batches.has_next()
    batch = batches.next_batch()
    assert batch.validate_crc()
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (2**62 + 1, epoch, sequence)
    assert not batch.is_transactional
    assert batch.next_offset == len(records)
    assert [(r.offset, r.key, r.value, [*r.headers]) for r in batch] == [
        (number, record.key, record.value, [*record.headers]) for number, record in enumerate(records)
    ]
    assert len(data) <= sum(record.size for record in records) + 1024
    assert not batches.has_next()
