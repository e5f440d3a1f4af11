"""`paas` itself: help, endings, and what it loads."""

import subprocess
import sys

from tests.client.program import PAAS, environment, paas
from tests.support.wait import DEADLINE

NOWHERE = "http://127.0.0.1:9"


def test_help_names_the_commands() -> None:
    done = paas("--help", url=NOWHERE)
    assert done.returncode == 0
    assert b"\n  logs:push " in done.stdout
    assert paas("logs", "--help", url=NOWHERE).returncode == 0


def test_without_a_command_it_shows_its_help() -> None:
    done = paas(url=NOWHERE)
    assert done.returncode == 2
    assert b"Usage: paas [OPTIONS] COMMAND" in done.stderr


def test_an_unknown_command_is_one_line() -> None:
    done = paas("lugs", url=NOWHERE)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"paas: No such command 'lugs'" in done.stderr


def test_help_for_nobody_ends_quietly() -> None:
    process = subprocess.Popen(
        f"{PAAS} logs --help | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env=environment(NOWHERE),
        stderr=subprocess.PIPE,
    )
    _, complaint = process.communicate(timeout=DEADLINE)
    assert (process.returncode, complaint) == (0, b"")


def test_a_closed_standard_output_is_an_error() -> None:
    process = subprocess.run(
        f"{PAAS} logs -a demo >&-", shell=True, env=environment(NOWHERE), stderr=subprocess.PIPE, check=False
    )
    assert process.returncode == 1
    assert process.stderr == b"paas: there is no standard output: Bad file descriptor\n"


def test_it_loads_no_server_code_so_that_it_starts_at_once() -> None:
    listed = "import sys, logsvc.client.__main__, logsvc.client.cli; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True).stdout.split()
    )
    ours = {name for name in loaded if name.startswith("logsvc.") and not name.startswith("logsvc.client")}
    assert ours == {"logsvc.errors", "logsvc.formats", "logsvc.formats.terminal"}
    assert not loaded & {"asyncio", "aiohttp", "pydantic", "uvloop", "clickhouse_connect", "re2", "prometheus_client"}
