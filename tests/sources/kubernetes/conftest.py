from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources.kubernetes.support import MemoryBus, Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node whose source appends to a bus in memory."""
    node = Node(tmp_path, MemoryBus())
    yield node
    node.close()
