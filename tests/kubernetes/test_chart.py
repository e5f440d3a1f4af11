"""The chart as Helm renders it and a real API server takes it: every object, field and default."""

from pathlib import Path

import orjson
import pytest

from logsvc import loading
from tests.support.helm import CHART, helm
from tests.support.kubernetes import Kubernetes

NEEDED = {
    "image": {"repository": "localhost/logsvc"},
    "settings": {
        "kafka": {"bootstrap": ["kafka:9092"], "replication": 2},
        "clickhouse": {"urls": ["http://clickhouse:8123"]},
    },
}
EVERYTHING = {
    "image": {"repository": "localhost/logsvc", "tag": "2", "pullSecrets": [{"name": "registry"}]},
    "settings": {**NEEDED["settings"], "http": {"port": 8080}},
    "secret": "logsvc",
    "secretFiles": "logsvc-files",
    "migrate": {"secret": "logsvc-migrate"},
    "collect": {"priorityClassName": "system-node-critical", "nodeSelector": {"a": "b"}},
    "store": {"autoscaling": {"enabled": True}},
    "serve": {"autoscaling": {"enabled": True}, "service": {"type": "LoadBalancer"}},
    "networkPolicy": {"clients": [{"namespaceSelector": {}}], "metrics": [{"podSelector": {}}]},
    "dashboard": {"enabled": True},
}
API = {**NEEDED, "collect": {"source": "api", "shards": 3}}


VERSION = ("--kube-version", "1.34.4")
"""A Helm that is built from source takes itself for a very old one."""


def rendered(values: dict[str, object]) -> str:
    done = helm("template", "logs", str(CHART), *VERSION, "--namespace", "logs", values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("values", [NEEDED, EVERYTHING, API], ids=["needed", "everything", "api"])
def test_the_api_server_takes_all_of_it(kubernetes: Kubernetes, tmp_path: Path, values: dict[str, object]) -> None:
    namespaces = {item["metadata"]["name"] for item in kubernetes.get("namespaces")["items"]}
    if "logs" not in namespaces:
        kubernetes.kubectl("create", "namespace", "logs")
    # With strict validation a field that isn't one is an error.
    taken = kubernetes.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-n", "logs", "-o", "json", "-f", "-", given=rendered(values)
    )
    objects = {(item["kind"], item["metadata"]["name"]): item for item in orjson.loads(taken)["items"]}
    expected = {("Job", "logs-migrate"), ("ClusterRole", "logs-logs-collect"), ("Service", "logs-serve")}
    roles = {("Deployment", f"logs-{role}") for role in ("store", "drain", "serve")}
    expected |= {("PodDisruptionBudget", "logs-collect")} if values is API else {("Deployment", "logs-rollouts")}
    assert expected | roles | {("Deployment" if values is API else "DaemonSet", "logs-collect")} <= objects.keys()
    file = tmp_path / "logsvc.toml"
    file.write_text(objects["ConfigMap", "logs"]["data"]["logsvc.toml"])
    settings = loading.load(file)
    assert (settings.kafka.bootstrap, settings.kafka.replication) == (["kafka:9092"], 2)
    assert (settings.probe.port, settings.http.host) == (9100, "0.0.0.0")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({**NEEDED, "serve": {"replica": 3}}, "replica"),
        ({**NEEDED, "collect": {"source": "journal"}}, "source"),
        ({"image": {"repository": "a"}}, "settings"),
        ({**NEEDED, "image": {}}, "image.repository is needed"),
    ],
)
def test_values_that_do_not_exist_are_refused_by_name(values: dict[str, object], named: str) -> None:
    done = helm("template", "logs", str(CHART), *VERSION, values=values)
    assert done.returncode != 0
    assert named in done.stderr


def test_monitoring_is_what_the_operator_of_prometheus_takes() -> None:
    values = {
        **NEEDED,
        "podMonitor": {"enabled": True},
        "alerts": {"enabled": True, "labels": {"release": "prometheus"}},
    }
    text = rendered(values)
    assert "kind: PodMonitor" in text
    assert "kind: PrometheusRule" in text
    assert "- alert: LogsvcStoreBehind" in text


def test_helm_finds_nothing_to_say() -> None:
    done = helm("lint", "--strict", str(CHART), *VERSION, values=EVERYTHING)
    assert done.returncode == 0, done.stdout + done.stderr
