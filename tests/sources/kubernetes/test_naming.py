"""Where a container's lines are filed. The namespace decides whose they are, whatever a pod says of itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.access.grant import NAME
from logsvc.config import Limits
from logsvc.sources.kubernetes import naming
from logsvc.sources.kubernetes.naming import Filed, Rules, Tenant
from logsvc.sources.kubernetes.objects import Namespace, Owner, PodObject
from logsvc.sources.kubernetes.podlogs import Pod
from tests.sources.kubernetes import manifests

APP, PROCESS = "app.kubernetes.io/name", "app.kubernetes.io/component"
ALL_LABELS = (APP, PROCESS, "dyno", "pod-template-hash", "namespace", "kubernetes.io/metadata.name")

label_values = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", fullmatch=True)
"""What a label may hold: at most 63 characters, and nothing is legal too."""
dns_labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
dns_names = st.lists(dns_labels, min_size=1, max_size=4).map(".".join).filter(lambda name: len(name) <= 253)
owners = st.tuples(
    st.sampled_from(["apps/v1", "batch/v1", "v1", "postgresql.cnpg.io/v1", "argoproj.io/v1alpha1"]),
    st.sampled_from(["ReplicaSet", "Job", "CronJob", "StatefulSet", "DaemonSet", "Cluster", "Rollout", "Node"]),
    # The name is made of what the pod's labels say as well, and nobody checks it.
    st.lists(st.sampled_from(["{app}", "{template}", "-", "--"]) | dns_names | st.text(max_size=5), max_size=5).map(
        "".join
    ),
)


def filed(container: str = "main", rules: Rules | None = None, **given: Any) -> Filed | None:
    rules = rules or Rules()
    pod = PodObject.of(manifests.pod(**given), rules.needed)
    return naming.file(pod, container, naming.controller_of(pod), rules)


def test_labels_name_app_and_process_and_the_pod_is_the_dyno() -> None:
    labels = {APP: "shop", PROCESS: "web"}
    assert filed(labels=labels) == Filed("shop", "web", "web-5d9c8b7f6-x2x7k")


def test_the_names_of_labels_are_settings_and_the_first_one_there_counts() -> None:
    rules = Rules(app_labels=("paas/app", "app"), process_labels=("paas/process",), dyno_labels=("paas/dyno",))
    labels = {"app": "shop", APP: "postgresql", "paas/process": "worker", "paas/dyno": "worker.2"}
    assert filed(rules=rules, labels=labels) == Filed("shop", "worker", "worker.2")
    assert filed(rules=rules, labels=labels | {"paas/app": "store", "paas/dyno": ""}) == Filed(
        "store", "worker", "web-5d9c8b7f6-x2x7k"
    )


@pytest.mark.parametrize(
    ("owner", "labels", "process"),
    [
        (("apps/v1", "ReplicaSet", "web-5d9c8b7f6"), {"pod-template-hash": "5d9c8b7f6"}, "web"),
        (("apps/v1", "ReplicaSet", "web-5d9c8b7f6"), {}, "web-5d9c8b7f6"),
        (("apps/v1", "StatefulSet", "cache"), {}, "cache"),
        (("apps/v1", "DaemonSet", "agent"), {}, "agent"),
        (("batch/v1", "Job", "import"), {}, "import"),
        (("postgresql.cnpg.io/v1", "Cluster", "shop-db"), {PROCESS: "database"}, "postgres"),
        (("example.com/v1", "Cluster", "shop-db"), {PROCESS: "database"}, "database"),
        (None, {}, "web-5d9c8b7f6-x2x7k"),
    ],
)
def test_without_a_label_the_owner_names_the_process_and_the_namespace_the_app(
    owner: tuple[str, str, str] | None, labels: dict[str, str], process: str
) -> None:
    assert filed(owner=owner, labels=labels) == Filed("acme", process, "web-5d9c8b7f6-x2x7k")


def test_a_run_of_a_cron_job_is_named_after_the_cron_job() -> None:
    pod = PodObject.of(manifests.pod("tick-29398021-abcde", owner=("batch/v1", "Job", "tick-29398021")), Rules().needed)
    assert naming.is_job(naming.controller_of(pod))
    above = Owner("CronJob", "batch", "tick")
    assert naming.file(pod, "main", above, Rules()) == Filed("acme", "cron-tick", "tick-29398021-abcde")


def test_the_name_of_an_app_is_not_said_twice() -> None:
    labels = {APP: "shop", "pod-template-hash": "5d9"}
    named = filed(owner=("apps/v1", "ReplicaSet", "shop-web-5d9"), labels=labels)
    assert named is not None
    assert named.process == "web"
    for name, process in {"shop--web-5d9": "shop--web", "shop--5d9": "shop-", "shop-5d9": "shop"}.items():
        odd = filed(owner=("apps/v1", "ReplicaSet", name), labels=labels)
        assert odd is not None
        assert odd.process == process


@pytest.mark.parametrize("name", ["-5d9", "../../version", "a b", "web\n", ""])
def test_an_owner_that_can_not_be_names_nothing(name: str) -> None:
    named = filed(owner=("apps/v1", "ReplicaSet", name), labels={APP: "shop", "pod-template-hash": "5d9"})
    assert named == Filed("shop", "web-5d9c8b7f6-x2x7k", "web-5d9c8b7f6-x2x7k")


def test_init_containers_and_sidecars_are_processes_of_their_own() -> None:
    given: dict[str, Any] = {
        "labels": {APP: "shop", PROCESS: "web"},
        "containers": ("istio-proxy", "shop"),
        "annotations": {"kubectl.kubernetes.io/default-container": "shop"},
        "init": ("migrate", "init-db"),
        "beside": ("vpn",),
        "attached": ("debugger-1",),
    }
    names = {}
    for container in ("shop", "istio-proxy", "migrate", "init-db", "vpn", "debugger-1"):
        place = filed(container, **given)
        assert place is not None
        names[container] = place.process
    assert names == {
        "shop": "web",
        "istio-proxy": "web.istio-proxy",
        "migrate": "web.init-migrate",
        "init-db": "web.init-db",
        "vpn": "web.vpn",
        "debugger-1": "web.debugger-1",
    }


@pytest.mark.parametrize(
    ("excluded", "kept"),
    [("", ["main", "proxy"]), ("proxy", ["main"]), ("proxy , main", []), ("*", []), ("prox", ["main", "proxy"])],
)
def test_containers_are_left_out_by_annotation(excluded: str, kept: list[str]) -> None:
    annotations = {"logsvc/exclude": excluded}
    containers = ("main", "proxy")
    assert [each for each in containers if filed(each, containers=containers, annotations=annotations)] == kept


def test_a_pod_that_a_kubelet_made_goes_by_the_hash_of_its_configuration() -> None:
    pod = manifests.pod("etcd-node1", "kube-system", annotations={"kubernetes.io/config.mirror": "0123456789abcdef"})
    assert PodObject.of(pod, ()).folder == Pod("kube-system", "etcd-node1", "0123456789abcdef")


def test_nobody_is_called_as_logsvcs_own_notices_are() -> None:
    for place in (filed(labels={PROCESS: "logsvc"}), filed(owner=("apps/v1", "StatefulSet", "logsvc"))):
        assert place is not None
        assert place.process == "logsvc-app"
    assert naming.file_unknown(Pod("acme", "web-1", "u1"), "logsvc") == Filed("acme", "logsvc-app", "web-1")


@pytest.mark.parametrize(
    ("annotations", "tenant"),
    [
        ({}, Tenant("acme", "", 1)),
        ({"logsvc/plan": "free"}, Tenant("acme", "free", 0)),
        ({"logsvc/plan": "pro"}, Tenant("acme", "pro", 3)),
        ({"logsvc/plan": "unheard-of"}, Tenant("acme", "unheard-of", 1)),
        ({"logsvc/plan": "pro", "logsvc/retention": "7"}, Tenant("acme", "pro", 7)),
        ({"logsvc/plan": "pro", "logsvc/retention": "8"}, Tenant("acme", "pro", 3)),
        ({"logsvc/retention": "-1"}, Tenant("acme", "", 1)),
        ({"logsvc/retention": "²"}, Tenant("acme", "", 1)),
    ],
)
def test_plan_and_retention_come_from_the_namespace(annotations: dict[str, str], tenant: Tenant) -> None:
    rules = Rules(retention_of=Limits(default="starter", retention={"starter": 1, "pro": 3}).retention_of)
    namespace = Namespace.of(manifests.namespace(annotations=annotations), rules.needed)
    assert naming.tenant_of(namespace, rules) == tenant


@given(
    namespace=dns_labels,
    name=dns_names,
    values=st.lists(label_values, min_size=len(ALL_LABELS), max_size=len(ALL_LABELS)),
    owner=st.none() | owners,
    main=dns_labels,
    other=dns_labels,
    role=st.sampled_from(["containers", "init", "beside", "attached"]),
)
def test_with_any_legal_label_the_tenant_is_the_namespace_and_every_name_can_be_asked_for(
    namespace: str,
    name: str,
    values: list[str],
    owner: tuple[str, str, str] | None,
    main: str,
    other: str,
    role: str,
) -> None:
    claims = dict.fromkeys(["logsvc/plan", "logsvc/retention", "logsvc/tenant"], "7")
    given: dict[str, Any] = {role: (other,), "containers": (main,)}
    if role == "containers":
        given["containers"] = (main, other)
    labels = dict(zip(ALL_LABELS, values, strict=True))
    if owner is not None:
        named = owner[2].replace("{app}", labels[APP]).replace("{template}", labels["pod-template-hash"])
        owner = (*owner[:2], named)
    rules = Rules(dyno_labels=("dyno",))
    described = manifests.pod(name, namespace, labels=labels | claims, annotations=claims, owner=owner, **given)
    pod = PodObject.of(described, rules.needed)
    tenant = naming.tenant_of(Namespace.of(manifests.namespace(namespace), rules.needed), rules)
    for container in {main, other}:
        place = naming.file(pod, container, naming.controller_of(pod), rules)
        assert place is not None
        stream = place.stream(tenant, pod.folder.uid, container, 3)
        assert (stream.tenant, stream.retention) == (namespace, 0)
        assert stream.app == (labels[APP] or namespace)
        assert stream.source == "app"
        assert stream.process != "logsvc"
        assert all(NAME.fullmatch(part) for part in (stream.app, stream.process, stream.dyno))


@given(dns_names, dns_names)
def test_names_that_are_shortened_stay_different(one: str, other: str) -> None:
    assert (naming.shorten(one) == naming.shorten(other)) == (one == other)
    assert NAME.fullmatch(naming.shorten(one + one))
