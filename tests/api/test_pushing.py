"""Posting lines: durable when answered, never doubled and never lost, however a post is cut and repeated."""

import asyncio
import gzip
import io
import resource
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from logsvc.bus.local import LocalSettings
from logsvc.model import MAX_LINE
from logsvc.store.protocol import Store
from tests.api.served import Served, problem_of, serving
from tests.support.wait import until

JSON = "application/x-ndjson"
TEXT = "text/plain"


def post(served: Served, body: Any, kind: str = TEXT, query: str = "", key: str | None = None, **headers: str) -> Any:
    named = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if key is not None:
        named["Idempotency-Key"] = key
    sent = io.BytesIO(body) if isinstance(body, bytes) else body
    return served.client.post(f"{served.logs}?{query}", data=sent, headers=named)


async def taken(served: Served, body: Any, kind: str = TEXT, query: str = "", **headers: str) -> int:
    async with post(served, body, kind, query, **headers) as response:
        assert response.status == 200, await response.text()
        lines: int = (await response.json())["lines"]
        return lines


async def messages(served: Served) -> list[str]:
    """What the log holds, parts of a line joined."""
    found, rest = [], ""
    for line in await served.objects("num=999999"):
        rest += line["message"]
        if not line.get("partial"):
            found.append(rest)
            rest = ""
    return found


def ndjson(*lines: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


async def test_text_is_there_when_the_answer_comes(served: Served) -> None:
    assert await taken(served, b"one\n\n  two\xff\r\nlast", query="process=build&dyno=build.7&stream=stderr") == 4
    lines = await served.objects()
    assert [line["message"] for line in lines] == ["one", "", "  two\ufffd\r", "last"]
    assert {(line["process"], line["dyno"], line["stream"], line["source"]) for line in lines} == {
        ("build", "build.7", "stderr", "app")
    }


async def test_json_lines_say_what_they_are_or_take_what_the_query_says(served: Served) -> None:
    sent = [
        {"message": "a", "time": "2026-11-23T02:00:00.5+01:00", "process": "web", "dyno": "web.3", "stream": "stderr"},
        {"message": "b", "process": "clock"},
        {"message": "ü\nsecond"},
    ]
    assert await taken(served, ndjson(*sent), JSON, "process=job") == 3
    found = [{k: line[k] for k in ("process", "dyno", "stream", "message")} for line in await served.objects()]
    assert found == [
        {"process": "web", "dyno": "web.3", "stream": "stderr", "message": "a"},
        {"process": "clock", "dyno": "clock.1", "stream": "stdout", "message": "b"},
        {"process": "job", "dyno": "job.1", "stream": "stdout", "message": "ü"},
        {"process": "job", "dyno": "job.1", "stream": "stdout", "message": "second"},
    ]
    assert (await served.objects())[0]["time"] == "2026-11-23T01:00:00.500000000Z"


async def test_what_is_read_can_be_posted_again(served: Served) -> None:
    await served.rig.write(7)
    async with served.get("cursor=true", Accept=JSON) as response:
        body = await response.read()
    assert await taken(served, body, JSON) == 7
    first, second = await served.objects("num=7"), [line.fields() for line in served.rig.lines]
    assert first == second


@pytest.mark.parametrize(
    ("coding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress), ("identity", bytes)],
)
async def test_a_body_may_be_compressed(served: Served, coding: str, compress: Callable[[bytes], bytes]) -> None:
    body = b"".join(b"line %d\n" % n for n in range(5000))
    assert await taken(served, compress(body), Content_Encoding=coding) == 5000
    assert await messages(served) == body.decode().split("\n")[:-1]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_a_body_that_is_not_what_it_says_is_refused(served: Served, coding: str) -> None:
    async with post(served, b"\x01nonsense" * 10, Content_Encoding=coding) as response:
        assert response.status == 400
        await problem_of(response)


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 1.0])
async def test_a_compressed_body_that_ends_in_its_middle_is_not_taken_for_whole(
    served: Served, coding: str, compress: Callable[[bytes], bytes], part: float
) -> None:
    """Its framing is right, so only the compressed data tells."""
    lines = [f"line {n} {n * 7919 % 10007}" for n in range(20_000)]
    body = "".join(f"{line}\n" for line in lines).encode()
    packed = compress(body)
    end = max(1, int((len(packed) - 1) * part))
    assert await taken(served, b"first\n") == 1
    async with post(served, packed[:end], key="k", Content_Encoding=coding) as response:
        assert response.status == 400
        await problem_of(response)
    before = (await messages(served))[1:]
    assert before == lines[: len(before)]
    assert await taken(served, packed, key="k", Content_Encoding=coding) == len(lines) - len(before)
    assert await messages(served) == ["first", *lines]


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
async def test_a_body_may_be_of_several_members(
    served: Served, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    packed = b"".join(compress(b"line %d\n" % n) for n in range(50))
    assert await taken(served, packed, Content_Encoding=coding) == 50
    assert await messages(served) == [f"line {n}" for n in range(50)]


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
async def test_a_body_that_grows_a_thousandfold_is_held_in_pieces(
    served: Served, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    packed = compress((b" " * 65_535 + b"\n") * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert await taken(served, packed, JSON, Content_Encoding=coding) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


async def test_a_compressed_body_that_is_cut_can_be_repeated_uncompressed(served: Served) -> None:
    """Places are counted in the body as it was before it was compressed."""
    lines = [f"line {n} {n * 7919 % 10007}" for n in range(20_000)]
    body = "".join(f"{line}\n" for line in lines).encode()
    packed = gzip.compress(body)
    await cut(served, packed, len(packed) // 2, TEXT, "Content-Encoding: gzip\r\n")
    assert await taken(served, body, key="cut") < 15_000
    assert await messages(served) == lines


async def test_a_line_of_ten_megabytes_loses_no_byte(served: Served) -> None:
    long = "0123456789" * 1_000_000
    assert await taken(served, f"before\n{long}\nafter\n".encode()) > 10_000_000 // MAX_LINE
    assert await messages(served) == ["before", long, "after"]
    assert await taken(served, ndjson({"message": "x"}, {"message": long}, {"message": "y"}), JSON) == 3
    assert (await messages(served))[3:] == ["x", long, "y"]


@pytest.mark.parametrize("kind", [TEXT, JSON])
async def test_bodies_cut_anywhere_and_repeated_double_and_lose_nothing(served: Served, kind: str) -> None:
    """Each try gets a little further, then the connection is cut; the last one goes through."""
    lines = [f"{n} " + "x" * (n * 997 % 3000) for n in range(300)]
    body = "".join(f"{line}\n" for line in lines).encode() if kind == TEXT else ndjson(*({"message": m} for m in lines))
    for part in range(1, 8):
        await cut(served, body, len(body) * part // 8 + part, kind)
    async with post(served, body, kind, key="cut") as response:
        assert response.status == 200
        assert (await response.json())["lines"] <= len(lines) // 4
    assert await messages(served) == lines
    assert await taken(served, body, kind, key="cut") == 0
    assert await messages(served) == lines


async def cut(served: Served, body: bytes, size: int, kind: str, more: str = "") -> None:
    """Send the front of a body, wait until some of it was taken, and go without a word."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /v1/apps/{served.name}/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"{more}Idempotency-Key: cut\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    before = await served.rig.end()
    writer.write(head.encode() + body[:size])
    await writer.drain()
    fence = 1  # written before the first line
    await until(lambda: served.rig.bus.journal.next[0] > before + fence, what="some lines were taken")
    writer.transport.abort()
    await until(lambda: not served.context.push._busy, what="the post has ended")
    assert not await reader.read()


@pytest.mark.parametrize("stored", [False, True])
async def test_a_post_that_was_cut_before_a_restart_goes_on_behind_it(
    store: Store, tmp_path: Path, stored: bool
) -> None:
    lines = [f"line {n}" for n in range(3000)]
    body = "".join(f"{line}\n" for line in lines).encode()
    name = f"again-{stored}".lower()
    async with serving(store, folder=tmp_path, name=name) as served:
        await cut(served, body, len(body) // 2, TEXT)
        if stored:
            await served.rig.store_upto(await served.rig.end())
    async with serving(store, folder=tmp_path, name=name) as served:
        assert 0 < await taken(served, body, key="cut") < 3000
        assert await messages(served) == lines
    async with serving(store, folder=tmp_path, name=name) as served:
        assert await taken(served, body, key="cut") == 0
        assert await messages(served) == lines


async def test_the_same_key_with_another_body_is_refused(served: Served) -> None:
    assert await taken(served, b"one\ntwo\n", key="k") == 2
    for other in (b"one\nTWO\n", b"one\n", b"", b"other\nlines\nmore\n"):
        async with post(served, other, key="k") as response:
            assert response.status == 422
            await problem_of(response)
    assert await taken(served, b"one\ntwo\nthree\n", key="k") == 1, "a post that goes on is the same one"
    assert await taken(served, b"one\ntwo\n", key="K") == 2, "another key is another post"
    assert await messages(served) == ["one", "two", "three", "one", "two"]


async def test_a_post_whose_key_is_under_way_waits_its_turn(served: Served) -> None:
    going = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"one\n"
        await going.wait()
        yield b"two\n"

    async with asyncio.TaskGroup() as group:
        first = group.create_task(taken(served, body(), key="k"))
        await until(lambda: served.context.push._busy)
        async with post(served, b"one\ntwo\n", key="k") as response:
            assert response.status == 409
            assert response.headers["Retry-After"] == "1"
            await problem_of(response)
        assert await taken(served, b"x\n", key="other") == 1
        going.set()
    assert first.result() == 2
    assert await taken(served, b"one\ntwo\n", key="k") == 0


@pytest.mark.parametrize("key", ["", "x" * 256, "ü"])
async def test_a_key_that_cannot_be_used_is_named(served: Served, key: str) -> None:
    async with post(served, b"x\n", key=key) as response:
        assert response.status == 400
        assert (await problem_of(response))["parameter"] == "Idempotency-Key"


async def test_a_line_that_cannot_be_read_is_counted_and_those_before_it_are_taken(served: Served) -> None:
    good = ndjson({"message": "one"}, {"message": "two"})
    async with post(served, good + b"\nnonsense\n" + good, JSON, key="k") as response:
        assert response.status == 400
        problem = await problem_of(response)
    assert problem["line"] == 4
    assert await messages(served) == ["one", "two"]
    assert await taken(served, good + b"\n" + ndjson({"message": "three"}), JSON, key="k") == 1
    assert await messages(served) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("process=a%20b", "process"),
        ("dyno=/", "dyno"),
        ("stream=stdin", "stream"),
        ("process=a&process=b", "process"),
        ("tail=1", "tail"),
    ],
)
async def test_a_parameter_that_cannot_be_used_is_named(served: Served, query: str, parameter: str) -> None:
    async with post(served, b"x\n", query=query) as response:
        assert response.status == 400
        assert (await problem_of(response))["parameter"] == parameter


async def test_other_kinds_of_bodies_are_refused(served: Served) -> None:
    for headers in (
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": TEXT, "Content-Encoding": "compress"},
    ):
        async with served.client.post(served.logs, data=b"x\n", headers=headers) as response:
            assert response.status == 415
            await problem_of(response)
    async with served.client.post(f"{served.url}/v1/apps/no%20name/logs", data=b"x\n") as response:
        assert (await problem_of(response))["parameter"] == "app"


async def test_an_empty_post_takes_nothing(served: Served) -> None:
    assert await taken(served, b"") == 0
    assert await taken(served, b"", JSON, key="k") == 0


async def test_lines_of_a_streamed_body_are_there_before_it_ends(served: Served) -> None:
    going = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"first\nsec"
        await going.wait()
        yield b"ond\n"

    async with asyncio.TaskGroup() as group:
        posting = group.create_task(taken(served, body()))
        await until(lambda: served.rig.bus.journal.next[0] == 1, what="the first line was taken")
        assert await messages(served) == ["first"]
        going.set()
    assert posting.result() == 2
    assert await messages(served) == ["first", "second"]


@pytest.mark.parametrize(
    ("kind", "piece", "size", "lines"),
    [
        (JSON, b"\n" * 65_536, 1 << 22, 0),
        (JSON, b" " * 1023 + b"\n", 1 << 26, 0),
        (TEXT, b"x" * 65_536, 1 << 26, 256),
        (TEXT, b"x" * 1023 + b"\n", 1 << 26, 65_536),
    ],
)
async def test_memory_is_bounded_however_long_the_body(
    served: Served, kind: str, piece: bytes, size: int, lines: int
) -> None:
    """Megabytes without a line, without a newline, of short lines: far less than that is ever held."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(size // len(piece)):
            yield piece

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert await taken(served, body(), kind, key="k") == lines
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 48 * 1024


async def test_where_the_journal_is_full_posts_are_refused_and_go_on_later(store: Store) -> None:
    lines = [f"{n} " + "x" * 1000 for n in range(8000)]
    body = "".join(f"{line}\n" for line in lines).encode()
    small = LocalSettings(
        segment_bytes=256 * 1024, max_bytes=2 * 1024 * 1024, hold_back=0.0, recent_bytes=4096, sync_interval=0.001
    )
    async with serving(store, settings=small) as served:
        refused = 0

        async def taken_whole() -> bool:
            nonlocal refused
            async with post(served, body, key="k") as response:
                if response.status == 200:
                    return True
                assert response.status == 503
                assert response.headers["Retry-After"] == "2"
                assert "full" in (await problem_of(response))["detail"]
            refused += 1
            await served.rig.store_upto(await served.rig.end())
            return False

        await until(taken_whole)
        assert refused
        assert await messages(served) == lines
