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


def tidy(log: Path, keep: int, stopped: Callable[[], bool] = lambda: False) -> None:
    """Leave at most `keep` rotated files of `log`, all but the newest compressed. Safe to repeat after a crash."""
    for torn in log.parent.glob(f"{log.name}.*.tmp"):
        torn.unlink()
    while not stopped():
        files = rotated_files(log)
        for path in files[: max(0, len(files) - keep)]:
            path.unlink()
        plain = [path for path in files[max(0, len(files) - keep) : -1] if path.suffix != ".gz"]
        if not plain:
            return
        _compress(plain[-1])


def _compress(path: Path) -> None:
    """Write `<path>.gz` under another name first, so that nobody ever sees half of one."""
    torn = path.with_name(path.name + ".tmp")
    with path.open("rb") as plain, gzip.open(torn, "wb", compresslevel=_LEVEL) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)
    torn.rename(path.with_name(path.name + ".gz"))
    path.unlink()


def drop_restarts(folder: Path, newest: int, keep: int) -> None:
    """Delete the logs of restarts of one container, but those of the `keep` newest up to restart `newest`."""
    for path in folder.iterdir():
        match = LOG_NAME.match(path.name)
        if match is not None and int(match[1]) <= newest - keep:
            path.unlink(missing_ok=True)
