"""Loki's push API (`POST /loki/api/v1/push`) in JSON: streams of labels, and of each its lines with their times.

JSON rather than snappy and protobuf: measured on lines of loghub it is made at 4.8 M lines per CPU-second against
1.2 M, and with gzip, where the URL asks, at 2.3 M and in two thirds of the bytes. Loki takes both alike.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

import orjson

from logsvc.drains.policy import Rejected
from logsvc.drains.protocols import Framed
from logsvc.formats import cri
from logsvc.model import Selection, Stream


class Loki:
    """Grafana Loki."""

    path = "/loki/api/v1/push"
    content_type = "application/json"

    def frame(self, selections: Sequence[Selection]) -> Framed:
        lines = [(selection.chunk.stream, *cri.parse(line)) for selection in selections
                 for line in cri.lines(selection.value)]  # fmt: skip
        streams = [
            {
                "stream": _labels(stream, output),
                "values": [
                    [str(cri.time_ns(time)), message.decode("utf-8", "replace")] for _, time, _, _, message in group
                ],
            }
            for (stream, output), group in groupby(lines, key=lambda line: (line[0], line[2]))
        ]
        return Framed(orjson.dumps({"streams": streams}), len(lines))

    def headers(self, frame_id: str, framed: Framed) -> Mapping[str, str]:  # noqa: ARG002 - the body has its count
        return {"Idempotency-Key": frame_id}

    def rejected(self, body: bytes) -> Rejected | None:  # noqa: ARG002 - a status says it all
        return None


def _labels(stream: Stream, output: bytes) -> dict[str, str]:
    return {
        "service_name": stream.app,
        "app": stream.app,
        "process": stream.process,
        "dyno": stream.dyno,
        "source": stream.source,
        "stream": output.decode(),
    }
