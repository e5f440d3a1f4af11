"""Lines of real logs as the kubelet writes them."""

import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

LOGS = Path(__file__).parent.parent / "tests" / "data" / "loghub"


def messages() -> list[bytes]:
    """20,000 lines of ten systems, without their newlines."""
    return [line for file in sorted(LOGS.glob("*.log")) for line in file.read_bytes().split(b"\n")[:-1]]


def cri_lines(start_ns: int, step_ns: int = 1_000_003) -> Iterator[bytes]:
    """Messages for ever, as containerd writes them: zeros at the end of the fraction trimmed."""
    second, prefix = -1, ""
    for number, message in enumerate(cycle(messages())):
        seconds, fraction = divmod(start_ns + number * step_ns, 1_000_000_000)
        if seconds != second:
            second, prefix = seconds, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds))
        digits = f"{fraction:09d}".rstrip("0") or "0"
        stream = b"stderr" if number % 50 == 0 else b"stdout"
        yield b"%b%bZ %b F %b\n" % (prefix.encode(), digits.encode(), stream, message)
