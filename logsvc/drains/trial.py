"""Trying a drain out: one marked line, sent at once, whatever state the drain is in."""

import secrets
import time
from collections.abc import Callable

from logsvc.drains.model import Drain, Trial
from logsvc.drains.notices import notice
from logsvc.drains.outbound import Outbound
from logsvc.drains.policy import Outcome
from logsvc.drains.senders import sender_of
from logsvc.drains.urls import parse
from logsvc.errors import BadUrl
from logsvc.model import AppId


async def send_test(drain: Drain, outbound: Outbound, now: Callable[[], float] = time.time) -> Trial:
    """Send one line that says what it is; what came back. Raises nothing."""
    began = now()
    try:
        sender = sender_of(parse(drain.url), drain.token, outbound)
    except BadUrl as error:
        return Trial(taken=False, answer=f"{error}.", seconds=0.0)
    mark = secrets.token_hex(16).upper()
    line = notice(AppId(drain.tenant, drain.app), f"Test line {mark} of drain {drain.token}", int(began * 1000))
    try:
        answer = await sender.send(mark, sender.framer.frame([line]))
    finally:
        await sender.close()
    taken = answer.outcome is Outcome.TAKEN and not answer.rejected
    return Trial(taken, f"The receiver {answer.words}.", now() - began)
