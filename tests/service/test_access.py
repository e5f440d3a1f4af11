"""What the settings say of who may do what, and what is said of them at the start."""

from pathlib import Path

import pytest

from logsvc.config import Auth, Http, Settings
from logsvc.service.access import access_of


@pytest.mark.parametrize(
    ("http", "told"),
    [
        (Http(host="0.0.0.0"), True),
        (Http(host="0.0.0.0", public_url="https://logs.example.com"), False),
        (Http(), False),
    ],
)
async def test_off_loopback_an_operator_is_told_that_addresses_begin_as_clients_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, http: Http, told: bool
) -> None:
    (tmp_path / "tokens").write_text("")
    async with access_of(Settings(http=http, auth=Auth(tokens_file=str(tmp_path / "tokens")))):
        assert ("http.public_url is not set" in caplog.text) == told
