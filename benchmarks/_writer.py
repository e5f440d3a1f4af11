"""Plays the kubelet: writes lines of real logs into CRI files at a steady rate. A process of its own.

    python -m benchmarks._writer RATE SECONDS FILE…

Prints the number of lines written. Each message is `seq=<number> file=<number> <text>`.
"""

import sys
import time
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

from benchmarks.loghub import messages

TICK = 0.005


def main() -> None:
    rate, seconds, files = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    texts = cycle(messages())
    with ExitStack() as stack:
        logs = [stack.enter_context(Path(file).open("ab", buffering=0)) for file in files]
        numbers = [0] * len(logs)
        begun = time.perf_counter()
        written, turn = 0, 0
        while (elapsed := time.perf_counter() - begun) < seconds:
            due = int(min(elapsed + TICK, seconds) * rate) - written
            per_file = max(1, min(due, due // min(len(logs), max(1, due // 20)))) if due > 0 else 0
            while due > 0:
                at = turn % len(logs)
                count = min(per_file, due)
                logs[at].write(_block(texts, at, numbers[at], count))
                numbers[at] += count
                written += count
                due -= count
                turn += 1
            time.sleep(max(0.0, TICK - (time.perf_counter() - begun) % TICK))
    print(written)


def _block(texts: "cycle[bytes]", file: int, first: int, count: int) -> bytes:
    now = time.time_ns()
    seconds, fraction = divmod(now, 1_000_000_000)
    fraction = min(fraction, 999_999_999 - count)
    prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds)).encode()
    tail = b" file=%d " % file
    return b"".join(
        [
            b"%b%09dZ stdout F seq=%d%b%b\n" % (prefix, fraction + number, first + number, tail, text)
            for number, text in enumerate(islice(texts, count))
        ]
    )


if __name__ == "__main__":
    main()
