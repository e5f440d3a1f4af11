"""Chunks to what clients get: lines per CPU-second in each representation.

python -m benchmarks.frame [--lines N] [--runs N]
"""

import argparse
import time
from itertools import islice

from benchmarks.loghub import cri_lines
from benchmarks.report import Report, median, timed
from logsvc.formats.representations import NewlineDelimitedJson, PlainText, ServerSentEvents, WebSocketMessages
from logsvc.model import Chunk, Filter, Selection, Stream
from logsvc.selection import Matcher

PER_CHUNK = 100


def chunks(lines: int) -> list[Chunk]:
    stream = Stream("local", "demo", "web", "web.1", "app", "0")
    source = cri_lines(time.time_ns())
    values = (b"".join(islice(source, PER_CHUNK)) for _ in range(lines // PER_CHUNK))
    return [Chunk(1, 0, offset, 0, stream, value) for offset, value in enumerate(values)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    made = chunks(asked.lines)
    whole = [Selection(chunk, chunk.value, chunk.numbers) for chunk in made]
    report = Report("frame")
    forms = [
        ServerSentEvents(),
        NewlineDelimitedJson(),
        NewlineDelimitedJson(cursors=True),
        PlainText(),
        WebSocketMessages(),
    ]
    for form in forms:
        runs = [timed(lambda form=form: [form.lines([selection]) for selection in whole])[0] for _ in range(asked.runs)]
        case = f"{form.name}{' with cursors' if form.cursors else ''}"
        report.add(case, median([{"lines_per_cpu_s": asked.lines / cpu} for cpu in runs]))
    filters = {
        "select: process": Filter(process=frozenset({"web"})),
        "select: other process": Filter(process=frozenset({"worker"})),
        "select: rare word": Filter(grep=("no such word",)),
        "select: pattern": Filter(grep_re=(r"user \w+ from",)),
    }
    for case, wanted in filters.items():
        matcher = Matcher(wanted)
        runs = [timed(lambda matcher=matcher: [matcher.select(chunk) for chunk in made])[0] for _ in range(asked.runs)]
        report.add(case, median([{"lines_per_cpu_s": asked.lines / max(cpu, 1e-6)} for cpu in runs]))
    report.write()


if __name__ == "__main__":
    main()
