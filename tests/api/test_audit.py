"""What is written down of who did what: every change of a tail as it is made, and every use of an operator's right."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from logsvc.store.protocol import Store
from tests.api.guarded import Guarded, guarded
from tests.support.wait import DEADLINE, until


@pytest.fixture
async def site(store: Store, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded(store, tmp_path) as site:
        await site.served.rig.write(2)
        yield site


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record)["fields"] for record in caplog.records if record.name == "logsvc.audit"]


async def test_who_changes_a_tail_is_written_down_with_what_is_shown_then(
    site: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """Else somebody could ask for little, change that to everything, and have read little."""
    caplog.set_level(logging.INFO, "logsvc.audit")
    async with site.served.client.ws_connect(f"{site.served.logs}?tail=1&grep=x", headers=site.header()) as socket:
        await until(lambda: len(events(caplog)) == 1, what="it is written down before it ends")
        for said in ({"pause": True}, {"pause": False}, {"filter": {}}, {"filter": {"process": "web"}}):
            await socket.send_json(said)
            while not {"paused", "changed"} & set(await socket.receive_json(timeout=DEADLINE)):
                pass
    await until(lambda: site.served.context.tails == 0)
    found = events(caplog)
    assert [(event["event"], event["filters"]) for event in found] == [
        ("tail begun", {"grep": ("x",)}),
        ("tail changed", {}),
        ("tail changed", {"process": ["web"]}),
        ("tail", {"process": ["web"]}),
    ]
    assert len({event["tail"] for event in found}) == 1
    assert {(event["subject"], event["app"]) for event in found} == {("anna", site.served.name)}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/apps", None),
        ("GET", "/v1/apps/{app}/volume", None),
        ("POST", "/v1/apps/{app}/logs", "pushed"),
        ("DELETE", "/v1/apps/{app}/logs", None),
        ("GET", "/apps/{app}", None),
        ("POST", "/apps/{app}/log-sessions", None),
        ("GET", "/apps/{app}/log-drains", None),
        ("POST", "/apps/{app}/log-drains", '{"url":"http://127.0.0.1:9/in"}'),
        ("DELETE", "/apps/{app}/log-drains", None),
    ],
)
async def test_whatever_an_operator_does_for_a_tenant_is_written_down(
    site: Guarded, caplog: pytest.LogCaptureFixture, method: str, path: str, body: str | None
) -> None:
    caplog.set_level(logging.INFO, "logsvc.audit")
    headers = site.header(tenant=None, sub="ops", scope="logs:read logs:write drains:write logs:operate")
    headers |= {"Logsvc-Tenant": "local", "Content-Type": "text/plain"}
    url = site.served.url + path.format(app=site.served.name)
    async with site.served.client.request(method, url, headers=headers, data=body) as response:
        assert response.status < 300, await response.text()
    first = events(caplog)[0]
    assert first == {
        "event": "operator",
        "subject": "ops",
        "tenant": "local",
        "method": method,
        "route": path,
        "app": site.served.name if "{app}" in path else "",
    }
