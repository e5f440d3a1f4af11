"""Where the service is and who asks: the environment, else the user's file, else this machine."""

from pathlib import Path

import pytest

from logsvc.client.settings import DEFAULT_URL, Settings, load
from logsvc.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".config" / "paas").mkdir(parents=True)
    return tmp_path


def write(home: Path, text: str) -> dict[str, str]:
    (home / ".config" / "paas" / "config.toml").write_text(text)
    return {"HOME": str(home)}


def test_without_anything_it_is_this_machine(tmp_path: Path) -> None:
    assert load({"HOME": str(tmp_path)}) == Settings(DEFAULT_URL, None)
    assert load({"HOME": str(tmp_path)}).local


def test_the_file_says_where(home: Path) -> None:
    environ = write(home, 'url = "https://logs.example.com/"\ntoken = "t"\n')
    assert load(environ) == Settings("https://logs.example.com", "t")
    assert not load(environ).local


def test_xdg_config_home_says_where_the_file_is(home: Path) -> None:
    write(home, 'url = "https://logs.example.com"')
    assert load({"HOME": "/nonexistent", "XDG_CONFIG_HOME": str(home / ".config")}).url == "https://logs.example.com"


def test_the_environment_goes_first(home: Path) -> None:
    environ = write(home, 'url = "https://logs.example.com"\ntoken = "t"\n')
    assert load(environ | {"PAAS_TOKEN": "u"}) == Settings("https://logs.example.com", "u")
    other = {"PAAS_URL": "http://other.example:81/x", "PAAS_TOKEN": "u"}
    assert load(environ | other) == Settings("http://other.example:81/x", "u")


def test_the_token_of_the_file_goes_to_the_service_of_the_file_only(home: Path) -> None:
    environ = write(home, 'url = "https://logs.example.com"\ntoken = "t"\n')
    assert load(environ | {"PAAS_URL": "https://elsewhere.example"}).token is None
    assert load(environ | {"PAAS_URL": "https://logs.example.com/"}).token == "t"


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Settings(token="secret"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("url = ", "config.toml: Invalid value"),
        ('ulr = "https://x"', "ulr is not a setting"),
        ("token = 1", "token is not a setting"),
        ('url = "x"', "config.toml: url must look like https://"),
        ('token = "a b"', "the token holds a space"),
        ("\xff", "config.toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(home: Path, text: str, complaint: str) -> None:
    environ = write(home, "")
    (home / ".config" / "paas" / "config.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=complaint):
        load(environ)


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "http://u:p@x", "http://x?y", "http://x:99999", "x", "http://[x"]
)
def test_a_url_that_is_none_is_an_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="PAAS_URL must look like"):
        load({"HOME": str(tmp_path), "PAAS_URL": url})
