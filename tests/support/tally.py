"""Counting sequence-numbered lines: the judge of every promise that nothing is lost, doubled or out of order."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_NUMBERED = re.compile(rb"writer=(\S+) seq=(\d+)\b")

_FIRST = 5
"""Numbers that a verdict names."""


def numbered(writer: str, seq: int, text: bytes = b"") -> bytes:
    """A message that a Tally recognises: `writer=<writer> seq=<seq> <text>`."""
    return (
        b"writer=%b seq=%d %b" % (writer.encode(), seq, text) if text else b"writer=%b seq=%d" % (writer.encode(), seq)
    )


@dataclass(slots=True)
class _Writer:
    base: int
    """The first number that counts."""
    next: int
    lines: int = 0
    doubled: int = 0
    misordered: int = 0
    missing: set[int] = field(default_factory=set)


class Tally:
    """What came of each writer's numbers 0, 1, 2, …

    A number that was skipped is lost, unless it comes later, then it is misordered; one that had come is doubled.
    Memory grows with what is missing, not with what came.
    """

    def __init__(self, *, from_start: bool = True) -> None:
        """`from_start=False`: a tail that joins late; each writer counts from the first number seen of it."""
        self._from_start = from_start
        self._writers: dict[str, _Writer] = {}
        self._again: list[str] = []
        """The first numbers that were doubled or misordered."""

    def feed(self, text: bytes | str) -> int:
        """Take any text in order: a message, a line in any format, or many. Returns how many numbers were in it."""
        count = 0
        for match in _NUMBERED.finditer(text.encode() if isinstance(text, str) else text):
            self._take(match[1].decode(), int(match[2]))
            count += 1
        return count

    def _take(self, name: str, seq: int) -> None:
        writer = self._writers.get(name)
        if writer is None:
            base = 0 if self._from_start else seq
            writer = self._writers[name] = _Writer(base, base)
        writer.lines += 1
        if seq == writer.next:
            writer.next += 1
            return
        if seq > writer.next:
            writer.missing.update(range(writer.next, seq))
            writer.next = seq + 1
            return
        if len(self._again) < _FIRST:
            self._again.append(f"{name} {seq} after {writer.next - 1}")
        if seq in writer.missing:
            writer.missing.remove(seq)
            writer.misordered += 1
        elif seq < writer.base:
            writer.misordered += 1
        else:
            writer.doubled += 1

    @property
    def lines(self) -> int:
        """Numbered lines fed, repetitions included."""
        return sum(writer.lines for writer in self._writers.values())

    @property
    def doubled(self) -> int:
        return sum(writer.doubled for writer in self._writers.values())

    @property
    def misordered(self) -> int:
        return sum(writer.misordered for writer in self._writers.values())

    @property
    def gaps(self) -> int:
        """Numbers skipped so far, in front of the newest of each writer."""
        return sum(len(writer.missing) for writer in self._writers.values())

    def next(self, name: str) -> int:
        """The number after the highest that came of a writer."""
        writer = self._writers.get(name)
        return writer.next if writer else 0

    def lost(self, written: Mapping[str, int]) -> int:
        """How many of the numbers below `written[writer]` never came."""
        absent = sum(max(0, count - self.next(name)) for name, count in written.items())
        return self.gaps + absent

    def complete(self, written: Mapping[str, int]) -> bool:
        """Whether the last number of every writer came, so that the verdict can be read."""
        return all(self.next(name) >= count for name, count in written.items())

    def check(self, written: Mapping[str, int], *, ordered: bool = True) -> None:
        """Assert that exactly the numbers below `written[writer]` came, each once and, if `ordered`, in order."""
        misordered = self.misordered if ordered else 0
        verdict = f"lost {self.lost(written)}, doubled {self.doubled}, misordered {misordered}"
        foreign = {name for name in self._writers if self.next(name) > written.get(name, 0)}
        assert verdict == "lost 0, doubled 0, misordered 0", f"{verdict} of {sum(written.values())}{self._places()}"
        assert not foreign, f"numbers that nobody wrote, of {sorted(foreign)}"

    def _places(self) -> str:
        holes = {name: sorted(writer.missing)[:_FIRST] for name, writer in self._writers.items() if writer.missing}
        again = f"; first again: {', '.join(self._again)}" if self._again else ""
        return (f"; first missing: {holes}" if holes else "") + again

    def __str__(self) -> str:
        return (
            f"{self.lines} lines of {len(self._writers)} writers: "
            f"gaps {self.gaps}, doubled {self.doubled}, misordered {self.misordered}"
        )
