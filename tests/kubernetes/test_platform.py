"""What happens to real pods, as whoever watches the tail reads it."""

from typing import Any

import orjson
import pytest

from tests.kubernetes.collecting import IMAGE, Collecting, saying
from tests.support import until

LABELS = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "web"}
BEGIN = f"Starting process of image {IMAGE}"


def dynos(collecting: Collecting) -> list[str]:
    pods = collecting.kubernetes.get("pods", "-n", collecting.namespace, "-l", "own=web")["items"]
    return [pod["metadata"]["name"] for pod in pods]


async def comes(collecting: Collecting, dyno: str, text: str, times: int = 1) -> None:
    async def said() -> bool:
        return (await collecting.story(dyno)).count(text) >= times

    try:
        await until(said, 120, what=f"{text!r} of {dyno}")
    except AssertionError as error:
        error.add_note(f"what was said: {await collecting.story(dyno)}")
        raise


async def test_a_rollout_is_told_once_though_the_collector_is_killed(collecting: Collecting) -> None:
    collecting.begin()
    async with collecting.collector() as collector:
        await collector.start()
        collecting.controlled("Deployment", "web", saying("hello"), labels=LABELS)
        (old,) = await until(lambda: dynos(collecting), what="the first dyno")
        await comes(collecting, old, "State changed from starting to up")
        collector.kill()
        await collector.start()
        collecting.kubectl("rollout", "restart", "deployment/web")
        collecting.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        await comes(collecting, old, "State changed from stopping to down")
        (new,) = await until(lambda: [dyno for dyno in dynos(collecting) if dyno != old], what="the second dyno")
        await comes(collecting, new, "State changed from starting to up")
        collector.kill()
        await collector.start()
        collecting.kubectl("delete", "deployment", "web", "--wait")
        await comes(collecting, new, "State changed from stopping to down")
    for dyno in (old, new):
        assert await collecting.story(dyno) == [
            BEGIN,
            "State changed from starting to up",
            "Stopping all processes with SIGTERM",
            "Process exited with status 0",
            "State changed from stopping to down",
        ]


async def test_a_crash_an_image_that_is_not_there_and_a_process_that_takes_too_much(collecting: Collecting) -> None:
    collecting.begin()
    async with collecting.collector() as collector:
        await collector.start()
        crash = saying("hello", then="until [ -e /counts/go ]; do usleep 50000; done; sleep 1; exit 3")
        crash["volumeMounts"] = [{"name": "counts", "mountPath": "/counts"}]
        collecting.pod("crash", crash, labels=LABELS)
        collecting.pod("lost", {**saying("hello"), "image": "localhost/nowhere:1"}, labels=LABELS)
        greedy = saying("hello", then="exec awk 'BEGIN { while (1) x = x x \"greedy\" }'")
        collecting.pod("greedy", {**greedy, "resources": {"limits": {"memory": "16Mi"}}}, labels=LABELS)
        killed = saying("hello", then="sleep 1; sh -c 'kill -SEGV $PPID'; sleep 60")
        # A signal of its own doesn't end the first process of a namespace: here that is another one.
        collecting.pod("killed", killed, labels=LABELS, restartPolicy="Never", shareProcessNamespace=True)
        # The kubelet need not tell of a process that runs for a moment only.
        await comes(collecting, "crash", "State changed from starting to up")
        (collecting.counts / "go").touch()
        await comes(collecting, "crash", "Process exited with status 3", 2)
        await comes(collecting, "greedy", "Process exited with status 137: it took more memory than it may")

        await comes(collecting, "killed", "Process exited with status 139 (SIGSEGV)")

        async def pulled() -> bool:
            return any("localhost/nowhere:1 can't be had: " in text for text in await collecting.story("lost"))

        await until(pulled, 120, what="the image to be missed")
    assert (await collecting.story("crash"))[:4] == [
        BEGIN,
        "State changed from starting to up",
        "Process exited with status 3",
        "State changed from up to crashed",
    ]
    assert len(await collecting.story("lost")) == 1


@pytest.mark.parametrize("collecting", ["rollouts"], indirect=True)
async def test_rollouts_scaling_and_jobs_are_told(collecting: Collecting) -> None:
    collecting.begin()
    async with collecting.collector() as collector:
        await collector.start()
        collecting.controlled("Deployment", "web", saying("hello"), labels=LABELS)
        await comes(collecting, "web", "Rollout of revision 1 is done: 1 of 1 dynos are up")
        collector.kill()
        await collector.start()
        collecting.kubectl("patch", "deployment/web", "-p", '{"spec": {"progressDeadlineSeconds": 5}}')
        collecting.kubectl("set", "image", "deployment/web", "main=localhost/nowhere:1")
        await comes(collecting, "web", "Rollout of revision 2 begins: localhost/nowhere:1")
        stuck = await until(lambda: stuck_rollout(collecting), 120, "the rollout to be given up on")
        assert "has timed out progressing" in stuck
        collecting.kubectl("rollout", "undo", "deployment/web")
        await comes(collecting, "web", "Rollout of revision 3 is done: 1 of 1 dynos are up")
        collecting.kubectl("scale", "deployment/web", "--replicas=2")
        await comes(collecting, "web", "Scaled from 1 to 2 dynos")
        await comes(collecting, "web", "Rollout of revision 3 is done: 2 of 2 dynos are up")
        job = {"template": {"metadata": {"labels": LABELS}, "spec": collecting.spec(once(), restartPolicy="Never")}}
        metadata = collecting.metadata("release-7")
        collecting.kubernetes.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job})
        await comes(collecting, "release-7", "Job release-7 is complete")
        job["template"]["metadata"]["labels"] = {"app.kubernetes.io/name": "shop"}
        tick = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}
        metadata = collecting.metadata("tick")
        collecting.kubernetes.apply({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": tick})
        collecting.kubectl("create", "job", "tick-1", "--from=cronjob/tick")
        await comes(collecting, "tick-1", "Job tick-1 is complete")
    assert {stream.process for stream in await collecting.streams() if stream.dyno == "tick-1"} == {"cron-tick"}
    story = await collecting.story("web")
    assert len(story) == len(set(story))
    assert story[0] == f"Rollout of revision 1 begins: {IMAGE}"
    assert await collecting.story("release-7") == ["Job release-7 begins", "Job release-7 is complete"]


@pytest.mark.parametrize("collecting", ["rollouts"], indirect=True)
async def test_probes_that_fail_and_a_dyno_without_room_are_told_once(collecting: Collecting) -> None:
    collecting.begin()
    failing = {"exec": {"command": ["/bin/sh", "-c", "echo not yet; exit 1"]}, "periodSeconds": 1}
    async with collecting.collector() as collector:
        await collector.start()
        collecting.pod("sick", {**saying("hello"), "readinessProbe": failing}, labels=LABELS)
        await comes(collecting, "sick", "Readiness probe failed: not yet")
        collector.kill()
        await collector.start()
        collecting.pod("dying", {**saying("hello"), "livenessProbe": {**failing, "failureThreshold": 1}}, labels=LABELS)
        await comes(collecting, "dying", "Liveness probe failed: not yet")
        vast = {**saying("hello"), "resources": {"requests": {"memory": "100Ti"}}}
        collecting.pod("vast", vast, labels=LABELS)

        async def no_room() -> bool:
            return bool(await collecting.story("vast"))

        await until(no_room, 120, what="the dyno without room")
    sick = await collecting.story("sick")
    assert len(sick) == len(set(sick))
    (text,) = await collecting.story("vast")
    assert text.startswith("There is no room for the dyno: 0/1 nodes are available: 1 Insufficient memory")


async def test_who_is_evicted_is_told_why(collecting: Collecting) -> None:
    collecting.begin()
    async with collecting.collector() as collector:
        await collector.start()
        collecting.pod("web", saying("hello"), labels=LABELS)
        await comes(collecting, "web", "State changed from starting to up")
        path = f"/api/v1/namespaces/{collecting.namespace}/pods/web/eviction"
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": collecting.metadata("web")}
        collecting.kubernetes.kubectl("create", "--raw", path, "-f", "-", given=orjson.dumps(eviction).decode())
        await comes(collecting, "web", "State changed from stopping to down")
    assert (
        "Stopping all processes with SIGTERM: EvictionByEvictionAPI: Eviction API: evicting"
        in await collecting.story("web")
    )


def once() -> dict[str, Any]:
    return saying("hello", then="exit 0")


async def stuck_rollout(collecting: Collecting) -> str | None:
    """What was said of it, once it was."""
    return next((text for text in await collecting.story("web") if " is stuck: " in text), None)
