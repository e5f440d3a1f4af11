"""Rotated files are compressed and deleted as the kubelet does it, also after a crash in the middle."""

import gzip
from pathlib import Path

from logsvc.sources.procfile.rotation import compress_one, drop_oldest, drop_restarts, rotated_files


def rotated(folder: Path, *seconds: int) -> Path:
    log = folder / "0.log"
    log.write_bytes(b"now")
    for second in seconds:
        (folder / f"0.log.20261123-0451{second:02}").write_bytes(b"%d" % second)
    return log


def tidy(log: Path, keep: int) -> None:
    """What the runner does after a rotation, to the end."""
    assert drop_oldest(log, keep, None) <= keep
    while compress_one(log):
        pass


def names(folder: Path) -> list[str]:
    return sorted(path.name.removeprefix("0.log.20261123-0451") for path in folder.iterdir())


def test_the_newest_stays_plain_older_ones_are_compressed_the_oldest_go(tmp_path: Path):
    log = rotated(tmp_path, 1, 2, 3, 4, 5, 6)
    tidy(log, keep=4)
    assert names(tmp_path) == ["0.log", "03.gz", "04.gz", "05.gz", "06"]
    assert [gzip.decompress(path.read_bytes()) for path in rotated_files(log)[:-1]] == [b"3", b"4", b"5"]


def test_what_is_not_collected_stays_and_so_does_everything_newer(tmp_path: Path):
    log = rotated(tmp_path, 1, 2, 3, 4, 5, 6)
    assert drop_oldest(log, 2, lambda path: not path.name.endswith("02")) == 5
    assert names(tmp_path) == ["0.log", "02", "03", "04", "05", "06"]


def test_a_crash_in_the_middle_of_compressing_leaves_no_half_file(tmp_path: Path):
    log = rotated(tmp_path, 1, 2)
    (tmp_path / "0.log.20261123-045101.tmp").write_bytes(b"half a gzip")
    tidy(log, keep=4)
    assert names(tmp_path) == ["0.log", "01.gz", "02"]


def test_a_crash_between_compressing_and_deleting_leaves_the_file_once(tmp_path: Path):
    log = rotated(tmp_path, 1, 2)
    (tmp_path / "0.log.20261123-045101.gz").write_bytes(gzip.compress(b"1"))
    tidy(log, keep=4)
    assert names(tmp_path) == ["0.log", "01.gz", "02"]


def test_files_of_others_are_left_alone(tmp_path: Path):
    log = rotated(tmp_path, 1, 2)
    for name in ("0.log.bak", "10.log", "10.log.20261123-045101", "notes"):
        (tmp_path / name).write_bytes(b"")
    tidy(log, keep=0)
    assert names(tmp_path) == ["0.log", "0.log.bak", "10.log", "10.log.20261123-045101", "notes"]


def test_logs_of_old_restarts_go_with_their_rotated_files(tmp_path: Path):
    for name in ("0.log", "0.log.20261123-045101.gz", "1.log", "2.log", "2.log.20261123-045101", "10.log", "notes"):
        (tmp_path / name).write_bytes(b"")
    drop_restarts(tmp_path, newest=3, keep=2, collected=lambda path: path.name != "1.log")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "1.log",
        "10.log",
        "2.log",
        "2.log.20261123-045101",
        "notes",
    ]
