"""What the settings say of a node of Kubernetes."""

from pathlib import Path

import pytest

from logsvc.config import Kubernetes, Settings
from logsvc.errors import ConfigError
from logsvc.service.pods import watched_pods


async def test_without_an_address_the_api_server_is_where_a_pod_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(kubernetes=Kubernetes(node="node1", account=tmp_path / "nowhere"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match=r"kubernetes\.url is needed where there is no KUBERNETES_SERVICE_HOST"):
        async with watched_pods(settings, tmp_path):
            pass
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConfigError, match=r"nowhere/ca\.crt can't be used as the API server's authority"):
        async with watched_pods(settings, tmp_path):
            pass


@pytest.mark.parametrize("name", ["-app", "app/", "paas/app/name", "p aas", ""])
def test_what_cannot_be_a_label_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Kubernetes(app_labels=[name])
