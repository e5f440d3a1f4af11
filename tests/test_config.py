"""Settings come from four places, in an order; what can't be used is refused with a sentence that names the place."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from logsvc import config
from logsvc.bus.local import LocalSettings
from logsvc.config import Group, Settings
from logsvc.errors import ConfigError
from logsvc.loading import load, render
from logsvc.sources.kubernetes.files import FilesSettings
from logsvc.sources.procfile.formation import RunnerSettings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _ in config.fields():
        monkeypatch.delenv(config.variable(name), raising=False)
    monkeypatch.delenv(config.FILE_VARIABLE, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "logsvc.toml"
    path.write_text('[http]\nhost = "::1"\nport = 1\n[tail]\nwindow_bytes = "8MiB"\nlinger = 1\n')
    return path


def test_the_command_line_goes_before_the_environment_before_the_file_before_the_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGSVC_TAIL_LINGER", "2")
    monkeypatch.setenv("LOGSVC_HTTP_PORT", "2")
    settings = load(file, {"http.port": 3, "data.dir": None})
    assert settings.http.port == 3
    assert settings.tail.linger == 2
    assert settings.http.host == "::1"
    assert settings.tail.window_bytes == 8 * 1024 * 1024
    assert settings.data.dir == Path("data")


def test_the_file_can_be_named_by_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSVC_CONFIG", str(file))
    assert load().http.port == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[http]\nport = 99999", "http.port (in {file}): input should be less than or equal to 65535, not 99999"),
        ("[http]\nprot = 1", "http.prot (in {file}) is not a setting; did you mean http.port?"),
        ("[htpt]\nport = 1", "htpt (in {file}) is not a setting; did you mean http?"),
        ("http = 1", "http (in {file}): "),
        ("[tail]\nwindow_bytes = '3 bananas'", "tail.window_bytes (in {file}): could not interpret byte unit"),
        ("[tail]\nlinger = nan", "tail.linger (in {file}): input should be a finite number"),
        ("[store]\nretention_days = [0]", "store.retention_days (in {file}): "),
        ("[http\n", "{file} is not TOML: "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load(path)
    assert sentence.format(file=path) in str(refusal.value)


def test_every_fault_is_told_at_once_with_its_place(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[log]\nlevel = "loud"\n')
    monkeypatch.setenv("LOGSVC_BUS_PARTITIONS", "many")
    with pytest.raises(ConfigError) as refusal:
        load(file, {"http.port": -1})
    sentences = str(refusal.value).splitlines()
    assert len(sentences) == 3
    assert any(line.startswith(f"log.level (in {file}): ") for line in sentences)
    assert any(line.startswith("bus.partitions (LOGSVC_BUS_PARTITIONS in the environment): ") for line in sentences)
    assert any(line.startswith("http.port (on the command line): ") for line in sentences)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml can't be read: No such file"):
        load(tmp_path / "no.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.toml")


def test_a_misspelt_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSVC_HTPP_PORT", "1")
    with pytest.raises(ConfigError, match=r"LOGSVC_HTPP_PORT .* did you mean LOGSVC_HTTP_PORT"):
        load()


def test_a_list_in_a_variable_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSVC_STORE_RETENTION_DAYS", "[1, 30]")
    assert load().store.retention_days == [1, 30]
    monkeypatch.setenv("LOGSVC_STORE_RETENTION_DAYS", "1 30")
    with pytest.raises(ConfigError, match="is JSON"):
        load()


def test_what_is_shown_can_be_used_again(file: Path, tmp_path: Path) -> None:
    settings = load(file, {"http.port": 3, "tail.window_bytes": 4097})
    again = tmp_path / "again.toml"
    again.write_text(render(settings))
    assert load(again).model_dump() == settings.model_dump()
    assert "# Port to listen on; 0 takes a free one.\nport = 3\n" in render(settings)


class Secretive(Group):
    """Example."""

    name: str
    password: SecretStr
    labels: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it


class Example(BaseModel):
    example: Secretive


@given(st.text(st.characters(codec="utf-8")), st.dictionaries(st.text(st.characters(codec="utf-8")), st.text("ab\x7f")))
def test_any_text_is_shown_as_toml_and_no_secret_is(text: str, labels: dict[str, str]) -> None:
    shown = render(Example(example=Secretive(name=text, password=SecretStr("hunter2"), labels=labels)))
    assert "hunter2" not in shown
    assert tomllib.loads(shown) == {"example": {"name": text, "password": "*" * 10, "labels": labels}}


@pytest.mark.parametrize(
    ("group", "room"), [("bus", LocalSettings), ("procfile", RunnerSettings), ("collect", FilesSettings)]
)
def test_the_defaults_are_those_of_the_rooms(group: str, room: type) -> None:
    settings = getattr(Settings(), group)
    defaults = {field.name: field.default for field in dataclasses.fields(room)}
    shared = {name: value for name, value in settings.model_dump().items() if name in defaults}
    assert shared
    assert shared == {name: defaults[name] for name in shared}
