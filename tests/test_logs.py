"""The service's own log: a line a record, also for machines."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from aiokafka.errors import RequestTimedOutError

from logsvc import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the process's; the tests after this one get it back as it was."""
    root, own = logging.getLogger(), logging.getLogger("logsvc")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level, own.level = before
    logging.captureWarnings(capture=False)


def fail(logger: logging.Logger) -> None:
    try:
        int("no")
    except ValueError:
        logger.exception("closed")


def test_text_is_one_line_with_the_traceback_indented() -> None:
    out = io.StringIO()
    logs.set_up("info", "text", out)
    logger = logging.getLogger("logsvc.bus")
    logger.info("opened %d segments", 3)
    fail(logger)
    first, second, *rest = out.getvalue().splitlines()
    assert first.endswith("Z info logsvc.bus: opened 3 segments")
    assert second.endswith("error logsvc.bus: closed")
    assert rest[-1] == "    ValueError: invalid literal for int() with base 10: 'no'"
    assert all(line.startswith("    ") for line in rest)


def test_json_is_an_object_a_line() -> None:
    out = io.StringIO()
    logs.set_up("debug", "json", out)
    logging.getLogger("logsvc").debug("two\nlines")
    fail(logging.getLogger("logsvc"))
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {"level": "debug", "logger": "logsvc", "message": "two\nlines"}
    assert "ValueError: invalid" in second["traceback"]


def test_levels_are_ours_and_libraries_only_warn() -> None:
    out = io.StringIO()
    logs.set_up("warning", "text", out)
    logging.getLogger("logsvc").info("hidden")
    logs.set_up("debug", "text", out)
    logging.getLogger("aiohttp.access").info("hidden")
    logging.getLogger("aiohttp").warning("shown")
    assert out.getvalue().endswith("warning aiohttp: shown\n")
    assert "hidden" not in out.getvalue()


def test_what_aiokafka_repeats_is_said_once_a_minute() -> None:
    out = io.StringIO()
    logs.set_up("info", "text", out)
    for node in range(5):
        logging.getLogger("aiokafka.client").error("Unable connect to node with id %s", node)
        logging.getLogger("logsvc.bus").warning("away")
    assert out.getvalue().count("Unable connect") == 1
    assert out.getvalue().count("away") == 5
    (handler,) = logging.getLogger().handlers
    late = logging.makeLogRecord({"name": "aiokafka.client", "msg": "Unable connect to node with id %s"})
    late.created += 61
    assert handler.filter(late)


def test_a_request_that_aiokafka_gave_up_is_one_line() -> None:
    out = io.StringIO()
    logs.set_up("info", "text", out)
    for error in (RequestTimedOutError(), RequestTimedOutError(), ValueError("ours")):
        logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=error)
    said = out.getvalue()
    assert said.count("aiokafka: a request was given up: RequestTimedOutError") == 1
    assert said.count("Task exception was never retrieved") == 1
    assert "ValueError: ours" in said
