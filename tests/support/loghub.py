"""Real log text: ten logs of 2,000 lines each, from loghub (see tests/data/loghub/LICENSE)."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "data" / "loghub"


@cache
def loghub(name: str = "*") -> tuple[bytes, ...]:
    """The lines of one log (`Apache`, `HDFS`, …), or of all of them in the order of their names, without newlines."""
    paths = sorted(FOLDER.glob(f"{name}.log"))
    if not paths:
        raise FileNotFoundError(f"no log named {name} in {FOLDER}")
    return tuple(line for path in paths for line in path.read_bytes().splitlines())
