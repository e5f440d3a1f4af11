"""The `logsvc` command as a program."""

import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.service import LOGSVC


def logsvc(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LOGSVC, *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_config_prints_settings_that_can_be_used_again(tmp_path: Path) -> None:
    shown = logsvc("config", LOGSVC_HTTP_PORT="1234")
    assert shown.returncode == 0
    assert tomllib.loads(shown.stdout)["http"]["port"] == 1234
    file = tmp_path / "settings.toml"
    file.write_text(shown.stdout)
    assert logsvc("--config", str(file), "config").stdout == shown.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["dev", "--host", "0.0.0.0"], {}, "loopback"),
        (["config"], {"LOGSVC_HTTP_PORT": "many"}, "http.port"),
        (["config"], {"LOGSVC_CONFIG": "/nowhere.toml"}, "/nowhere.toml"),
    ],
)
def test_an_error_is_one_line_and_status_1(arguments: list[str], environment: dict[str, str], said: str) -> None:
    ended = logsvc(*arguments, **environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("logsvc: ")
    assert ended.stderr.count("\n") == 1
    assert said in ended.stderr


def test_help_and_version() -> None:
    assert "--procfile" in logsvc("dev", "--help").stdout
    assert logsvc("--version").stdout.startswith("logsvc, version ")
