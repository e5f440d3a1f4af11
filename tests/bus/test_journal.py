"""A journal whose files were cut, damaged or taken away: the sound part is kept, or the loss is named, never silent."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logsvc.bus.journal import Append, Journal
from logsvc.bus.records import GAP
from logsvc.errors import BusError, ConfigError
from logsvc.model import Chunk
from tests.support.bus import stream

PARTITIONS = 3
STREAM = stream()


@contextmanager
def opened(folder: Path, committed: list[int] | None = None, *, lost_power: bool = False) -> Iterator[Journal]:
    journal = Journal(folder, PARTITIONS, segment_bytes=1000, recent_bytes=0)
    with closing(journal):
        journal.load(committed or [0] * PARTITIONS, lost_power=lost_power)
        yield journal


def append(journal: Journal, numbers: range) -> None:
    for number in numbers:
        value = b"line %d %b\n" % (number, b"x" * (number % 50))
        batch = journal.batch([Append(STREAM, STREAM.key(), number % PARTITIONS, value, b"", 0)], number)
        batch.write()
        journal.land(batch)


def numbers(journal: Journal) -> list[int]:
    """What is in there, in the order of the journal."""
    found: list[int] = []
    serial = 0
    while serial < journal.serial:
        items = journal.sequence(serial, 500)()
        found += [int(item.value.split()[1]) for item in items if isinstance(item, Chunk)]
        serial += len(items)
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of the numbers 0 to 29 in several segments."""
    folder = tmp_path_factory.mktemp("written")
    with opened(folder) as journal:
        append(journal, range(30))
        assert numbers(journal) == list(range(30))
    assert len(segments(folder)) >= 4
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "journal"))


def test_what_was_written_is_found_again_and_goes_on(folder: Path):
    with opened(folder) as journal:
        assert numbers(journal) == list(range(30))
        assert journal.next == [10, 10, 10]
        append(journal, range(30, 40))
    with opened(folder) as journal:
        assert numbers(journal) == list(range(40))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cut_anywhere_the_last_segment_keeps_all_before_the_cut(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    folder = Path(shutil.copytree(written, tmp_path_factory.mktemp("cut") / "journal"))
    last = segments(folder)[-1]
    cut = data.draw(st.integers(0, last.stat().st_size - 1))
    with opened(folder) as journal:
        segment = journal.segments[-1]
        ends = [segment.span(number)[1] for number in range(len(segment.starts))]
        kept = segment.first + sum(end <= cut for end in ends)
    with last.open("r+b") as file:
        file.truncate(cut)

    with opened(folder) as journal:
        assert numbers(journal) == list(range(kept))
        append(journal, range(kept, 35))
    with opened(folder) as journal:
        assert numbers(journal) == list(range(35))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_bit_changed_anywhere_is_named_or_was_in_the_last_record(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    folder = Path(shutil.copytree(written, tmp_path_factory.mktemp("flip") / "journal"))
    with opened(folder) as journal:
        last_record = journal.segments[-1].starts[-1]
    path = data.draw(st.sampled_from(segments(folder)))
    at = data.draw(st.integers(0, path.stat().st_size - 1))
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    named = f"{path.name}|newer logsvc" if 8 <= at < 12 else path.name
    if path == segments(folder)[-1] and at >= last_record:
        # Not to be told from a write that was cut short, except by what somebody was told.
        with opened(folder) as journal:
            assert numbers(journal) == list(range(29))
    else:
        with pytest.raises(BusError, match=named), opened(folder):
            pass


def test_a_damaged_segment_can_be_given_up_and_the_rest_is_read(folder: Path):
    damaged = segments(folder)[1]
    content = bytearray(damaged.read_bytes())
    content[-200] ^= 1
    damaged.write_bytes(content)
    with (
        pytest.raises(BusError, match=f"{damaged.name} at byte .* rename it to {damaged.name}.damaged"),
        opened(folder),
    ):
        pass

    damaged.rename(damaged.with_name(damaged.name + ".damaged"))
    with opened(folder) as journal:
        found = numbers(journal)
        assert found == sorted(set(found))
        assert 15 < len(found) < 30
        fetched = journal.files(0, 0, 1 << 20)()
        while fetched.next < journal.next[0]:  # reading gets over the hole
            fetched = journal.files(0, fetched.next, 1 << 20)()
        assert fetched.chunks[-1].value.startswith(b"line 27 ")


def test_the_newest_segment_given_up_leaves_its_offsets_unused(folder: Path):
    last = segments(folder)[-1]
    last.rename(last.with_name(last.name + ".damaged"))
    with opened(folder) as journal:
        assert all(offset > GAP for offset in journal.next)
        append(journal, range(100, 110))
    with opened(folder) as journal:
        assert numbers(journal)[-10:] == list(range(100, 110))


def test_a_missing_segment_is_named(folder: Path):
    missing = segments(folder)[1]
    missing.unlink()
    with pytest.raises(BusError, match=f"{missing.name} is missing"), opened(folder):
        pass


def test_an_older_segment_cut_at_a_record_is_no_silent_loss(folder: Path):
    with opened(folder) as journal:
        second = journal.segments[1]
        path, start = second.path, second.starts[-1]
    with path.open("r+b") as file:
        file.truncate(start)
    with pytest.raises(BusError, match=path.name), opened(folder):
        pass


def test_zeros_behind_the_last_record_are_cut_off(folder: Path):
    with segments(folder)[-1].open("ab") as file:
        file.write(bytes(5000))
    with opened(folder) as journal:
        assert numbers(journal) == list(range(30))


def test_after_a_power_loss_offsets_that_somebody_may_have_seen_are_not_used_again(folder: Path):
    with opened(folder, lost_power=True) as journal:
        assert journal.next == [10 + GAP] * PARTITIONS
        assert numbers(journal) == list(range(30))
        append(journal, range(30, 33))
    with opened(folder) as journal:
        assert journal.next == [11 + GAP] * PARTITIONS
        assert numbers(journal) == list(range(33))


def test_a_store_that_is_ahead_of_the_journal_loses_nothing_to_come(folder: Path):
    with opened(folder, committed=[12, 5, 0]) as journal:
        assert journal.next == [12, 10, 10]
        append(journal, range(30, 31))
        assert journal.files(0, 12, 1)().chunks[0].value.startswith(b"line 30 ")


def test_time_does_not_go_back_with_the_clock(folder: Path):
    with opened(folder) as journal:
        batch = journal.batch([Append(STREAM, STREAM.key(), 0, b"line 30\n", b"", 0)], 5)
        batch.write()
        journal.land(batch)
        assert journal.files(0, 10, 1)().chunks[0].appended == 29


def test_another_number_of_partitions_is_refused(folder: Path):
    journal = Journal(folder, 5, segment_bytes=1000, recent_bytes=0)
    with closing(journal), pytest.raises(ConfigError, match="made with 3 partitions"):
        journal.load([0] * 5, lost_power=False)


def test_files_of_others_are_left_alone(folder: Path):
    (folder / "notes.journal").write_bytes(b"mine")
    with opened(folder) as journal:
        assert numbers(journal) == list(range(30))
    assert (folder / "notes.journal").read_bytes() == b"mine"
