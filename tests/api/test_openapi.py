"""The document of the API says what the code does."""

import asyncio
import os
import re
import sys
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
from tests.api.served import Served
from tests.support.service import Service

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


def test_its_scopes_are_those_that_there_are() -> None:
    named = {
        scope
        for operations in document()["paths"].values()
        for operation in operations.values()
        if isinstance(operation, dict)
        for entry in operation["security"]
        for scope in entry["token"]
    }
    assert named <= SCOPES


async def test_it_is_served_for_programs_and_people(served: Served) -> None:
    async with served.client.get(f"{served.url}/v1/openapi.json") as response:
        assert orjson.loads(await response.read()) == document()
    async with served.client.get(f"{served.url}/v1/docs") as response:
        page = await response.text()
    assert response.content_type == "text/html"
    assert "https://" not in page
    for path in document()["paths"]:
        assert path in page


@pytest.fixture
async def service(tmp_path: Path) -> Any:
    async with Service(tmp_path, procfile=None) as service:
        await service.start()
        async with aiohttp.ClientSession() as client, client.post(service.logs, data="one\ntwo\n") as response:
            assert response.status == 200
        yield service


async def test_whatever_schemathesis_sends_is_answered_as_the_document_says(service: Service) -> None:
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{service.url}/v1/openapi.json"),
        *("--phases", "examples,fuzzing", "--max-examples", "25", "--seed", "7", "--request-timeout", "20"),
        *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
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
