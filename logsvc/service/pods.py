"""Whose the log files of a node are, by what the settings say of the node."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from logsvc.config import Settings
from logsvc.errors import ConfigError
from logsvc.findings import Finding
from logsvc.sources.kubernetes import rights
from logsvc.sources.kubernetes.apiserver import ApiServer, ApiSettings
from logsvc.sources.kubernetes.naming import Rules
from logsvc.sources.kubernetes.pods import PodIdentity
from logsvc.sources.kubernetes.quota import Quota
from logsvc.sources.kubernetes.shards import Shard


class Watched(NamedTuple):
    """A cluster, seen from here."""

    api: ApiServer
    rules: Rules
    pods: PodIdentity | None
    """None where no logs are collected."""
    quota: Quota


@asynccontextmanager
async def watched_pods(settings: Settings, folder: Path, shard: Shard | None = None) -> AsyncIterator[Watched]:
    """The cluster, and the pods of this node or of a share of all, kept up with for the block, remembered in `folder`.

    Raises ConfigError where the settings can't be used; an API server that is away or refuses is waited for.
    """
    given = settings.kubernetes
    rules = Rules(
        given.app_labels,
        given.process_labels,
        given.dyno_labels,
        given.exclude_annotation,
        given.plan_annotation,
        given.retention_annotation,
        given.operators,
        settings.limits.retention_of,
    )
    clock = asyncio.get_running_loop().time
    async with ApiServer.open(api_settings(settings)) as api:
        if given.source == "rollouts":
            yield Watched(api, rules, None, Quota())
            return
        node = given.node if given.source == "files" else ""
        mine = shard.has if shard is not None else None
        identity = PodIdentity(api, node, rules, folder / "pods", patience=given.patience, mine=mine, clock=clock)
        limits = settings.limits
        quota = Quota(limits.collect_bytes, limits.collect_burst, default=limits.default, plan=identity.plan)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(identity.run(), name="pods")
            try:
                yield Watched(api, rules, identity, quota)
            finally:
                running.cancel()


def api_settings(settings: Settings) -> ApiSettings:
    """Where the API server is. Raises ConfigError."""
    given = settings.kubernetes
    return ApiSettings(given.url or _url_in_pod(), given.account / "ca.crt", given.account / "token")


def own_namespace(settings: Settings) -> str:
    """That of this process, where its leases are. Raises ConfigError."""
    file = settings.kubernetes.account / "namespace"
    try:
        return file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{file}, which says where leases are, can't be read: {error.strerror}") from error


async def check_rights(settings: Settings) -> list[Finding]:
    """What this process's service account lacks to collect; nothing where it collects from no Kubernetes."""
    given = settings.kubernetes
    if given.source == "files" and not given.node:
        return []
    advice = "Run it where the collector runs, or set kubernetes.url and kubernetes.account."
    try:
        namespace = own_namespace(settings) if given.source == "api" else ""
        async with ApiServer.open(api_settings(settings)) as api:
            return await rights.check(api, given.source, namespace)
    except ConfigError as error:
        return [Finding("Kubernetes answers", False, str(error), "an answer of the API server", advice)]


def _url_in_pod() -> str:
    try:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    except KeyError as error:
        raise ConfigError(f"kubernetes.url is needed where there is no {error.args[0]} in the environment") from None
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
