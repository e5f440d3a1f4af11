"""What a runner that was killed left unfinished in its log files, ended.

`kill -9` may cut a write to a log file anywhere, and the parts of a long line may miss their last one. The process's
next start is another pod, so nothing comes behind that end, and whoever collects would wait for it. A line whose
message had begun becomes a full one: what was read of it is kept. A piece of a header holds nothing that the process
wrote, and is taken off.
"""

import os
import re
from pathlib import Path
from typing import Final

from logsvc.formats import cri
from logsvc.sources.procfile.identity import LOG_NAME, read_identities
from logsvc.sources.procfile.rotation import rotated_files

_TAIL: Final = 1 << 20
"""Bytes at the end of a log that are looked at for a line that goes on."""

_HEADER: Final = re.compile(rb"[0-9T:.Z-]+ (stdout|stderr) [FP][^ \n]* ")


def mend(pods: Path, folder: Path, now: int) -> None:
    """End the logs of runs that began before `now` (Unix ns); `folder`: `<data>/identity`.

    Only while nobody writes or reads them. Safe to repeat after a crash. Raises OSError where the disk refuses.
    """
    for identity in read_identities(folder):
        if identity.run < now:
            container = pods / str(identity.folder) / identity.container
            logs = [path for path in container.glob("*.log") if LOG_NAME.match(path.name)]
            if logs:
                _mend(max(logs, key=lambda path: int(path.stem)))


def _mend(log: Path) -> None:
    with log.open("r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        tail = os.pread(file.fileno(), _TAIL, max(0, size - _TAIL))
        end = tail.rfind(b"\n") + 1
        if end < len(tail):
            if _HEADER.match(tail, end) is None and (end or size == len(tail)):
                file.truncate(size - len(tail) + end)
                tail = tail[:end]
            else:
                os.pwrite(file.fileno(), b"\n", size)
                tail += b"\n"
        if not tail:
            # A line may go on here from a file that had just been rotated.
            tail = b"".join(path.read_bytes() for path in rotated_files(log)[-1:] if path.suffix != ".gz")[-_TAIL:]
        rest = b"".join(cri.format_line(part.time, part.stream, b"") for part in _going_on(tail))
        file.seek(0, os.SEEK_END)
        file.write(rest)


def _going_on(tail: bytes) -> list[cri.Part]:
    """The last line of each stream, where it is a part that another one should follow."""
    newest = {part.stream: part for line in tail.split(b"\n") if (part := cri.read_part(line)) and not part.platform}
    return [part for part in newest.values() if part.partial]
