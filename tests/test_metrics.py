"""What is counted can be read in the formats that Prometheus asks for."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from logsvc import metrics, telemetry
from logsvc.bus.local import LocalBus
from logsvc.model import Stream


def scraped(name: str) -> float:
    """The value of a metric without labels, as a scrape gives it."""
    body, _ = metrics.render()
    samples = (s for family in text_string_to_metric_families(body.decode()) for s in family.samples)
    return next(sample.value for sample in samples if sample.name == name)


def test_a_scraper_chooses_the_format() -> None:
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    assert b"# HELP logsvc_tails Tails that are open.\n" in body
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_the_process_is_measured_too() -> None:
    assert scraped("process_resident_memory_bytes") > 1_000_000


def test_a_counter_can_follow_what_a_room_counts() -> None:
    count = 7
    metrics.follow(metrics.collect_recoveries, lambda: count)
    assert scraped("logsvc_collect_recoveries_total") == 7
    count = 9
    assert scraped("logsvc_collect_recoveries_total") == 9
    assert scraped("logsvc_collect_recoveries_total") == 9


async def test_the_store_lags_by_what_it_has_not_committed(tmp_path: Path) -> None:
    async with LocalBus.open(tmp_path, partitions=4) as bus:
        telemetry.follow_bus(bus)
        stream = Stream("local", "demo", "web", "web.1", "app", "0")
        for _ in range(3):
            at = await bus.append(stream, b"2026-11-23T02:00:00Z stdout F hello\n")
        assert scraped("logsvc_store_lag_records") == 3
        group = bus.group()
        await group.commit({at.partition: at.offset})
        assert scraped("logsvc_store_lag_records") == 1
        await group.close()
