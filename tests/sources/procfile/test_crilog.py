"""What a process writes is in its CRI files byte for byte, as containerd writes it, and no app can forge a tag."""

import errno
import os
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.sources.procfile.crilog import PART, CriFramer, CriLog
from tests.sources.procfile.support import largest_file
from tests.support import cri_line, cri_parts, cri_time

NOW = 1_795_409_508_670_357_571
LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z (stdout|stderr) (F|P|F:platform) ([^\n]*)\n",
)


def messages(framed: bytes) -> dict[str, list[bytes]]:
    """The messages by stream, parts joined; whatever is no CRI line fails."""
    joined: dict[str, list[bytes]] = {"stdout": [], "stderr": [], "platform": []}
    parts = {b"stdout": b"", b"stderr": b""}
    for line in framed.splitlines(keepends=True) if b"\r" not in framed else re.findall(rb"[^\n]*\n", framed):
        match = LINE.fullmatch(line)
        assert match, line[:80]
        assert match[2] is None or not match[2].endswith(b"0")
        assert len(match[5]) <= PART
        if match[4] == b"P":
            parts[match[3]] += match[5]
        elif match[4] == b"F":
            joined[match[3].decode()].append(parts[match[3]] + match[5])
            parts[match[3]] = b""
        else:
            joined["platform"].append(match[5])
    assert not any(parts.values())
    return joined


def times(framed: bytes) -> list[int]:
    found = []
    for whole, fraction in re.findall(rb"^(\S{19})(?:\.(\d+))?Z ", framed, re.MULTILINE):
        second = time.strptime(whole.decode() + "Z", "%Y-%m-%dT%H:%M:%SZ")
        epoch = int(time.mktime(second)) - time.timezone
        found.append(epoch * 10**9 + int(fraction.ljust(9, b"0") or b"0"))
    return found


pieces = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b"\n", b"\n\n\n", b"\r\n", b"\0", b"\xff\xfe", b"2026-11-23T02:00:00Z stdout F:platform forged\n"]
    ),
    st.integers(0, 3 * PART).map(lambda size: b"x" * size),
    st.sampled_from([PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1]).map(lambda size: b"y" * size),
)


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), pieces), max_size=30), st.integers(0, 2 * 10**18))
def test_every_byte_comes_back_however_the_reads_were_cut(reads, now):
    framer = CriFramer(lambda: now)
    framed = b"".join(framer.feed(stream, data) for stream, data in reads)
    framed += framer.finish("stdout") + framer.finish("stderr")
    found = messages(framed) if framed else {"stdout": [], "stderr": []}
    for stream in ("stdout", "stderr"):
        lines = b"".join(data for name, data in reads if name == stream).split(b"\n")
        assert found[stream] == lines[: None if lines[-1] else -1]


@given(st.lists(st.integers(1, 2500), min_size=1, max_size=5), st.integers(0, 2 * 10**18))
def test_times_are_unique_and_rise_while_the_clock_stands(counts, now):
    framer = CriFramer(lambda: now)
    framed = b"".join(framer.feed("stdout", b"a\n" * count) for count in counts)
    assert re.findall(rb"^\S+", framed, re.MULTILINE) == [cri_time(now + n) for n in range(sum(counts))]


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1, 10_000_000])
def test_a_line_over_16_kib_is_written_in_parts_as_containerd_does(size):
    framer = CriFramer(lambda: NOW)
    message = os.urandom(size).replace(b"\n", b" ")
    assert framer.feed("stderr", message + b"\n") == cri_parts(NOW, "stderr", message)


def test_parts_of_an_unfinished_line_do_not_wait_for_its_end():
    framer = CriFramer(lambda: NOW)
    early = framer.feed("stdout", b"x" * (PART + 1))
    assert early == cri_line(NOW, "stdout", b"x" * PART, "P")
    assert framer.feed("stdout", b"y\n") == cri_line(NOW + 1, "stdout", b"xy")


def test_an_unfinished_line_is_a_full_one_when_the_process_ends():
    framer = CriFramer(lambda: NOW)
    assert framer.feed("stdout", b"no newline") == b""
    assert framer.finish("stdout") == cri_line(NOW, "stdout", b"no newline")
    assert framer.finish("stdout") == b""


def test_platform_lines_have_a_tag_of_their_own_and_are_one_line():
    framer = CriFramer(lambda: NOW)
    assert framer.platform("State changed\nfrom up\r to down") == cri_line(
        NOW, "stdout", b"State changed from up  to down", "F:platform"
    )
    assert b"F:platform" not in framer.feed("stdout", b"hello\n")


def test_times_follow_a_clock_that_is_set_back_but_not_one_that_trembles():
    clock = iter([NOW, NOW - 500, NOW - 3_600 * 10**9])
    framer = CriFramer(lambda: next(clock))
    framed = b"".join(framer.feed("stdout", b"a\n") for _ in range(3))
    first, trembled, set_back = times(framed)
    assert (trembled - first, set_back - first) == (1, -3_600 * 10**9)


class Folder:
    """A log in a folder, with what it was asked to tidy."""

    def __init__(self, path: Path, rotate_bytes: int = 10_000) -> None:
        self.path = path
        self.rotations: list[CriLog] = []
        self.now = NOW
        self.log = CriLog(
            path / "0.log", rotate_bytes=rotate_bytes, rotated=self.rotations.append, clock=lambda: self.now
        )

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())


def test_a_large_file_is_renamed_as_the_kubelet_does_and_a_new_one_begun(tmp_path: Path):
    folder = Folder(tmp_path)
    folder.log.write(b"a" * 9_999)
    assert folder.files() == ["0.log"]
    folder.log.write(b"b")
    assert folder.files() == ["0.log", "0.log.20261123-045148"]
    assert (tmp_path / "0.log").stat().st_size == 0
    assert folder.rotations == [folder.log]
    folder.log.close()


def test_names_of_rotated_files_are_unique_and_in_order_under_a_flood(tmp_path: Path):
    folder = Folder(tmp_path, rotate_bytes=1)
    for number in range(100):
        folder.log.write(b"%d" % number)
        folder.now += 10_000_000 if number != 50 else -(10**12)
    rotated = [name for name in folder.files() if name != "0.log"]
    assert [(tmp_path / name).read_bytes() for name in rotated] == [b"%d" % n for n in range(100)]
    assert all(a < b for a, b in pairwise(rotated))
    folder.log.close()


def test_what_a_full_disk_does_not_take_stays_owed_and_follows_later(tmp_path: Path):
    """A limit on file size stands for the full disk: the kernel takes what fits, then refuses."""
    folder = Folder(tmp_path)
    with largest_file(3):
        assert folder.log.write(b"abcdef\n") is False
        assert folder.log.error is not None
        assert folder.log.error.errno == errno.EFBIG
        assert folder.log.write(b"ghi\n") is False
        assert (tmp_path / "0.log").read_bytes() == b"abc"
    assert folder.log.flush() is True
    assert (tmp_path / "0.log").read_bytes() == b"abcdef\nghi\n"
    folder.log.close()


def test_a_file_that_is_there_is_never_written_into(tmp_path: Path):
    (tmp_path / "0.log").write_bytes(b"another run's")
    with pytest.raises(FileExistsError):
        Folder(tmp_path)
