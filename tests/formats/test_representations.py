"""Every representation says of every line what a plain reading of it says, and no message breaks out of its frame."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logsvc.formats import jsonlines, text
from logsvc.formats.representations import (
    HerokuEvents,
    NewlineDelimitedJson,
    PlainText,
    ServerSentEvents,
    WebSocketMessages,
)
from logsvc.model import Chunk, Cursor, Selection, Stream, notices_of
from tests.support.eventstream import Event, EventStream
from tests.support.lines import chunks, selections
from tests.support.reference import known

NOW = "2026-11-23T02:00:00.123456000Z"
AT = Cursor(1, 2, 3, 4)


def whole(chunk: Chunk) -> Selection:
    return Selection(chunk, chunk.value, chunk.numbers)


@given(selections(), st.booleans())
def test_json_lines_have_the_fields_of_a_plain_reading(selection: Selection, cursors: bool) -> None:
    made = jsonlines.objects(selection, cursors=cursors)
    assert [orjson.loads(line) for line in made] == [line.fields(cursor=cursors) for line in known(selection)]
    assert [json.loads(line) for line in made] == [orjson.loads(line) for line in made]


@given(selections())
def test_json_lines_keep_the_documented_order_of_names(selection: Selection) -> None:
    for line in jsonlines.objects(selection, cursors=True):
        names = [name for name in json.loads(line) if name != "partial"]
        assert names == ["time", "source", "process", "dyno", "stream", "message", "cursor"]


@given(selections(), st.booleans())
def test_text_lines_are_herokus(selection: Selection, cursors: bool) -> None:
    made = [line.encode("latin-1") for line in text.lines(selection, cursors=cursors)]
    expected = [line.text() for line in known(selection)]
    if cursors:
        expected = [f"{line.cursor} ".encode() + rest for line, rest in zip(known(selection), expected, strict=True)]
    assert made == expected
    assert not any(b"\r" in line or b"\n" in line for line in made)


def test_a_long_line_goes_through_whole() -> None:
    message = b'"\\\x00\x7f\xff' * 50_000
    chunk = Chunk(1, 2, 3, 0, Stream("t", "a", "web", "web.1", "app", "x"), b"")
    chunk.value = b"2026-11-23T02:00:00.123456789Z stdout F %b\n" % message
    [line] = jsonlines.objects(whole(chunk))
    assert orjson.loads(line)["message"] == message.decode("utf-8", "replace")
    [line] = text.lines(whole(chunk))
    assert line.encode("latin-1").endswith(message)


@settings(max_examples=40)
@given(st.lists(selections(), max_size=3), st.booleans(), st.data())
def test_events_are_whole_whatever_the_message_and_wherever_they_are_cut(
    picked: list[Selection], cursors: bool, data: st.DataObject
) -> None:
    form = ServerSentEvents(cursors=cursors)
    stream = form.lines(picked) + form.heartbeat(AT) + form.notice("lost\nsome", AT, NOW) + form.end()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parser = EventStream()
    events = [event for start, end in pairwise([0, *cuts, len(stream)]) for event in parser.feed(stream[start:end])]
    *lines, notice, end_event = events
    assert [[orjson.loads(line) for line in event.data.split("\n")] for event in lines] == [
        [line.fields(cursor=cursors) for line in known(selection)] for selection in picked
    ]
    assert [event.id for event in lines] == [str(known(selection)[-1].cursor) for selection in picked]
    assert {event.type for event in lines} <= {"message"}
    assert (notice.type, notice.id) == ("notice", str(AT))
    assert orjson.loads(notice.data) == {"notice": "lost\nsome", "cursor": str(AT)}
    assert (end_event.type, end_event.data) == ("end", "{}")


@given(selections(), st.data())
def test_a_cut_event_is_never_dispatched(selection: Selection, data: st.DataObject) -> None:
    stream = ServerSentEvents().lines([selection])
    parser = EventStream()
    assert parser.feed(stream[: data.draw(st.integers(0, len(stream) - 1))]) == []
    assert parser.last_event_id == ""


def test_a_heartbeat_moves_the_last_event_id_and_dispatches_nothing() -> None:
    parser = EventStream()
    assert parser.feed(ServerSentEvents().heartbeat(AT)) == []
    assert parser.last_event_id == str(AT)


def test_a_heartbeat_of_a_log_session_has_data_but_no_listener() -> None:
    """For the heroku command line, whose parser forgets an id without data."""
    parser = EventStream()
    assert parser.feed(HerokuEvents().heartbeat(AT)) == [Event("heartbeat", "", str(AT))]
    assert parser.last_event_id == str(AT)


def test_a_farewell_asks_to_come_back_soon() -> None:
    parser = EventStream()
    assert parser.feed(ServerSentEvents().farewell()) == []
    assert parser.retry == 200


@settings(max_examples=40)
@given(st.lists(selections(), max_size=3), st.booleans())
def test_ndjson_is_an_object_a_line(picked: list[Selection], cursors: bool) -> None:
    form = NewlineDelimitedJson(cursors=cursors)
    body = form.lines(picked) + form.notice("gone", AT, NOW) + form.heartbeat(AT) + form.end() + form.farewell()
    *objects, notice, heartbeat = objects_of(body)
    assert objects == [line.fields(cursor=cursors) for selection in picked for line in known(selection)]
    assert notice == {"notice": "gone", "cursor": str(AT)}
    assert heartbeat == {"heartbeat": True, "cursor": str(AT)}


@settings(max_examples=40)
@given(st.lists(selections(), max_size=3), st.booleans())
def test_websocket_messages_carry_a_chunk_and_the_place_behind_it(picked: list[Selection], cursors: bool) -> None:
    form = WebSocketMessages(cursors=cursors)
    body = form.lines(picked) + form.notice("gone", AT, NOW) + form.heartbeat(AT) + form.end() + form.farewell()
    *messages, notice, heartbeat, end = objects_of(body)
    assert messages == [
        {
            "cursor": str(known(selection)[-1].cursor),
            "lines": [line.fields(cursor=cursors) for line in known(selection)],
        }
        for selection in picked
    ]
    assert notice == {"notice": "gone", "cursor": str(AT)}
    assert heartbeat == {"heartbeat": True, "cursor": str(AT)}
    assert end == {"end": True}


@settings(max_examples=40)
@given(st.lists(selections(), max_size=3), st.booleans())
def test_text_is_a_line_a_line(picked: list[Selection], cursors: bool) -> None:
    form = PlainText(cursors=cursors)
    body = form.lines(picked) + form.heartbeat(AT) + form.end() + form.farewell()
    lines = body.split(b"\n")
    assert lines.pop() == b""
    expected = [line for selection in picked for line in known(selection)]
    prefixes = [f"{line.cursor} ".encode() if cursors else b"" for line in expected]
    assert lines == [prefix + line.text() for prefix, line in zip(prefixes, expected, strict=True)]


def objects_of(body: bytes) -> list[Any]:
    lines = body.split(b"\n")
    assert lines.pop() == b""
    return [orjson.loads(line) for line in lines]


NOTICE = Chunk(
    1,
    2,
    3,
    0,
    notices_of(Stream("t", "a", "", "", "", "").app_id),
    b"2026-11-23T02:00:00.123456789Z stdout F 12 bytes of \xc3\xbc \xff lost\n2026-11-23T02:00:01Z stdout F more\n",
)
TEXTS = ["12 bytes of ü \ufffd lost", "more"]


def test_notices_kept_in_the_log_are_notices_in_every_form() -> None:
    cursors = [str(NOTICE.cursor(0)), str(NOTICE.cursor(1))]
    notices = [{"notice": told, "cursor": at} for told, at in zip(TEXTS, cursors, strict=True)]
    picked = [whole(NOTICE)]
    assert objects_of(NewlineDelimitedJson().lines(picked)) == notices
    assert objects_of(WebSocketMessages().lines(picked)) == notices
    events = EventStream().feed(ServerSentEvents().lines(picked))
    assert [(event.type, event.id, orjson.loads(event.data)) for event in events] == [
        ("notice", at, notice) for at, notice in zip(cursors, notices, strict=True)
    ]
    assert PlainText().lines(picked) == (
        b"2026-11-23T02:00:00.123456+00:00 platform[logsvc]: 12 bytes of \xc3\xbc \xff lost\n"
        b"2026-11-23T02:00:01.000000+00:00 platform[logsvc]: more\n"
    )


def test_a_notice_of_the_moment_is_a_line_of_the_platform_in_text() -> None:
    line = "2026-11-23T02:00:00.123456+00:00 platform[logsvc]: lost: ü\n"
    assert PlainText().notice("lost: ü", AT, NOW) == line.encode()
    assert PlainText(cursors=True).notice("lost: ü", AT, NOW) == f"{AT} {line}".encode()


@pytest.mark.parametrize("made", [jsonlines.objects, text.lines])
@given(chunk=chunks(), cursors=st.booleans())
def test_a_whole_chunk_reads_like_its_lines_one_by_one(
    made: Callable[..., list[str]], chunk: Chunk, cursors: bool
) -> None:
    """What is made of a chunk at once, the fast way, is what is made of each of its lines alone."""
    singles = [
        Selection(chunk, line + b"\n", [number])
        for number, line in zip(chunk.numbers, chunk.value.split(b"\n"), strict=False)
    ]
    assert made(whole(chunk), cursors=cursors) == [line for single in singles for line in made(single, cursors=cursors)]


def test_a_large_chunk_comes_in_parts_that_each_name_their_last_line() -> None:
    line = b"2026-11-23T02:00:00.123456789Z stdout F %b\n" % (b"x" * 1000)
    chunk = Chunk(1, 2, 3, 0, Stream("t", "a", "web", "web.1", "app", "x"), line * 400)
    events = ServerSentEvents(cursors=True).lines([whole(chunk)]).split(b"\n\n")[:-1]
    messages = [orjson.loads(message) for message in WebSocketMessages(cursors=True).lines([whole(chunk)]).splitlines()]
    read = [[orjson.loads(data) for data in event.split(b"\ndata: ")[1:]] for event in events]
    assert [message["lines"] for message in messages] == read
    assert [line["cursor"] for lines in read for line in lines] == [f"1.2.3.{number}" for number in range(400)]
    assert [event.partition(b"\n")[0].decode() for event in events] == [f"id: {lines[-1]['cursor']}" for lines in read]
    assert [message["cursor"] for message in messages] == [lines[-1]["cursor"] for lines in read]
    assert len(events) > 5
    assert all(len(event) < 100_000 for event in events)
