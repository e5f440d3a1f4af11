"""Chance that can be repeated, and figures that are shown."""

import os
import random
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def seed() -> int:
    """CHAOS_SEED; else by chance, and a test that fails shows it."""
    seed = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**9)
    sys.stdout.write(f"again with CHAOS_SEED={seed}\n")
    return seed


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def figures(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Shows a line of figures, also of a test that passes."""

    def show(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {text}\n")

    return show
