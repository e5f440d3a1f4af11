"""Under which tenant, app, process and dyno a container's lines are filed. No I/O.

The namespace alone says whose they are. Labels of a pod, which a tenant writes, say no more than what the lines are
called within that tenant.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

from logsvc.model import Stream
from logsvc.sources.kubernetes.objects import Namespace, Owner, PodObject
from logsvc.sources.kubernetes.podlogs import Pod

MAX_NAME: Final = 128
"""Most characters in a name that readers can ask for."""

MAX_RETENTION: Final = 7

_OWN: Final = "logsvc"
"""The process of logsvc's own notices, which pass every filter. Nobody else has it."""

_POD_TEMPLATE_HASH: Final = "pod-template-hash"

_LEGAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
"""Names that objects can have. What a pod says of its owner nobody has looked at: a tenant may write anything there."""


def _alike(_: str) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What names are called in a cluster."""

    app_labels: Sequence[str] = ("app.kubernetes.io/name",)
    """Labels of a pod that name its app; the first one that it has counts. The others likewise."""
    process_labels: Sequence[str] = ("app.kubernetes.io/component",)
    dyno_labels: Sequence[str] = ()
    exclude_annotation: str = "logsvc/exclude"
    """Annotation of a pod that names containers whose lines are left out: with commas between them, or `*` for all."""
    plan_annotation: str = "logsvc/plan"
    """Annotation of a namespace that names its tenant's plan."""
    retention_annotation: str = "logsvc/retention"
    """Annotation of a namespace with a retention class, which goes before the plan's."""
    operators: Mapping[str, str] = field(default_factory=lambda: {"Cluster.postgresql.cnpg.io": "postgres"})
    """Processes of pods that an operator makes, by `<kind>.<group>` of what controls them."""
    retention_of: Callable[[str], int] = _alike
    """The retention class of a plan, which may be one that nobody has heard of, or empty."""

    @property
    def needed(self) -> frozenset[str]:
        """Names of all labels and annotations that count."""
        labels = (*self.app_labels, *self.process_labels, *self.dyno_labels, _POD_TEMPLATE_HASH)
        return frozenset([*labels, self.exclude_annotation, self.plan_annotation, self.retention_annotation])


class Tenant(NamedTuple):
    """Whom a namespace belongs to, and what they have."""

    name: str
    plan: str
    retention: int


def tenant_of(namespace: Namespace, rules: Rules) -> Tenant:
    """The tenant of a namespace. An annotation that can't be used counts as none."""
    plan = namespace.annotations.get(rules.plan_annotation, "")
    given = namespace.annotations.get(rules.retention_annotation, "")
    valid = len(given) == 1 and given.isascii() and given.isdigit() and int(given) <= MAX_RETENTION
    return Tenant(namespace.name, plan, int(given) if valid else rules.retention_of(plan))


class Filed(NamedTuple):
    """A container's place within its tenant."""

    app: str
    process: str
    dyno: str

    def stream(self, tenant: Tenant, uid: str, container: str, restart: int) -> Stream:
        """The stream of one incarnation of the container."""
        incarnation = f"{uid}/{container}/{restart}"
        return Stream(tenant.name, self.app, self.process, self.dyno, "app", incarnation, tenant.retention)


def file(pod: PodObject, container: str, owner: Owner | None, rules: Rules) -> Filed | None:
    """Where a container's lines belong; None where they are left out.

    `owner` is what is at the head of the pod's owners: for the pod of a Job that of a CronJob, the CronJob.
    """
    if _is_excluded(pod, container, rules):
        return None
    app = _label(pod, rules.app_labels)
    process = _process(pod, owner, app, rules)
    if container in pod.containers.init:
        process = f"{process}.init-{container.removeprefix('init-')}"
    elif container != pod.containers.main:
        process = f"{process}.{container}"
    dyno = _label(pod, rules.dyno_labels) or pod.folder.name
    # Without a label, all of a namespace is one app.
    return Filed(app or pod.folder.namespace, _process_name(process), shorten(dyno))


def file_unknown(pod: Pod, container: str) -> Filed:
    """Where the lines of a pod belong that is gone and was never seen: they aren't lost, and no app's."""
    return Filed(pod.namespace, _process_name(container), shorten(pod.name))


def controller_of(pod: PodObject) -> Owner | None:
    """What controls a pod, as far as the pod itself tells.

    Of a ReplicaSet that a Deployment made, the Deployment: such a set is called `<deployment>-<pod-template-hash>`, and
    its pods have the hash as a label. Whoever forges it calls a process of his own something else.
    """
    owner = pod.owner
    template = pod.labels.get(_POD_TEMPLATE_HASH)
    if owner is not None and owner.kind == "ReplicaSet" and owner.group == "apps" and template:
        return Owner("Deployment", "apps", owner.name.removesuffix(f"-{template}"))
    return owner


def is_job(owner: Owner | None) -> bool:
    """Whether it takes a look at the object to know what is above it: a Job may be one run of a CronJob."""
    return owner is not None and owner.kind == "Job" and owner.group == "batch"


def shorten(name: str) -> str:
    """A name as readers can ask for it: of a longer one the beginning, and a hash of all."""
    if len(name) <= MAX_NAME:
        return name
    digest = blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[: MAX_NAME - 9]}-{digest}"


def _process(pod: PodObject, owner: Owner | None, app: str, rules: Rules) -> str:
    if owner is not None and (named := rules.operators.get(f"{owner.kind}.{owner.group}")):
        return named  # what the labels of such a pod say is the operator's business, not the app's
    if labelled := _label(pod, rules.process_labels):
        return labelled
    if owner is None or not _LEGAL.fullmatch(owner.name):
        return pod.folder.name
    rest = owner.name.removeprefix(f"{app}-")
    name = rest if app and _LEGAL.fullmatch(rest) else owner.name
    return f"cron-{name}" if owner.kind == "CronJob" else name


def _process_name(name: str) -> str:
    return f"{_OWN}-app" if name == _OWN else shorten(name)


def _label(pod: PodObject, names: Sequence[str]) -> str:
    return next((value for name in names if (value := pod.labels.get(name))), "")


def _is_excluded(pod: PodObject, container: str, rules: Rules) -> bool:
    excluded = pod.annotations.get(rules.exclude_annotation)
    return excluded is not None and not {"*", container}.isdisjoint(map(str.strip, excluded.split(",")))
