"""The document of the API says what the code does."""

import asyncio
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from logsvc.access.grant import SCOPES
from logsvc.api.app import make_app
from logsvc.api.openapi import FILTER, READING, document
from logsvc.api.query import _MANY as MANY
from logsvc.api.query import _ONE as ONE
from logsvc.api.query import FILTER_PARAMETERS
from logsvc.store.protocol import Store
from tests.api.guarded import guarded
from tests.api.served import Served
from tests.support.service import Service
from tests.support.tokens import AUDIENCE, Issuer

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
OTHERS = {"/", "/pane/{file}", "/v1/openapi.json", "/v1/docs"}
"""What is for people and browsers."""


async def test_every_route_is_in_the_document_and_no_other(served: Served) -> None:
    routes = {
        (route.resource.canonical, route.method.lower())
        for route in make_app(served.context).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {
        (path, method)
        for path, operations in document()["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert {(path, method) for path, method in routes if path not in OTHERS} == described


def test_its_parameters_are_those_that_are_read() -> None:
    assert set(READING) == MANY | ONE
    assert set(FILTER) == FILTER_PARAMETERS
    repeated = {name for name, (schema, _) in READING.items() if schema["type"] == "array"}
    assert repeated == MANY


Operation = tuple[str, str, dict[str, Any]]


def guarded_operations() -> list[Operation]:
    """Method, path and description of what takes a token."""
    return [
        (method, path, operation)
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
        if method != "parameters" and operation["security"]
    ]


async def test_its_scopes_are_those_that_are_asked_for(store: Store, tmp_path: Path) -> None:
    """Each address takes a token of each scope that the document names for it, and of no other."""
    wanted, found = set(), set()
    async with guarded(store, tmp_path) as site:
        for method, path, operation in guarded_operations():
            wanted |= {(method, path, scope) for entry in operation["security"] for scope in entry["token"]}
            url = site.served.url + path.format(app="nothing", drain="none")
            for scope in SCOPES:
                header = site.header(scope=scope)
                async with site.served.client.request(method, url, headers=header) as response:
                    if response.status != 403:
                        found.add((method, path, scope))
    assert found == wanted


async def test_each_address_takes_the_parameters_that_it_is_described_with(served: Served) -> None:
    """And says of all others that there is no such parameter. Only opening a log session passes over them."""
    await served.rig.write(1)
    drains = f"{served.url}/apps/{served.name}/log-drains"
    async with served.client.post(drains, json={"url": "https://example.com/in"}) as response:
        drain = (await response.json())["id"]
    async with served.client.post(f"{served.url}/apps/{served.name}/log-sessions") as response:
        session = (await response.json())["logplex_url"].rpartition("/")[2]
    following = "/v1/log-sessions/{session}"
    operations = [one for one in guarded_operations() if one[1] != "/apps/{app}/log-sessions"]
    operations.append(("get", following, document()["paths"][following]["get"]))
    described = {
        (method, path): {one["name"] for one in operation["parameters"] if one["in"] == "query"}
        for method, path, operation in operations
    }
    names = {"nonsense"}.union(*described.values())
    for (method, path), taken in described.items():
        url = served.url + path.format(app=served.name, drain=drain, session=session)
        found = set()
        for name in names:
            async with served.client.request(method, url, params={name: "?"}) as response:
                if "there is no such parameter" not in await response.text():
                    found.add(name)
        assert found == taken, f"{method} {path}"


async def test_it_is_served_for_programs_and_people(served: Served) -> None:
    async with served.client.get(f"{served.url}/v1/openapi.json") as response:
        assert orjson.loads(await response.read()) == document()
    async with served.client.get(f"{served.url}/v1/docs") as response:
        page = await response.text()
    assert response.content_type == "text/html"
    assert "https://" not in page
    for path in document()["paths"]:
        assert path in page


async def answered_as_described(url: str, *options: str, checks: tuple[str, ...] = CHECKS) -> None:
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{url}/v1/openapi.json"),
        *("--phases", "examples,fuzzing", "--max-examples", "25", "--seed", "7", "--request-timeout", "20"),
        *("--checks", ",".join(checks), *options),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.hooks"}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    made = re.search(r"(\d+) generated", out.decode())
    assert made is not None
    assert int(made[1]) >= 100, out.decode()


async def push(service: Service, headers: dict[str, str] | None = None) -> None:
    async with (
        aiohttp.ClientSession() as client,
        client.post(service.logs, data="one\ntwo\n", headers=headers) as response,
    ):
        assert response.status == 200


async def test_whatever_schemathesis_sends_is_answered_as_the_document_says(tmp_path: Path) -> None:
    async with Service(tmp_path, procfile=None) as service:
        await service.start()
        await push(service)
        await answered_as_described(service.url)


@pytest.mark.parametrize("scopes", [SCOPES, {"logs:read"}], ids=["may do everything", "may read"])
async def test_and_where_it_takes_a_token(tmp_path: Path, scopes: Collection[str]) -> None:
    """And what takes one is answered with 401 without it, or with another one (`ignored_auth`)."""
    issuer = Issuer()
    keys = tmp_path / "jwks"
    keys.write_bytes(issuer.jwks())
    settings = {"auth.jwks": keys, "auth.audience": AUDIENCE, "auth.failures": 1_000_000}
    async with Service(tmp_path, procfile=None, settings=settings) as service:
        await service.start()
        await push(service, {"Authorization": f"Bearer {issuer.token()}"})
        header = f"Authorization: Bearer {issuer.token(scope=' '.join(sorted(scopes)))}"
        await answered_as_described(service.url, "--header", header, checks=(*CHECKS, "ignored_auth"))
