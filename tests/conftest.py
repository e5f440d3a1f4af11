"""What holds for all tests."""

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail: how long an example takes says nothing about what it shows.
settings.register_profile("logsvc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("logsvc")

# A shell that runs the tests in the background has them ignore Ctrl-C, and whatever they start with them.
signal.signal(signal.SIGINT, signal.default_int_handler)

_LONG = ("service", "kafka", "heroku", "browser")
"""Folders whose tests take long, each in its time: they begin first, so that the last ones don't run alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    rank = {name: number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(here).parts[0], len(_LONG)))
