"""A drain on the real tiers, and a receiver that fails in every way there is: each line once, in order, or counted."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse

from logsvc import metrics
from logsvc.drains import report
from logsvc.drains.model import Drain, State
from logsvc.drains.trial import send_test
from logsvc.drains.trouble import PATIENCE
from logsvc.model import EVERYTHING, Filter
from logsvc.store.protocol import Store
from tests.drains.desk import Desk, desk
from tests.support import drain_formats, numbered, until
from tests.support.certificates import serving
from tests.support.receiver import Receiver, answer, cut, hang


async def test_lines_arrive_with_the_headers_of_heroku(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        await working.write(3)  # before there is a drain
        working.written = 0
        drain = await working.add(receiver.url.replace("//", "//user:s%20cret@") + "/path?token=1")
        await working.write(5)
        await working.has_all(receiver)
        (frame,) = receiver.all
        assert frame.path == "/path?token=1"
        assert frame.headers["Logplex-Drain-Token"] == drain.token
        assert frame.headers["Authorization"] == "Basic dXNlcjpzIGNyZXQ="
        assert frame.headers["User-Agent"].startswith("Logplex/")
        assert frame.headers["Content-Type"] == "application/logplex-1"
        assert len(frame.id) == 32


async def test_its_status_says_at_once_that_the_first_lines_have_come(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EVERY", 1e9)
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        drain = await working.add(receiver.url)

        async def delivered() -> int | None:
            status = await working.status(drain)
            return status.lines if status is not None and status.state is State.DELIVERING else None

        async def nothing_yet() -> bool:
            return await delivered() == 0

        async def some() -> bool:
            return bool(await delivered())

        await until(nothing_yet)
        await working.write(10)
        await until(some)


async def test_the_status_of_a_drain_that_always_has_something_to_send_is_as_new_as_any(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EVERY", 0.0)
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:

        async def while_more_comes(_: web.Request) -> web.Response:
            await working.write(2)
            await working.rig.window_is_full()
            return web.Response(status=204)

        receiver.behave = while_more_comes
        drain = await working.add(receiver.url)
        await working.write(2)

        async def many() -> bool:
            status = await working.status(drain)
            return status is not None and status.lines > 50

        await until(many, what="the status to tell of what was delivered")
        status = await working.status(drain)
        assert status is not None
        assert (status.state, status.lag_lines, status.lag_seconds) == (State.DELIVERING, 0, 0.0)


FAILURES = {
    "500": answer(500),
    "503 and Retry-After": answer(503, **{"Retry-After": "0"}),
    "429": answer(429),
    "a redirect": answer(307, Location="http://169.254.169.254/"),
    "no answer": hang,
    "a cut connection": cut,
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", FAILURES)
async def test_what_is_not_taken_is_sent_again_under_the_same_id_until_it_is(
    store: Store, tmp_path: Path, certificates: tuple[Path, Path], name: str, *, tls: bool
) -> None:
    patience = 0.5 if name == "no answer" else 60
    ca, certificate = certificates
    async with (
        desk(store, tmp_path, request_timeout=patience, ca_file=str(ca)) as working,
        Receiver().listening(context=serving(certificate) if tls else None) as receiver,
    ):
        await working.add(receiver.url)
        receiver.script = [FAILURES[name]] * 2
        await working.write(10, chunks=3)
        await until(lambda: len(receiver.all) >= 3)
        await working.write(10, chunks=3)
        await working.has_all(receiver)
        assert receiver.verdict.repeated >= 2
        assert len({frame.id for frame in receiver.all[:3]}) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_is_left_alone_for_as_long_as_it_asks(store: Store, tmp_path: Path, status: int) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        drain = await working.add(receiver.url)
        receiver.script = [answer(status, **{"Retry-After": "1800"})]
        await working.write(10)
        await until(lambda: state_is(working, drain, State.RETRYING))
        told = await working.status(drain)
        assert told is not None
        assert told.retry_at is not None
        assert told.retry_at - told.at == pytest.approx(1800, abs=60)
        await working.add(f"{receiver.url}/other", start=drain.start)
        await until(lambda: receiver.all[-1].path == "/other", what="another drain to be delivered meanwhile")
        assert len(receiver.all) == 2


async def test_what_is_refused_is_dropped_counted_in_the_stream_and_told_to_the_app(
    store: Store, tmp_path: Path
) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        drain = await working.add(receiver.url.replace("//", "//user:secret@") + "/secret")
        receiver.behave = answer(400)
        await working.write(7)
        await until(lambda: state_is(working, drain, State.DROPPING))
        status = await working.status(drain)
        assert status is not None
        assert status.error == "The receiver answers 400 Bad Request."
        await until(lambda: len(receiver.all) == 2)  # what its app was told is refused as well
        receiver.behave = answer()
        await working.write(5)
        await working.has_all(receiver)
        (count,) = {text for text in receiver.verdict.texts if text.startswith(b"Error L10 ") and b": 8 " in text}
        assert count.startswith(b"Error L10 (output buffer overflow): 8 messages dropped since 20")
        assert receiver.all[2].texts()[0] == count  # the first one that is taken
        (told, *_) = await working.told()
        assert told.endswith(b"the receiver answers 400 Bad Request. 7 lines were dropped")
        assert b"secret" not in told


async def test_lines_that_are_rejected_of_frames_that_are_taken_are_counted_and_told_once(
    store: Store, tmp_path: Path
) -> None:
    """What is told goes through the same drain, and is rejected as well."""

    async def in_part(request: web.Request) -> web.Response:
        records = len(drain_formats.otlp(await request.read()))
        partial = ExportLogsPartialSuccess(rejected_log_records=records, error_message="over quota")
        return web.Response(body=ExportLogsServiceResponse(partial_success=partial).SerializeToString())

    async with desk(store, tmp_path) as working, Receiver(in_part).listening() as receiver:
        before = taken()
        drain = await working.add(f"otlp+{receiver.url}")
        for _ in range(5):
            seen = len(receiver.all)
            await working.write(3)
            await until(lambda seen=seen: len(receiver.all) > seen)
        await until(working.told)
        await until(lambda: any(b"over quota" in text for text in receiver.verdict.texts))
        (told,) = await working.told()
        assert told.endswith(b"the receiver rejects lines of what it takes: over quota. 3 lines were dropped")
        receiver.behave = answer(200)
        await working.write(1)
        await working.has_all(receiver)
        counts = [text for text in receiver.verdict.texts if text.startswith(b"Error L10 ")]
        assert counts[-1].startswith(b"Error L10 (output buffer overflow): 16 messages dropped since 20")
        await until(lambda: taken() - before == 1, what="what was rejected not to count as taken")
        await until(lambda: working_again(working))

        async def in_status() -> bool:
            status = await working.status(drain)
            return status is not None and status.error == "The receiver rejects lines of what it takes: over quota."

        await until(in_status)


async def test_a_drain_that_fails_is_told_to_its_app_in_words_and_so_is_that_it_works_again(
    store: Store, tmp_path: Path
) -> None:
    async with desk(store, tmp_path) as working, Receiver(answer(503)).listening() as receiver:
        drain = await working.add(receiver.url, plan="pro")
        await working.write(1)
        await until(working.told)
        status = await working.status(drain)
        assert status is not None
        assert status.state is State.RETRYING
        assert status.error == "The receiver answers 503 Service Unavailable."
        assert status.retry_at is not None
        receiver.behave = answer()
        await working.has_all(receiver)
        await until(lambda: working_again(working))
        first, second = await working.told()
        assert b"answers 503 Service Unavailable, for" in first
        assert second.endswith(b"the receiver takes lines again")
        assert {each.chunk.stream.retention for each in await working.told_chunks()} == {3}, "as the plan has it"


async def test_an_app_is_told_once_whoever_goes_on_with_its_drain(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver(answer(503)).listening() as receiver:
        drain = await working.add(receiver.url)
        await working.write(1)
        await until(working.told)
        # The next try begins once it is saved that it was told.
        await until(lambda: len(receiver.all) > PATIENCE)
        for number in range(3):
            await working.stop()
            if number == 2:
                drain = await working.change(replace(drain, plan="pro"))
            seen = len(receiver.all)
            working.start()
            await until(lambda seen=seen: len(receiver.all) > seen + PATIENCE)
        assert len(await working.told()) == 1
        receiver.behave = answer()
        await working.has_all(receiver)
        await until(lambda: working_again(working))


async def working_again(working: Desk) -> bool:
    return len(await working.told()) == 2


async def test_frames_are_as_large_as_they_may_be_and_a_longer_line_goes_alone(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path, batch_bytes=4096) as working, Receiver().listening() as receiver:
        start = await working.rig.timeline.end()
        await working.write(50, chunks=20, size=40)
        await working.write(1, size=9000)
        await working.write(50, size=40)
        await working.add(receiver.url, start=start)
        await working.has_all(receiver)
        sizes = [len(frame.body) for frame in receiver.all]
        assert all(size < 4096 + 1000 for size in sizes if size < 9000)
        assert sum(size >= 9000 for size in sizes) == 1
        assert sum(size > 3000 for size in sizes) > len(sizes) * 0.9


async def test_a_filter_is_applied_and_what_it_leaves_out_is_behind_all_the_same(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        drain = await working.add(receiver.url, Filter(process=frozenset({"worker"}), exclude=("seq=3",)))
        await working.write(3, process="web")
        await working.write(4, process="worker")
        await until(lambda: receiver.verdict.tally.next("w") == 7)
        await until(lambda: len(receiver.verdict.texts) == 3)
        await working.write(2, process="web")
        await working.change(replace(drain, filter=EVERYTHING))
        await working.write(2, process="web")
        await until(lambda: receiver.verdict.tally.next("w") == 11)
        assert receiver.verdict.tally.doubled == 0


async def test_an_engine_that_is_killed_anywhere_goes_on_with_the_same_frame(store: Store, tmp_path: Path) -> None:
    """Each time in the middle of a request that the receiver has taken and nobody was told of."""
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        await working.add(receiver.url)
        for _ in range(5):
            receiver.script = [hang]
            seen = len(receiver.all)
            await working.write(20, chunks=4)
            await until(lambda seen=seen: len(receiver.all) > seen and not receiver.script)
            await working.stop()
            await working.write(20, chunks=4)
            working.start()
        await working.has_all(receiver)
        await until(lambda: receiver.verdict.repeated == 5)


async def test_an_engine_that_ends_in_order_leaves_nothing_to_send_again(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        await working.add(receiver.url)
        before = taken()
        for _ in range(5):
            await working.write(20, chunks=4)
            await until(lambda: taken() - before == working.written)
            await working.stop()
            working.start()
        await working.write(1)
        await working.has_all(receiver)
        assert receiver.verdict.repeated == 0


def taken() -> float:
    """Lines that deliveries know to be taken."""
    return metrics.REGISTRY.get_sample_value("logsvc_drain_lines_total") or 0.0


async def test_a_paused_drain_goes_on_where_it_was_and_a_removed_one_stops(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        drain = await working.add(receiver.url)
        await working.write(5)
        await working.has_all(receiver)
        await working.change(replace(drain, paused=True))
        await until(lambda: not deliveries())
        await working.write(5)
        await working.change(drain)
        await working.has_all(receiver)
        await working.drains.remove(drain.id)
        await until(lambda: gone(working, drain))
        await working.write(1)
        other = await working.add(receiver.url + "/other")
        await working.write(1)
        await until(lambda: receiver.all[-1].path == "/other")
        assert receiver.verdict.texts[-1] == numbered("w", 11)
        assert working.written == 12
        assert other.token != drain.token


async def test_of_a_drain_removed_while_nobody_delivers_nothing_is_kept(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        removed, other = await working.add(receiver.url), await working.add(receiver.url + "/other")
        await working.write(5)
        await until(lambda: {post.path for post in receiver.all} >= {"/", "/other"})
        await working.stop()
        async with working.drains.hold(0) as share:
            assert share.kept == {removed.id, other.id}
        await working.drains.remove(removed.id)
        working.start()
        await until(lambda: gone(working, removed))
        await working.stop()
        async with working.drains.hold(0) as share:
            assert share.kept == {other.id}


def deliveries() -> list[str]:
    """Names of what delivers now."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("drain ")]


async def state_is(working: Desk, drain: Drain, state: State) -> bool:
    status = await working.status(drain)
    return status is not None and status.state is state


async def gone(working: Desk, drain: Drain) -> bool:
    return await working.status(drain) is None


async def test_a_hanging_drain_delays_no_other(store: Store, tmp_path: Path) -> None:
    async with (
        desk(store, tmp_path) as working,
        Receiver(hang).listening() as stuck,
        Receiver().listening() as receiver,
    ):
        for number in range(20):
            await working.add(f"{stuck.url}/{number}")
        await working.add(receiver.url)
        await working.write(10, chunks=10)
        await working.has_all(receiver)
        await until(lambda: len(stuck.all) == 20)


async def test_gzip_where_the_url_asks_for_it(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        await working.add(f"{receiver.url}#gzip")
        await working.write(5)
        await working.has_all(receiver)
        assert receiver.all[0].headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize(
    ("protocol", "path", "kind"),
    [("otlp", "/v1/logs", "application/x-protobuf"), ("loki", "/loki/api/v1/push", "application/json")],
)
async def test_other_protocols_go_through_the_same_engine(
    store: Store, tmp_path: Path, protocol: str, path: str, kind: str
) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        await working.add(f"{protocol}+{receiver.url}")
        receiver.script = [answer(503)]
        await working.write(10, chunks=3)
        await working.has_all(receiver)
        await until(lambda: receiver.verdict.repeated == 1)
        assert {(frame.path, frame.headers["Content-Type"]) for frame in receiver.all} == {(path, kind)}


async def test_a_test_line_is_sent_at_once_and_the_answer_told(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as working, Receiver().listening() as receiver:
        drain = await working.add(receiver.url)
        outbound = working.means.outbound
        trial = await send_test(drain, outbound)
        assert trial.taken
        assert trial.answer == "The receiver answers 204 No Content."
        assert receiver.verdict.texts[0].startswith(b"Test line ")
        receiver.script = [lambda _: web.Response(status=403, text="who are you?")]
        trial = await send_test(drain, outbound)
        assert not trial.taken
        assert trial.answer == "The receiver answers 403 Forbidden: who are you?."
