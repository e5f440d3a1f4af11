"""Whose the lines of real pods are."""

import asyncio
import re

from tests.kubernetes.collecting import Collecting, saying
from tests.support import until

Filed = tuple[str, str, str]


async def filed(collecting: Collecting) -> set[Filed]:
    """App, process and what is said there, of what is on the bus."""
    found = set()
    for chunk in [chunk for chunk in await collecting.chunks() if chunk.stream.source == "app"]:
        words = [line.rsplit(b" ", 1)[-1].decode() for line in chunk.value.splitlines()]
        found |= {(chunk.stream.app, chunk.stream.process, word) for word in words}
    return found


async def test_pods_are_filed_by_labels_owners_and_namespace(collecting: Collecting) -> None:
    collecting.begin(retention="3")
    shop = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "web"}
    expected = {
        ("shop", "web", "from-web"),
        ("shop", "web.init-migrate", "from-migrate"),
        ("shop", "web.proxy", "from-proxy"),
        ("shop", "worker", "from-worker"),
        ("cache", "from-cache"),
        ("lonely", "from-lonely"),
        ("cron-tick", "from-tick"),
        ("import", "from-import"),
    }
    everything = {each if len(each) == 3 else (collecting.namespace, *each) for each in expected}
    async with collecting.collector() as collector:
        await collector.start()
        collecting.controlled(
            "Deployment",
            "shop-web",
            saying("from-web"),
            saying("from-proxy", "proxy"),
            labels=shop,
            initContainers=[saying("from-migrate", "migrate", then="exit 0")],
        )
        labels = {"app.kubernetes.io/name": "shop"}
        collecting.controlled("Deployment", "shop-worker", saying("from-worker"), labels=labels)
        collecting.controlled("StatefulSet", "cache", saying("from-cache"))
        collecting.pod("lonely", saying("from-lonely"))
        once = saying("from-import", then="exit 0")
        job = {"template": {"spec": collecting.spec(once, restartPolicy="Never")}}
        collecting.kubernetes.apply(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": collecting.metadata("import"), "spec": job}
        )
        ticking = {"template": {"spec": collecting.spec(saying("from-tick", then="exit 0"), restartPolicy="Never")}}
        schedule = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": ticking}}
        collecting.kubernetes.apply(
            {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": collecting.metadata("tick"), "spec": schedule}
        )
        collecting.kubectl("create", "job", "--from=cronjob/tick", "tick-by-hand")

        async def is_all() -> bool:
            return await filed(collecting) >= everything

        await until(is_all, 120, what="the lines of all pods")
    assert await filed(collecting) == everything
    streams = await collecting.streams()
    assert {stream.retention for stream in streams} == {3}
    names = {
        item["metadata"]["name"] for item in collecting.kubernetes.get("pods", "-n", collecting.namespace)["items"]
    }
    # What is said of a rollout or a job is said of no pod.
    assert {stream.dyno for stream in streams if stream.source == "app"} <= names


async def test_a_missing_right_is_named_and_collection_begins_when_it_is_granted(collecting: Collecting) -> None:
    collecting.begin()
    collecting.kubernetes.kubectl("delete", "clusterrolebinding", f"collect-{collecting.namespace}")
    collecting.pod("lonely", saying("from-lonely"))
    async with collecting.collector() as collector:
        await collector.start()
        await collector.said("the watch of pods waits")
        assert '- {apiGroups: [""], resources: ["pods"], verbs: ["list"]}' in collector.stderr
        assert '- {apiGroups: [""], resources: ["namespaces"], verbs: ["list"]}' in collector.stderr
        where = {name: value for name, value in collector.settings.items() if name.startswith("kubernetes.")}
        bad = await asyncio.to_thread(collecting.platform.run, "check", fails=True, **where)
        rule = '- {apiGroups: [""], resources: ["namespaces"], verbs: ["list", "watch"]}'
        assert f"Add to the rules of the ClusterRole: {rule}" in bad
        collecting.begin()

        async def came() -> bool:
            return (collecting.namespace, "lonely", "from-lonely") in await filed(collecting)

        await until(came, 120, what="the line of a pod that waited")
        good = await asyncio.to_thread(collecting.platform.run, "check", **where)
        assert re.search(r"ok +rights of namespaces +list, watch", good)
