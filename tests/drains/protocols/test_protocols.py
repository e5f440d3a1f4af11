"""Every protocol: what was framed, a strict reader of its format reads back; and it is the same bytes as ever."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from logsvc.drains.model import Lost
from logsvc.drains.notices import overflow
from logsvc.drains.protocols import Framer
from logsvc.drains.protocols.logplex import Logplex
from logsvc.drains.protocols.loki import Loki
from logsvc.drains.protocols.otlp import Otlp
from logsvc.drains.protocols.syslog import MAX_MESSAGE, Syslog, parts
from logsvc.formats import cri
from logsvc.model import AppId, Chunk, Selection, Stream
from tests.support import drain_formats
from tests.support.drain_formats import Message, Record
from tests.support.lines import selections

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine takes long to make chunks."""
TOKEN = "d.9f6a1ee1-6b1c-4a6f-9d3a-0c3a9e2d5b11"
GOLDEN = Path(__file__).parents[2] / "data" / "drains"
FRAMERS: dict[str, Framer] = {"logplex": Logplex(TOKEN), "syslog": Syslog(TOKEN), "otlp": Otlp(), "loki": Loki()}
APP = AppId("local", "demo")


def selection(source: str, process: str, value: bytes, dyno: str = "") -> Selection:
    stream = Stream(*APP, process, dyno or f"{process}.1", source, "uid:0")
    chunk = Chunk(1, 2, 3, 1_795_399_200_000, stream, value)
    return Selection(chunk, value, chunk.numbers)


SAMPLE = [
    overflow(APP, Lost(1234, 1_795_399_100), []),
    selection(
        "app",
        "web",
        b"2026-11-23T02:00:00.123456789Z stdout F GET /orders 200\n"
        b"2026-11-23T02:00:00.5Z stderr F \n"
        b"2026-11-23T07:30:00.000000001+05:30 stdout P   indented \xff\r \xe2\x82\xac\n",
    ),
    selection("platform", "web", b"2026-11-23T02:00:01.000000000Z stdout F State changed from up to crashed\n"),
    selection("platform", "router", b"2026-11-23T02:00:01.000000000Z stdout F at=info method=GET\n"),
    selection("app", "web", b"2026-11-23T02:00:02.000000000Z stdout F x\n", "odd d\u00ffno"),
]


@pytest.mark.parametrize("name", FRAMERS)
def test_the_bytes_are_those_that_are_documented(name: str) -> None:
    made = FRAMERS[name].frame(SAMPLE).body
    if name == "otlp":
        made = text_format.MessageToString(ExportLogsServiceRequest.FromString(made)).encode()
    golden = GOLDEN / f"{name}.golden"
    assert made == golden.read_bytes()


def test_the_head_of_herokus_own_example_comes_out_as_it_is() -> None:
    line = b"2022-06-13T14:52:23.827271000Z stdout F " + b"m" * 98 + b"\n"
    expected = b"156 <190>1 2022-06-13T14:52:23.827271+00:00 host app web.1 - " + b"m" * 98 + b"\n"
    assert Logplex(TOKEN).frame([selection("app", "web", line)]).body == expected


def _lines(framed: Sequence[Selection]) -> list[tuple[Stream, bytes, bytes, bytes]]:
    """Stream, time, output and message of each line."""
    found = []
    for each in framed:
        for line in cri.lines(each.value):
            time, output, _, message = cri.parse(line)
            found.append((each.chunk.stream, time, output, message))
    return found


@pytest.mark.parametrize(("framer", "read"), [("logplex", drain_formats.logplex), ("syslog", drain_formats.syslog)])
@PATIENT
@given(framed=st.lists(selections(), max_size=4))
def test_syslog_messages_are_read_back(
    framer: str, read: Callable[[bytes], list[Message]], framed: list[Selection]
) -> None:
    body, count = FRAMERS[framer].frame(framed)
    messages = read(body)
    assert len(messages) == count
    expected = _lines(framed)
    assert [(message.time, message.text) for message in messages] == [
        (time[:26] + b"+00:00", text) for _, time, _, text in expected
    ]
    for message, (stream, *_) in zip(messages, expected, strict=True):
        assert message.source.decode() == stream.source
        assert message.host.decode() == ("host" if framer == "logplex" else TOKEN)
        if stream.dyno.isascii():
            assert message.dyno.decode() == stream.dyno
        assert message.priority == (190 if stream.source == "app" else 45)


@PATIENT
@given(text=st.binary(max_size=4 * MAX_MESSAGE) | st.text(max_size=50).map(lambda text: (text * 900).encode()))
@example(b"\x80" * (2 * MAX_MESSAGE + 1))
@example(("x" + "\U0001f600" * MAX_MESSAGE).encode())
def test_a_long_message_comes_in_parts_that_cut_no_character(text: bytes) -> None:
    made = list(parts(text))
    assert b"".join(made) == text
    assert all(len(part) <= MAX_MESSAGE for part in made)
    assert all(made) or text == b""
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    for part in made:
        part.decode()


def test_a_long_message_is_counted_as_the_messages_that_it_becomes() -> None:
    line = b"2026-11-23T02:00:00.123456789Z stdout F " + b"x" * (MAX_MESSAGE + 1) + b"\n"
    body, count = Logplex(TOKEN).frame([selection("app", "web", line)])
    assert count == 2
    assert [len(message.text) for message in drain_formats.logplex(body)] == [MAX_MESSAGE, 1]


@pytest.mark.parametrize(("framer", "read"), [("otlp", drain_formats.otlp), ("loki", drain_formats.loki)])
@PATIENT
@given(framed=st.lists(selections(), max_size=4))
def test_records_are_read_back_in_their_order(
    framer: str, read: Callable[[bytes], list[Record]], framed: list[Selection]
) -> None:
    body, count = FRAMERS[framer].frame(framed)
    records = read(body)
    assert len(records) == count
    expected = _lines(framed)
    assert [(record.time, record.text) for record in records] == [
        (cri.time_ns(time), text.decode("utf-8", "replace")) for _, time, _, text in expected
    ]
    names = ("service.instance.id", "log.iostream") if framer == "otlp" else ("dyno", "stream")
    for record, (stream, _, output, _) in zip(records, expected, strict=True):
        assert record.labels["service.name" if framer == "otlp" else "app"] == "demo"
        assert tuple(record.labels[name] for name in names) == (stream.dyno, output.decode())


def test_headers_of_logplex() -> None:
    logplex = Logplex(TOKEN)
    framed = logplex.frame(SAMPLE)
    assert logplex.headers("0" * 32, framed) == {
        "Logplex-Msg-Count": "7",
        "Logplex-Frame-Id": "0" * 32,
        "Logplex-Drain-Token": TOKEN,
    }


def test_otlp_tells_what_a_receiver_rejected() -> None:
    partial = ExportLogsPartialSuccess(rejected_log_records=3, error_message="too old")
    answer = ExportLogsServiceResponse(partial_success=partial).SerializeToString()
    assert Otlp().rejected(answer) == (3, "too old")
    assert Otlp().rejected(ExportLogsServiceResponse().SerializeToString()) is None
    assert Otlp().rejected(b"{}not protobuf") is None
