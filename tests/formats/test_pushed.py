"""Posted lines become lines of a chunk: any split of the body gives the same ones, and bad ones are named."""

import json
from collections.abc import Callable, Iterable
from itertools import pairwise

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logsvc.errors import BadLine
from logsvc.formats import cri, pushed
from logsvc.formats.pushed import JsonReader, Labels, Pushed, Reader, TextReader
from logsvc.model import MAX_LINE
from tests.support.lines import messages

NOW = 1_795_399_200_123_456_789
STAMP = b"2026-11-23T02:00:00.123456789Z"
LABELS = Labels("app", "app.1")


def text_reader(start: int = 0) -> TextReader:
    return TextReader(LABELS, b"stdout", lambda: NOW, start)


def json_reader(start: int = 0) -> JsonReader:
    return JsonReader(LABELS, b"stdout", lambda: NOW, start)


def read(reader: Reader, pieces: Iterable[bytes]) -> list[Pushed]:
    return [*(line for piece in pieces for line in reader.feed(piece)), *reader.finish()]


def split(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


def said(lines: Iterable[Pushed]) -> list[tuple[bytes, bool]]:
    """Message and partial of each line of the chunk."""
    return [(cri.parse(part)[3], cri.parse(part)[2]) for line in lines for part in cri.lines(line.value)]


def line(**fields: object) -> bytes:
    return orjson.dumps(fields) + b"\n"


cuts = st.lists(st.integers(0, 10_000), max_size=5)


@given(st.lists(messages(), max_size=6), st.booleans(), cuts)
def test_text_is_taken_line_by_line_at_any_split(lines: list[bytes], ended: bool, places: list[int]) -> None:
    body = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    taken = read(text_reader(), split(body, places))
    expected = body.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert said(taken) == [(message, False) for message in expected]
    assert all(cri.parse(cri.lines(one.value)[0])[:2] == (STAMP, b"stdout") for one in taken)
    assert not taken or taken[-1].end == len(body)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3 * MAX_LINE + 5), min_size=1, max_size=3), cuts, st.booleans())
@example([MAX_LINE], [], False)
@example([MAX_LINE + 1, MAX_LINE], [MAX_LINE], True)
@example([2 * MAX_LINE], [5], False)
def test_long_text_goes_on_in_further_lines_with_no_byte_lost(sizes: list[int], places: list[int], ended: bool) -> None:
    body = b"\n".join(b"%d" % n * size for n, size in enumerate(sizes)) + b"\n" * ended
    taken = read(text_reader(), split(body, [place * 37 for place in places]))
    joined = b"".join(message + (b"" if partial else b"\n") for message, partial in said(taken))
    assert joined.removesuffix(b"\n") == body.removesuffix(b"\n")
    assert all(len(message) <= MAX_LINE for message, _ in said(taken))
    assert all(one.partial == any(partial for _, partial in said([one])) for one in taken)


@settings(max_examples=40)
@given(st.lists(st.integers(0, MAX_LINE * 2), min_size=1, max_size=3), st.data())
def test_text_resumes_behind_any_line_with_the_very_next_byte(sizes: list[int], data: st.DataObject) -> None:
    body = b"".join(b"%d" % n * size + b"\n" for n, size in enumerate(sizes))
    taken = read(text_reader(), [body])
    behind = data.draw(st.integers(0, len(taken) - 1))
    place = taken[behind].end
    again = read(text_reader(place), [body[place:]])
    assert said(again) == said(taken[behind + 1 :])
    assert [one.end for one in again] == [one.end for one in taken[behind + 1 :]]


utf8 = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
objects = st.fixed_dictionaries(
    {"message": utf8},
    optional={
        "time": st.sampled_from(["2026-11-23T02:00:00Z", "2026-11-23T02:00:00.5+05:30", None]),
        "process": st.sampled_from(["web", "worker"]),
        "dyno": st.sampled_from(["web.7", "x"]),
        "stream": st.sampled_from(["stdout", "stderr", None]),
        "source": st.just("app"),
        "cursor": st.text(max_size=3),
        "other": st.integers(),
    },
)


@given(st.lists(objects, max_size=5), st.booleans(), st.booleans(), cuts)
def test_json_lines_are_taken_at_any_split(
    found: list[dict[str, str]], ascii_only: bool, ended: bool, places: list[int]
) -> None:
    body = "\n\n".join(json.dumps(one, ensure_ascii=ascii_only) for one in found).encode() + b"\r\n" * ended
    taken = read(json_reader(), split(body, places))
    assert len(taken) == len(found)
    for one, fields in zip(taken, found, strict=True):
        process = fields.get("process", "app")
        assert one.labels == (process, fields.get("dyno", "app.1" if process == "app" else f"{process}.1"))
        parts = [cri.parse(part) for part in cri.lines(one.value)]
        assert b"\n".join(message for _, _, _, message in parts) == fields["message"].encode()
        expected = (fields.get("time") or STAMP.decode()).encode()
        assert {(time, stream) for time, stream, _, _ in parts} == {
            (cri.utc(expected), (fields.get("stream") or "stdout").encode())
        }


def test_json_lines_resume_behind_any_line() -> None:
    body = b"".join(line(message=f"m{n}") + b"\n" * (n % 3) for n in range(9))
    taken = read(json_reader(), [body])
    for number, one in enumerate(taken):
        assert said(read(json_reader(one.end), [body[one.end :]])) == said(taken[number + 1 :])


def test_a_message_of_ten_megabytes_goes_on_in_further_lines() -> None:
    message = "0123456789" * 1_000_000
    [one] = read(json_reader(), split(line(message=message), range(0, 10_000_000, 65_536)))
    assert one.partial
    assert b"".join(part for part, _ in said([one])).decode() == message
    assert [partial for _, partial in said([one])] == [True] * (len(message) // MAX_LINE) + [False]


def test_only_lines_that_go_on_are_called_partial() -> None:
    short = "x" * 200_000
    [one] = read(json_reader(), [line(message=f"{short}\n{short}")])
    assert not one.partial


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"nonsense", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"{}", "`message`"),
        (b'{"message":7}', "`message`"),
        (b'{"message":"\\ud800"}', "not JSON"),
        (b'{"message":"\xff"}', "not JSON"),
        (b'{"message":"x","process":""}', "`process`"),
        (b'{"message":"x","process":"a b"}', "`process`"),
        (b'{"message":"x","dyno":"../x"}', "`dyno`"),
        (b'{"message":"x","dyno":[]}', "`dyno`"),
        (b'{"message":"x","dyno":"web.1\\n"}', "`dyno`"),
        (b'{"message":"x","stream":"stdin"}', "`stream`"),
        (b'{"message":"x","stream":[]}', "`stream`"),
        (b'{"message":"x","stream":{}}', "`stream`"),
        (b'{"message":"x","source":"platform"}', "`source`"),
        (b'{"message":"x","time":5}', "`time`"),
        (b'{"message":"x","time":"yesterday"}', "`time`"),
        (b'{"message":"x","time":"2026-13-01T00:00:00Z"}', "`time`"),
        (b'{"message":"x","time":"2026-02-30T00:00:00Z"}', "`time`"),
        (b'{"message":"x","time":"2026-11-23T02:00:00+25:00"}', "`time`"),
        (b'{"message":"x","time":"1969-12-31T23:59:59Z"}', "`time`"),
        (b'{"message":"x","time":"2300-01-01T00:00:00Z"}', "`time`"),
        (b'{"message":"x","time":"2026-11-23T02:00:00Z\\n"}', "`time`"),
        ('{"message":"x","time":"٢٠٢٦-11-23T02:00:00Z"}'.encode(), "`time`"),
        (b'{"message":"' + b"\\n" * (pushed.MAX_NEWLINES + 1) + b'"}', "newlines"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_after_those_before_it_were_given(bad: bytes, reason: str) -> None:
    reader = json_reader()
    taken: list[Pushed] = []
    with pytest.raises(BadLine, match=reason) as raised:
        taken.extend(reader.feed(line(message="good") + b"\n" + bad + b"\n" + line(message="never")))
    assert raised.value.number == 3
    assert said(taken) == [(b"good", False)]
    assert reader.at == len(line(message="good")) + 1


@pytest.mark.parametrize("ended", [b"", b"\n"])
def test_a_line_too_long_to_be_held_is_refused(ended: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushed, "MAX_OBJECT", 1000)
    reader = json_reader()
    with pytest.raises(BadLine, match="longer than 1000") as raised:
        read(reader, [line(message="x"), b" " * 600, b" " * 600 + ended])
    assert raised.value.number == 2


@pytest.mark.parametrize("make", [text_reader, json_reader])
def test_an_empty_body_has_no_lines(make: Callable[[], Reader]) -> None:
    assert read(make(), []) == []
    assert read(make(), [b""]) == []
