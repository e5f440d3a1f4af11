"""The judges are judged first: a Tally that misses a fault would let every promise pass."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Tally, cri_line, cri_parts, cri_time, eventually, loghub, numbered, until


def tally_of(*numbers: int, from_start: bool = True) -> Tally:
    tally = Tally(from_start=from_start)
    for seq in numbers:
        tally.feed(numbered("w", seq))
    return tally


def test_everything_once_and_in_order_passes() -> None:
    tally_of(*range(1000)).check({"w": 1000})


@pytest.mark.parametrize(
    ("numbers", "written", "verdict"),
    [
        ((0, 1, 3), 4, "lost 1, doubled 0, misordered 0"),
        ((1, 2), 3, "lost 1, doubled 0, misordered 0"),
        ((0, 1), 3, "lost 1, doubled 0, misordered 0"),
        ((), 2, "lost 2, doubled 0, misordered 0"),
        ((0, 1, 1, 2), 3, "lost 0, doubled 1, misordered 0"),
        ((0, 2, 1), 3, "lost 0, doubled 0, misordered 1"),
        ((0, 1, 2, 0, 1, 2), 3, "lost 0, doubled 3, misordered 0"),
    ],
)
def test_each_fault_is_told_by_its_name(numbers: tuple[int, ...], written: int, verdict: str) -> None:
    with pytest.raises(AssertionError, match=verdict):
        tally_of(*numbers).check({"w": written})


def test_a_line_that_nobody_wrote_is_a_fault() -> None:
    with pytest.raises(AssertionError, match="nobody wrote"):
        tally_of(0, 1, 2).check({"w": 2})


def test_one_dropped_line_among_many_writers_is_found() -> None:
    lines = [numbered(f"w{writer}", seq, b"x" * 20) for seq in range(500) for writer in range(5)]
    del lines[random.Random(1).randrange(len(lines))]
    tally = Tally()
    assert tally.feed(b"\n".join(lines)) == 2499
    with pytest.raises(AssertionError, match="lost 1, doubled 0, misordered 0"):
        tally.check({f"w{writer}": 500 for writer in range(5)})


def test_a_tail_that_joins_late_counts_from_there() -> None:
    tally = tally_of(7, 8, 9, from_start=False)
    tally.check({"w": 10})
    assert tally_of(7, 9, from_start=False).lost({"w": 10}) == 1


def test_cri_times_are_trimmed_as_containerd_trims_them() -> None:
    assert cri_time(1_763_863_200_123_456_789) == b"2025-11-23T02:00:00.123456789Z"
    assert cri_time(1_763_863_200_120_000_000) == b"2025-11-23T02:00:00.12Z"
    assert cri_time(1_763_863_200_000_000_000) == b"2025-11-23T02:00:00Z"


def test_cri_lines_and_parts() -> None:
    assert cri_line(0, "stderr", b"hello") == b"1970-01-01T00:00:00Z stderr F hello\n"
    lines = cri_parts(1, "stdout", b"a" * 40_000).splitlines()
    assert [line.split(b" ")[2] for line in lines] == [b"P", b"P", b"F"]
    assert b"".join(line.split(b" ", 3)[3] for line in lines) == b"a" * 40_000


def test_loghub_has_ten_logs() -> None:
    assert len(loghub("Apache")) == 2000
    assert len(loghub()) == 20_000


async def test_until_returns_what_it_waited_for() -> None:
    states = iter([None, None, "ready"])
    assert await until(lambda: next(states)) == "ready"


async def test_until_gives_up_and_says_on_what() -> None:
    with pytest.raises(AssertionError, match="the moon"):
        await until(lambda: False, deadline=0.02, what="the moon")


def test_eventually_needs_no_loop() -> None:
    assert eventually(lambda: 3) == 3


WRITES = """
import sys, time
with open(sys.argv[1], "wb", buffering=0) as file:
    began = time.monotonic()
    for _ in range(6):
        file.write(b"x")
    print(time.monotonic() - began)
"""


def test_a_slow_disk_holds_each_write_below_its_folder(tmp_path: Path) -> None:
    (tmp_path / "delay").write_text("0.5")
    (tmp_path / "data").mkdir()
    disk = [sys.executable, "-m", "tests.support.slow_disk", tmp_path / "data", tmp_path / "delay"]

    def seconds(file: Path) -> float:
        return float(subprocess.check_output([*disk, sys.executable, "-c", WRITES, file]))

    assert seconds(tmp_path / "data" / "file") > 3
    assert seconds(tmp_path / "elsewhere") < 3
    (tmp_path / "delay").unlink()
    assert seconds(tmp_path / "data" / "file") < 3
