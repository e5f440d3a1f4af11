"""What `logsvc check` finds: one row a thing that must be so."""

from typing import NamedTuple


class Finding(NamedTuple):
    """Whether one thing is as it must be, and what to do where it isn't. Holds no secret."""

    name: str
    """What was looked at: `clickhouse.schema`."""
    ok: bool
    found: str
    """How it is."""
    wanted: str = ""
    """How it must be."""
    todo: str = ""
    """What to do, one sentence; empty where nothing is."""
