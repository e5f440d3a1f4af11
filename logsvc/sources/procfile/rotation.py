"""What becomes of rotated files, as the kubelet has it: the newest stays plain, older ones are gzip'd, the oldest go.

Everything here is plain file work, meant for a thread.
"""

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from logsvc.sources.procfile.identity import LOG_NAME

_ROTATED = re.compile(r"\.\d{8}-\d{6}(\.gz)?")
# Fast rather than small: at level 1 gzip keeps up with an app that writes 100 MB/s.
_LEVEL = 1


def rotated_files(log: Path) -> list[Path]:
    """The rotated files of `<n>.log`, oldest first, gzip'd ones included."""
    return sorted(path for path in log.parent.glob(f"{log.name}.*") if _ROTATED.fullmatch(path.name, len(log.name)))


def drop_oldest(log: Path, keep: int, collected: Callable[[Path], bool] | None) -> int:
    """Delete the oldest rotated files of `log` until `keep` are left, up to the first one that isn't `collected`.

    Returns how many are left.
    """
    files = rotated_files(log)
    left = len(files)
    for path in files[: max(0, len(files) - keep)]:
        if collected is not None and not collected(path):
            break
        path.unlink()
        left -= 1
    return left


def compress_one(log: Path) -> bool:
    """Compress one of the rotated files of `log`, the newest excepted; whether there was one to compress.

    Safe to repeat after a crash. The newer first: under a flood the oldest is deleted soon.
    """
    for torn in log.parent.glob(f"{log.name}.*.tmp"):
        torn.unlink()
    plain = [path for path in rotated_files(log)[:-1] if path.suffix != ".gz"]
    if plain:
        _compress(plain[-1])
    return bool(plain)


def _compress(path: Path) -> None:
    """Write `<path>.gz` under another name first, so that nobody ever sees half of one."""
    torn = path.with_name(path.name + ".tmp")
    with path.open("rb") as plain, gzip.open(torn, "wb", compresslevel=_LEVEL) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)
    torn.rename(path.with_name(path.name + ".gz"))
    path.unlink()


def drop_restarts(folder: Path, newest: int, keep: int, collected: Callable[[Path], bool] | None) -> None:
    """Delete the collected logs of restarts of one container, the `keep` newest up to restart `newest` excepted."""
    for path in folder.iterdir():
        match = LOG_NAME.match(path.name)
        if match is None or int(match[1]) > newest - keep:
            continue
        if collected is None or collected(path):
            path.unlink(missing_ok=True)
