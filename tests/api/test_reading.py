"""Reading an app's lines over HTTP: what each parameter means, and what is refused."""

import re
from collections import Counter

import orjson
import pytest

from logsvc.access.limits import Limits
from logsvc.config import Limits as Settings
from logsvc.model import Cursor
from logsvc.store.protocol import Store
from tests.api.served import NDJSON, SSE, Served, problem_of, serving
from tests.support.eventstream import EventStream
from tests.support.tiers import FIRST


@pytest.fixture
async def written(served: Served) -> Served:
    """Sixty lines in 20 chunks of web and worker: a third stored, the rest on the bus."""
    for number in range(20):
        await served.rig.write(3, process="worker" if number % 4 == 3 else "web")
        await served.rig.write(1, app=served.rig.neighbour)
    await served.rig.store_upto(14)
    return served


def times(seconds: int) -> str:
    return f"2026-11-23T02:00:{seconds:02d}Z"


async def test_without_parameters_it_gives_the_last_hundred(served: Served) -> None:
    for _ in range(30):
        await served.rig.write(5)
    assert await served.messages() == served.all()[-100:]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("num=5", slice(-5, None)),
        ("num=0", slice(0, 0)),
        ("num=999999999", slice(None)),
        (f"since={times(50)}", slice(50, None)),
        (f"until={times(7)}", slice(None, 7)),
        (f"since={times(10)}&until={times(20)}", slice(10, 20)),
        (f"since={times(10)}&until={times(20)}&num=3", slice(17, 20)),
        (f"since={times(10)}&num=4", slice(-4, None)),
        ("since=99999d", slice(None)),
        ("since=9999999w9999999w", slice(None)),
        ("since=9999-12-31T23:59:59Z", slice(0, 0)),
        ("until=9999-12-31T23:59:59.999999999Z", slice(None)),
        ("since=2026-11-23T07:30:50%2B05:30", slice(50, None)),
        ("since=2026-11-23T07:30:50+05:30", slice(50, None)),
        ("since=2026-11-23t02:00:50.000000000z", slice(50, None)),
        ("since=2026-11-23T02:00Z&until=2026-11-23 02:00:05Z", slice(0, 5)),
        ("tail=false&num=2", slice(-2, None)),
        ("stream=stdout&stream=stderr&num=3", slice(-3, None)),
    ],
)
async def test_parameters_choose_lines(written: Served, query: str, expected: slice) -> None:
    assert await written.messages(query) == written.all()[expected]


async def test_filters_come_before_limits(written: Served) -> None:
    lines = written.rig.lines
    worker = [line.message.decode() for line in lines if line.source.process == "worker"]
    errors = [line.message.decode() for line in lines if line.stream == "stderr"]
    assert await written.messages("process=worker&num=10") == worker[-10:]
    assert await written.messages("process=worker&process=web&num=4") == written.all()[-4:]
    assert await written.messages("dyno=worker.1&num=10") == worker[-10:]
    assert await written.messages("source=app&num=1") == written.all()[-1:]
    assert await written.messages("source=platform&num=1") == []
    assert await written.messages("stream=stderr&num=10") == errors[-10:]
    assert await written.messages("not_process=web&num=10") == worker[-10:]
    assert await written.messages("not_process=web&not_process=worker&num=10") == []
    assert await written.messages("not_dyno=web.1&not_dyno=web.2&num=10") == worker[-10:]
    assert await written.messages("not_source=platform&num=1") == written.all()[-1:]
    assert await written.messages("not_stream=stdout&num=10") == errors[-10:]
    assert await written.messages("grep=m1&grep=9") == ["m19"]
    assert await written.messages("grep=M1&grep=9&ignore_case=true") == ["m19"]
    assert await written.messages("grep=M1") == []
    assert await written.messages("grep_re=^m1[23]$") == ["m12", "m13"]
    assert await written.messages("grep=m5&exclude=5&exclude=nothing") == []
    assert await written.messages("grep=m5&exclude_re=[0-4]$&exclude_re=5.&num=3") == ["m5"]
    assert await written.messages("grep=m5&exclude=m50&exclude=m51&exclude=m52&exclude=m53&num=3") == [
        "m57",
        "m58",
        "m59",
    ]


async def test_after_gives_the_first_lines_behind_it_and_before_the_last_in_front(written: Served) -> None:
    cursors = [line.cursor for line in written.rig.lines]
    for number in (0, 13, 20, 21, 22, 58, 59):
        cursor = cursors[number]
        assert await written.messages(f"after={cursor}") == written.all()[number + 1 :]
        assert await written.messages(f"after={cursor}&num=2") == written.all()[number + 1 : number + 3]
        assert await written.messages(f"before={cursor}") == written.all()[:number]
        assert await written.messages(f"before={cursor}&num=2") == written.all()[max(0, number - 2) : number]
    assert await written.messages(f"after={cursors[10]}&before={cursors[15]}") == written.all()[11:15]
    assert await written.messages(f"after={cursors[10]}&num=0") == []


async def test_pages_backwards_meet_every_line(written: Served) -> None:
    found: list[str] = []
    query = "num=7&cursor=true"
    while page := await written.objects(query):
        found[:0] = [line["message"] for line in page]
        query = f"num=7&cursor=true&before={page[0]['cursor']}"
    assert found == written.all()


@pytest.mark.parametrize(
    "query",
    [
        "",
        "num=7",
        "num=0",
        f"since={times(30)}",
        "process=worker&num=3",
        "grep=m4",
        "num=7&before={}",
        "after={}&num=4",
    ],
)
async def test_reading_after_the_header_gives_the_same_answer(written: Served, query: str) -> None:
    """Who is cut before the first line resumes where the answer started."""
    query = query.format(written.rig.lines[30].cursor)
    async with written.get(query, **NDJSON) as response:
        start, body = response.headers["Logsvc-Cursor"], await response.read()
    kept = "&".join(part for part in query.split("&") if not part.startswith(("num", "after")))
    count = "&num=4" if "after" in query else ""
    async with written.get(f"{kept}&after={start}{count}", **NDJSON) as response:
        assert await response.read() == body


async def test_a_page_in_front_of_a_place_that_is_no_line(written: Served) -> None:
    place = Cursor(written.rig.bus.epoch, 0, 2, -1)
    async with written.get(f"before={place}&num=0") as response:
        assert response.headers["Logsvc-Cursor"] == str(place)
    assert await written.messages(f"before={place}&num=2") == written.all()[1:3]


async def test_last_event_id_replaces_num_since_and_after(written: Served) -> None:
    cursor = written.rig.lines[40].cursor
    query = f"num=1&since={times(59)}&after={written.rig.lines[3].cursor}"
    assert await written.messages(query, Last_Event_ID=str(cursor)) == written.all()[41:]
    behind = f"{query}&before={written.rig.lines[50].cursor}&stream=stderr"
    expected = [line.message.decode() for line in written.rig.lines[41:50] if line.stream == "stderr"]
    assert await written.messages(behind, Last_Event_ID=str(cursor)) == expected


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("num=x", "num"),
        ("num=-1", "num"),
        ("num=1234567890", "num"),
        ("num=%D9%A1", "num"),
        ("num=1&num=2", "num"),
        ("since=nonsense", "since"),
        ("since=2026-02-30T00:00:00Z", "since"),
        ("since=1969-12-31T23:59:59Z", "since"),
        ("since=2026-11-23T02:00:00", "since"),
        ("since=15", "since"),
        ("until=-5m", "until"),
        ("since=1h&until=2h", "until"),
        ("tail=maybe", "tail"),
        ("tail=true&until=1h", "until"),
        ("tail=true&before=1.0.0.0", "before"),
        ("after=", "after"),
        ("after=1.0.0", "after"),
        ("after=1.0.0.-2", "after"),
        ("after=99.0.0.0", "after"),
        ("after=1.1.0.0", "after"),
        ("after=1.0.999999.0", "after"),
        ("before=junk", "before"),
        ("before=99.0.0.0", "before"),
        ("before=1.0.999999.0&after=1.0.0.0", "before"),
        ("before=1.0.3.0&after=1.5.0.0", "after"),
        ("process=", "process"),
        ("process=a b", "process"),
        ("dyno=../etc", "dyno"),
        ("source=%00", "source"),
        ("stream=stdin", "stream"),
        ("not_stream=stdin", "not_stream"),
        ("not_process=", "not_process"),
        ("grep=", "grep"),
        ("grep=" + "x" * 1001, "grep"),
        ("exclude=", "exclude"),
        ("grep_re=(", "grep_re"),
        ("exclude_re=(", "exclude_re"),
        ("exclude_re=", "exclude_re"),
        ("grep_re=(?=x)", "grep_re"),
        ("grep_re=" + "(a{1000}){1000}", "grep_re"),
        ("ignore_case=2", "ignore_case"),
        ("cursor=x", "cursor"),
        ("lines=5", "lines"),
        ("Num=5", "Num"),
        ("step=1m", "step"),
    ],
)
async def test_what_cannot_be_used_is_named(written: Served, query: str, parameter: str) -> None:
    problem = await written.problem(query)
    assert (problem["status"], problem["parameter"]) == (400, parameter)
    assert problem["detail"].startswith(f"{parameter}: ")


@pytest.mark.parametrize("cursor", ["junk", "99.0.0.0", "1.3.0.0", "1.0.999999.0"])
async def test_a_last_event_id_that_is_no_place_here_is_named(written: Served, cursor: str) -> None:
    problem = await written.problem(Last_Event_ID=cursor)
    assert (problem["status"], problem["parameter"]) == (400, "Last-Event-ID")


async def test_an_app_without_lines_is_not_found(written: Served) -> None:
    for path in ("logs", "logs?tail=1", "logs?num=0", "logs?since=1h", "volume"):
        async with written.client.get(f"{written.url}/v1/apps/nobody/{path}") as response:
            assert response.status == 404
            assert (await problem_of(response))["app"] == "nobody"
    async with written.client.get(f"{written.url}/v1/apps/no%20name/logs") as response:
        assert response.status == 400
        assert (await problem_of(response))["parameter"] == "app"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain"),
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/*", "text/plain"),
        ("application/*", "application/x-ndjson"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("APPLICATION/X-NDJSON", "application/x-ndjson"),
        ("text/event-stream", "text/event-stream"),
        ("text/html, text/event-stream;q=0.9, */*;q=0.1", "text/event-stream"),
        ("text/event-stream;q=0.2, application/x-ndjson;level=1;q=0.5", "application/x-ndjson"),
        ("text/event-stream;q=oops, text/plain;q=0.1", "text/plain"),
    ],
)
async def test_accept_chooses_the_representation(written: Served, accept: str | None, content_type: str) -> None:
    headers = {} if accept is None else {"Accept": accept}
    async with written.client.get(written.logs, headers=headers, skip_auto_headers=["Accept"]) as response:
        assert response.content_type == content_type
        assert response.headers["Cache-Control"] == "no-store"
        assert "Accept" in response.headers["Vary"]
        Cursor.parse(response.headers["Logsvc-Cursor"])


@pytest.mark.parametrize("accept", ["text/html", "image/*", "text/plain;q=0"])
async def test_no_other_representation_is_to_be_had(written: Served, accept: str) -> None:
    assert (await written.problem(Accept=accept))["status"] == 406


async def test_the_four_representations_tell_the_same_lines(written: Served) -> None:
    expected = [line.fields(cursor=True) for line in written.rig.lines[-9:]]
    assert await written.objects("num=9&cursor=true") == expected
    async with written.get("num=9&cursor=true", **SSE) as response:
        *lines, end = EventStream().feed(await response.read())
    assert [orjson.loads(data) for event in lines for data in event.data.split("\n")] == expected
    assert (end.type, end.data) == ("end", "{}")
    async with written.client.ws_connect(f"{written.logs}?num=9&cursor=true") as socket:
        messages = [orjson.loads(message.data) async for message in socket]
    assert [line for message in messages[:-1] for line in message["lines"]] == expected
    assert messages[-1] == {"end": True}
    assert socket.close_code == 1000
    async with written.get("num=9&cursor=1", Accept="text/plain") as response:
        text = (await response.read()).split(b"\n")[:-1]
    assert text == [f"{line.cursor} ".encode() + line.text() for line in written.rig.lines[-9:]]


async def test_a_search_that_takes_long_says_where_it_ended_and_goes_on_there(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsvc.api.delivery.SEARCH_SECONDS", 0.0)
    for _ in range(60):
        await served.rig.write(1, text="rare")
        await served.rig.write(400, text="x" * 1000)
    await served.rig.store_upto(120)
    served.context.access.limits = Limits(Settings(read_bytes={"standard": 12_000_000}))
    found: list[str] = []
    query, answers = "num=100&grep=rare", 0
    while query:
        notices = []
        for line in reversed(await served.objects(query)):
            if "notice" in line:
                notices.append(line)
            else:
                assert not notices, "it stands in front of the lines"
                found.insert(0, line["message"])
        query = f"num=100&grep=rare&before={notices[0]['before']}" if notices else ""
        assert all(line["before"] in line["notice"] for line in notices)
        answers += 1
    assert found == [message for message in served.all() if message.startswith("rare")]
    assert answers > 2


async def test_an_answer_without_lines_shows_that_it_goes_on(store: Store) -> None:
    async with serving(store, heartbeat=0.001) as served:
        for _ in range(20):
            await served.rig.write(1)
        await served.rig.store_upto(10)
        beats = await served.objects("since=9999d&grep=nowhere")
    assert beats
    assert all(beat["heartbeat"] for beat in beats)
    places = [Cursor.parse(beat["cursor"]) for beat in beats]
    assert places == sorted(set(places))


async def test_a_cursor_older_than_what_is_kept_comes_with_a_notice(served: Served) -> None:
    for _ in range(3):
        await served.rig.write(2)
    await served.rig.store.insert((await served.rig.bus.read(0, 2, 1)).chunks)
    await served.rig.commit(3)
    first, *rest = await served.objects(f"after={served.rig.lines[0].cursor}")
    assert "retention" in first["notice"]
    assert first["cursor"] == str(served.rig.lines[0].cursor)
    assert [line["message"] for line in rest] == served.all()[4:]


async def test_head_tells_where_the_answer_would_start_and_ends(written: Served) -> None:
    async with written.client.head(f"{written.logs}?tail=true&num=1") as response:
        assert response.status == 200
        assert response.headers["Logsvc-Cursor"] == str(written.rig.lines[-1].cursor._replace(line=1))
        assert await response.read() == b""


async def test_volume_counts_lines_stored_and_not(written: Served) -> None:
    async with written.client.get(f"{written.url}/v1/apps/{written.name}/volume?step=30s") as response:
        found = orjson.loads(await response.read())
    counts: dict[tuple[int, str, str], int] = {}
    for line in written.rig.lines:
        key = (line.time // (30 * 10**9), line.source.process, line.stream)
        counts[key] = counts.get(key, 0) + 1
    assert found["step"] == 30.0
    assert found["buckets"] == [
        {
            "time": f"2026-11-23T02:{(start * 30 - FIRST) // 60:02d}:{start * 30 % 60:02d}.000000000Z",
            "process": process,
            "stream": stream,
            "lines": lines,
        }
        for (start, process, stream), lines in sorted(counts.items())
    ]


async def test_volume_counts_by_what_is_asked_for(written: Served) -> None:
    async with written.client.get(
        f"{written.url}/v1/apps/{written.name}/volume?step=52w&by=dyno&by=stream"
    ) as response:
        found = orjson.loads(await response.read())["buckets"]
    counts = Counter((line.source.dyno, line.stream) for line in written.rig.lines)
    assert {(bucket["dyno"], bucket["stream"]): bucket["lines"] for bucket in found} == counts
    assert set(found[0]) == {"time", "dyno", "stream", "lines"}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("step=0s", "step"),
        ("step=5", "step"),
        ("step=9999999w", "step"),
        ("by=message", "by"),
        ("by=", "by"),
        ("num=5", "num"),
        ("tail=1", "tail"),
        ("grep_re=(", "grep_re"),
        ("since=x", "since"),
    ],
)
async def test_a_volume_that_cannot_be_counted_is_named(written: Served, query: str, parameter: str) -> None:
    async with written.client.get(f"{written.url}/v1/apps/{written.name}/volume?{query}") as response:
        problem = await problem_of(response)
    assert (problem["status"], problem["parameter"]) == (400, parameter)


async def test_a_volume_of_too_many_buckets_is_refused(written: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logsvc.api.pages.MAX_BUCKETS", 59)
    async with written.client.get(f"{written.url}/v1/apps/{written.name}/volume?step=1s") as response:
        assert (await problem_of(response))["parameter"] == "step"


async def test_apps_are_listed_by_name(written: Served) -> None:
    async with written.client.get(f"{written.url}/v1/apps") as response:
        apps = orjson.loads(await response.read())["apps"]
    names = [app["app"] for app in apps]
    assert names == sorted(names)
    [mine] = [app for app in apps if app["app"] == written.name]
    assert mine["processes"] == ["web", "worker"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", mine["last"])
    async with written.client.get(f"{written.url}/v1/apps?x=1") as response:
        assert (await problem_of(response))["parameter"] == "x"
