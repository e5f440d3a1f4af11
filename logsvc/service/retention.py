"""Forget what is past its retention, every hour."""

import asyncio
import logging
import time
from typing import Final

from logsvc.errors import StoreError
from logsvc.store.protocol import Store

_SECONDS: Final = 3600.0

log = logging.getLogger(__name__)


async def retain(store: Store) -> None:
    """Drop what is past its retention now and every hour, until cancelled. Any number of processes may do so."""
    while True:
        try:
            await store.retain(int(time.time()))
        except StoreError as error:
            log.warning("what is past its retention stays for now: %s", error)
        await asyncio.sleep(_SECONDS)
