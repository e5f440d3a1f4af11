"""The bus of one machine keeps the contract of every bus, in memory as well as from its files."""

from pathlib import Path

import pytest

from logsvc.bus.local import LocalBus, LocalSettings
from tests.contract.bus import BusContract, Opener
from tests.support.bus import PARTITIONS


class TestLocalBus(BusContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: LocalBus.open(tmp_path / "bus", partitions=PARTITIONS)


class TestLocalBusWithoutMemory(BusContract):
    """Every read goes to the files."""

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: LocalBus.open(tmp_path / "bus", partitions=PARTITIONS, settings=LocalSettings(recent_bytes=0))


class TestLocalBusInSmallSegments(BusContract):
    """Hardly a read that does not cross from file to file."""

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        settings = LocalSettings(segment_bytes=2000, recent_bytes=1000)
        return lambda: LocalBus.open(tmp_path / "bus", partitions=PARTITIONS, settings=settings)
