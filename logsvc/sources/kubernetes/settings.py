"""What the files source is told, and what it says of itself."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FilesSettings:
    """What to read, and how eagerly."""

    root: Path
    """The folder of pods: `<namespace>_<pod>_<uid>/<container>/<restart>.log`."""
    data: Path
    """Where the checkpoint is kept, and room to unpack rotated files."""
    node: str
    """Names this machine in origins; it must stay the same over restarts."""
    tick: float = 0.01
    """Seconds between two looks at files that are being written; up to twice as long where they are many."""
    idle_after: float = 0.05
    """Seconds without a write after which a file is left to the kernel's watch."""
    rescan: float = 10.0
    """Seconds between two looks at everything, for what no event told."""
    poll: float = 0.25
    """Seconds between two looks at files that the kernel can't watch."""
    turns: int = 64
    """Most reads under way at once, of up to 512 KiB each."""
    checkpoint: float = 1.0
    """Seconds between two checkpoints."""
    max_deleted_bytes: int = 1024 * 1024 * 1024
    """Most bytes of deleted files kept from the disk; beyond that the largest is given up with a notice."""
    grace: float = 0.25
    """Seconds after which the end of a file that was followed by another counts as a line without its newline."""
    retry: float = 0.2
    """Seconds before the first new try after the bus failed; doubles up to `max_retry`."""
    max_retry: float = 1.0


@dataclass(slots=True)
class FilesState:
    """How the source is doing, in words and numbers."""

    problem: str | None = None
    """Why nothing is collected now; None while all is well."""
    watch_problem: str | None = None
    """Why some files are polled."""
    recoveries: int = 0
    waiting_bytes: int = 0
    """On the disk and not yet on the bus, as of the last look at everything."""
    deleted_bytes: int = 0
    """Of deleted files that are kept open to be read out."""
    unknown: int = 0
    """Containers with lines of which it isn't known yet whose they are."""
