"""What a rule of redaction matches reaches the bus neither from a node's files nor from the API server."""

from pathlib import Path

from logsvc.config import Redact
from logsvc.sources.redaction import Redaction
from tests.sources.kubernetes.flakyserver import flaky_server
from tests.sources.kubernetes.support import Node
from tests.sources.kubernetes.test_apisource import Following
from tests.sources.kubernetes.test_pods import Cluster

RULES = Redaction(Redact(everywhere=["email", "card"]))
SAID = (b"from anna@example.com", b"nothing", b"card_4111111111111111 is taken")
KEPT = [b"from [email]", b"nothing", b"card[card] is taken"]


async def test_of_files(node: Node) -> None:
    node.container().write(*SAID)
    node.redact = RULES
    await node.collect()
    assert node.said() == KEPT


async def test_of_the_api_server(tmp_path: Path) -> None:
    async with flaky_server() as server:
        following = Following(Cluster(server, tmp_path), tmp_path)
        following.redact = RULES
        log = following.begin()
        async with following.followed():
            log.write(*SAID)
            await following.comes(*KEPT)
        assert following.said() == KEPT
