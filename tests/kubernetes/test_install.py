"""The chart at work: the image built and logsvc installed by Helm, used, upgraded under load, and removed."""

import asyncio
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logsvc.access.static import mint
from tests.client.program import paas
from tests.kubernetes.collecting import IMAGE, Namespace, writer
from tests.kubernetes.release import ROLES, Address, Release, Tailing, reached
from tests.support import Tally, until
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import Cluster
from tests.support.kubernetes import Kubernetes, outside

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
LABELS = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "web"}
SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}}
"""All of it has to fit on two cores."""


@pytest.fixture(scope="module")
def image(kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The repository of the image that was built from this folder, which the node knows as 1 and as 2."""
    archive = tmp_path_factory.mktemp("image") / "logsvc.tar"
    script = str(ROOT / "scripts" / "image.sh")
    command = outside(script, "build", "localhost/logsvc:1", str(archive))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kubernetes.load(archive, "localhost/logsvc:1", "localhost/logsvc:2")
    archive.unlink()
    return "localhost/logsvc"


@pytest.fixture
def shop(kubernetes: Kubernetes, tmp_path: Path) -> Namespace:
    """A tenant with nothing in it yet."""
    return Namespace(kubernetes, tmp_path)


@pytest.fixture
def release(
    kubernetes: Kubernetes, kafka: Cluster, clickhouse: ClickHouse, image: str, tmp_path: Path
) -> Iterator[Release]:
    bus = kafka.settings()
    values = {
        "image": {"repository": image, "tag": "1", "pullPolicy": "Never"},
        "secret": "logsvc",
        "secretFiles": "logsvc-files",
        "settings": {
            "kafka": {
                "bootstrap": [f"{kubernetes.address}:{kafka.brokers[0].listeners['PLAINTEXT']}"],
                **{name: getattr(bus, name) for name in ("prefix", "replication", "min_insync", "development")},
            },
            "clickhouse": {"urls": [clickhouse.url], "database": f"logsvc_test_{secrets.token_hex(4)}"},
            "bus": {"partitions": 3},
            "auth": {"tokens_file": "/run/secrets/logsvc/tokens.toml"},
        },
        "collect": {"nodeFolder": str(tmp_path / "node"), "resources": SMALL},
        **{role: {"resources": SMALL} for role in ("migrate", "store", "drain", "serve")},
    }
    made = Release(kubernetes, values)
    yield made
    made.uninstall()


def web(version: int) -> dict[str, Any]:
    """Numbered lines, of a writer that is called as its pod."""
    container = writer("", batch=20, pause=50_000, version=version)
    name = {"name": "WRITER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    container["env"] = [name, *(each for each in container["env"] if each["name"] != "WRITER")]
    return container


def objects(kubernetes: Kubernetes) -> set[str]:
    """All that the API server has, but what it notes by itself of what happened."""
    kinds = set(kubernetes.kubectl("api-resources", "--verbs=list", "-o", "name").split())
    shown = "{range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{'\\n'}{end}"
    asked = ",".join(sorted(kinds - {"events", "events.events.k8s.io", "componentstatuses"}))
    return set(kubernetes.kubectl("get", asked, "-A", "-o", f"jsonpath={shown}").splitlines())


def others(shop: Namespace) -> set[str]:
    """The same without what is the tenant's."""
    return {each for each in objects(shop.kubernetes) if f" {shop.namespace}/" not in each}


def story(lines: list[str], dyno: str) -> list[str]:
    """What the platform said of a dyno, in order."""
    return [line.split("]: ", 1)[1] for line in lines if f" platform[{dyno}]: " in line]


async def test_install_a_rollout_an_upgrade_under_load_and_no_trace_of_it(
    release: Release, shop: Namespace, tmp_path: Path
) -> None:
    node = tmp_path / "node"
    token, entry = mint("test", shop.namespace, ("logs:read",), ())
    release.prepare({"LOGSVC_SESSIONS_KEYS": f'["{secrets.token_urlsafe(32)}"]'}, {"tokens.toml": entry})
    accounts = {f"ServiceAccount {namespace}/default" for namespace in (release.namespace, shop.namespace)}
    shop.make()
    await until(lambda: objects(shop.kubernetes) >= accounts, what="the namespaces")
    before = others(shop)

    await asyncio.to_thread(release.install)
    assert {role: len(release.pods(role)) for role in ROLES} == {
        "collect": 1, "rollouts": 1, "store": 2, "drain": 2, "serve": 2
    }  # fmt: skip
    holds_what_is_promised_of_the_image(release)

    async with reached(release) as address, Tailing(tmp_path / "tail", address.url, token, "shop") as tail:
        tail.launch()
        shop.controlled("Deployment", "web", web(1), labels=LABELS, replicas=2)
        await until(lambda: tail.prints("platform[web]: Rollout of revision 1 is done: 2 of 2 dynos are up"), 180)
        first = dynos(shop)
        await goes_on(tail, first)
        shop.controlled("Deployment", "web", web(2), labels=LABELS, replicas=2)
        await until(lambda: tail.prints("platform[web]: Rollout of revision 2 is done: 2 of 2 dynos are up"), 180)
        for dyno in first:
            text = f"platform[{dyno}]: State changed from stopping to down"
            await until(lambda text=text: tail.prints(text), 180, text)

        assert address.connections == 1
        await asyncio.to_thread(release.upgrade, "image.tag=2")
        await until(lambda: release.images() == {"localhost/logsvc:2"}, 180, "the old pods to end")
        await until(lambda: address.connections > 1, 180, "the tail that was cut to come back")
        await goes_on(tail, second := dynos(shop))

        written = await everything_written(shop)
        await until(lambda: tail.look().complete(written), 180, "the last lines")
        tail.tally.check(written)
        assert written.keys() == {*first, *second}
        tells_of_the_rollout(tail.lines, first, second)
        await until(lambda: has_all(address, token, written), 180, "history")

    await asyncio.to_thread(release.uninstall)
    await until(lambda: others(shop) <= before, 180, "nothing but what was there before")
    assert [path.name for path in node.iterdir()] == ["collector"]
    assert {path.name for path in (node / "collector").iterdir()} == {"checkpoint", "pods"}

    # With what is left on the node a later install goes on where this one was.
    shop.pod("late", writer("late", lines=2000), labels=LABELS)
    written |= await until(lambda: shop.written("late"), 180, "lines that nobody collects")
    await asyncio.to_thread(release.install)
    async with reached(release) as address:
        await until(lambda: has_all(address, token, written), 180, "the lines written meanwhile")

    await asyncio.to_thread(release.uninstall)
    shop.kubectl("delete", "pod", "late", "--wait")
    await asyncio.to_thread(release.install, "collect.source=api")
    assert {role: len(release.pods(role)) for role in ("collect", "rollouts")} == {"collect": 2, "rollouts": 0}
    shop.pod("followed", writer("followed", lines=2000), labels=LABELS)
    written |= await until(lambda: shop.written("followed"), 180, "lines that are followed")
    async with reached(release) as address:
        await until(lambda: has_all(address, token, written), 180, "the lines that came through the API server")


def holds_what_is_promised_of_the_image(release: Release) -> None:
    """Of a pod that runs: nobody in particular, and no place to write to."""
    pod = release.pods("serve")[0]["metadata"]["name"]
    assert "logsvc, version " in release.kubectl("exec", pod, "--", "logsvc", "--version")
    assert release.kubectl("exec", pod, "--", "id", "-u") == "65532\n"
    with pytest.raises(AssertionError, match="Read-only file system"):
        release.kubectl("exec", pod, "--", "touch", "/tmp/file")


async def has_all(address: Address, token: str, written: dict[str, int]) -> bool:
    """Whether history has the last lines; then it has each line once and in order."""
    read = await asyncio.to_thread(
        paas, "logs", "-a", "shop", "--since", "2h", url=address.url, timeout=180, PAAS_TOKEN=token
    )
    tally = Tally()
    tally.feed(read.stdout)
    if not tally.complete(written):
        return False
    tally.check(written)
    return True


def dynos(shop: Namespace) -> list[str]:
    """The pods that run, but those that are about to go."""
    items = shop.kubernetes.get("pods", "-n", shop.namespace, "-l", "own=web")["items"]
    return sorted(item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"])


async def goes_on(tail: Tailing, names: list[str]) -> None:
    """Wait until more lines of each writer are in the tail than now."""
    seen = {name: tail.look().next(name) for name in names}
    await until(lambda: all(tail.look().next(name) > seen[name] for name in names), 180, f"lines behind {seen}")


async def everything_written(shop: Namespace) -> dict[str, int]:
    """End the app; what each of its pods has counted."""
    shop.kubectl("scale", "deployment/web", "--replicas=0")
    await until(lambda: not shop.kubernetes.get("pods", "-n", shop.namespace)["items"], 180, "all pods to end")
    return shop.written(*shop.counted()) or {}


def tells_of_the_rollout(lines: list[str], first: list[str], second: list[str]) -> None:
    """What the platform said, and where it stands among the lines of the app."""
    told = story(lines, "web")
    assert len(told) == len(set(told))
    assert [text for text in told if "begins" in text or "is done: 2" in text] == [
        f"Rollout of revision 1 begins: {IMAGE}",
        "Rollout of revision 1 is done: 2 of 2 dynos are up",
        f"Rollout of revision 2 begins: {IMAGE}",
        "Rollout of revision 2 is done: 2 of 2 dynos are up",
    ]
    for dyno in [*first, *second]:
        assert story(lines, dyno) == [
            f"Starting process of image {IMAGE}",
            "State changed from starting to up",
            "Stopping all processes with SIGTERM",
            "Process exited with status 0",
            "State changed from stopping to down",
        ]
        own = [number for number, line in enumerate(lines) if f" app[{dyno}]: " in line]
        # When a container starts, Kubernetes tells a moment later; its end is said behind its last line.
        end = next(number for number, line in enumerate(lines) if f" platform[{dyno}]: Process exited" in line)
        assert own[-1] < end
