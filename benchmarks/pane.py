"""The log pane in Chromium: when the first lines are there, a million lines scrolled through, live at two rates.

    python -m benchmarks.pane [--cases live,first,scroll] [--lines N] [--seconds N] [--opens N]

The service, what writes, and the browser with its drawing in software share the machine. A long task is one of more
than 50 ms, in which the page neither draws nor takes input, and in which it may have waited for a core most of the
time: so there is the CPU of the task that took most of it as well.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from benchmarks.loghub import messages
from benchmarks.report import Report, percentile
from benchmarks.service import Service, make_pod, running
from tests.browser.panes import CHROMIUM

_WATCH = """
    window.tasks = [];
    new PerformanceObserver(list => tasks.push(...list.getEntries().map(entry => entry.duration)))
        .observe({type: 'longtask', buffered: true});
    const look = () => {
        const pane = document.querySelector('log-pane');
        if (pane?.list?.rows.childElementCount) window.first = performance.now();
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
"""


@contextmanager
def opened(browser: Browser, service: Service, app: str) -> Iterator[tuple[Page, CDPSession]]:
    """A new page of a new profile, with the first lines in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.add_init_script(_WATCH)
    try:
        page.goto(f"{service.url}/apps/{app}")
        wait(page, "window.first")
        session = context.new_cdp_session(page)
        session.send("Performance.enable")
        yield page, session
    finally:
        context.close()


def wait(page: Page, expression: str) -> None:
    """Until it is true. Playwright's own way needs `eval`, which the page forbids."""
    end = time.perf_counter() + 60
    while not page.evaluate(expression):
        if time.perf_counter() > end:
            raise TimeoutError(expression)
        page.wait_for_timeout(20)


def in_pane(page: Page, expression: str) -> Any:
    return page.evaluate(f"(() => {{ const pane = document.querySelector('log-pane'); return {expression} }})()")


def heap(session: CDPSession) -> float:
    """MB that the page's objects take, garbage included."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "JSHeapUsedSize") / 1e6


def longest_cpu(trace: bytes) -> float:
    """ms of CPU of the page's task that took most of it."""
    events = json.loads(trace)["traceEvents"]
    page = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [event for event in events if event["name"].endswith("::RunTask") and (event["pid"], event["tid"]) in page]
    return max(task.get("tdur", 0) for task in tasks) / 1e3


def write(service: Service, app: str, lines: int) -> None:
    """Lines as real ones, all at once."""
    texts = messages()
    with make_pod(service.data, app, 0).open("wb") as log:
        for first in range(0, lines, 10_000):
            now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
            many = range(first, min(first + 10_000, lines))
            log.write(
                b"".join(
                    b"%s.%09dZ stdout F seq=%d %s\n" % (now.encode(), seq, seq, texts[seq % len(texts)]) for seq in many
                )
            )


def first_lines(browser: Browser, service: Service, opens: int) -> dict[str, float]:
    """ms from the begin of the navigation to the first row, with nothing in the cache."""
    times = []
    for _ in range(opens):
        with opened(browser, service, "million") as (page, _):
            times.append(page.evaluate("window.first"))
    return {"p50_ms": percentile(times, 0.5), "max_ms": max(times)}


def scrolled(browser: Browser, service: Service, lines: int) -> dict[str, float]:
    """From the newest line up to the first one, a page of lines after the other."""
    with opened(browser, service, "million") as (page, session):
        begun, most_heap, most_rows, seen = time.perf_counter(), 0.0, 0, 0
        while in_pane(page, "pane.log.top") != "done":
            seen, rows = page.evaluate("""async () => {
                const pane = document.querySelector('log-pane');
                for (let step = 0; step < 10 && pane.log.top !== 'done'; step++) {
                    const held = pane.log.lines[0];
                    while (pane.log.lines[0] === held && pane.log.top !== 'done') {
                        pane.scroller.scrollTop = 0;
                        await new Promise(requestAnimationFrame);
                    }
                }
                const [seq] = /(?<=seq=)\\d+/.exec(pane.log.lines[0].raw) ?? [];
                return [Number(seq), pane.list.rows.childElementCount];
            }""")
            most_heap, most_rows = max(most_heap, heap(session)), max(most_rows, rows)
        assert seen == 0, f"stopped at line {seen}"
        held = in_pane(page, "pane.log.lines.length")
        tasks = page.evaluate("tasks")
        return {
            "lines_per_s": lines / (time.perf_counter() - begun),
            "peak_heap_mb": most_heap,
            "rows": most_rows,
            "lines_held": held,
            "long_tasks": len(tasks),
            "longest_ms": max(tasks, default=0.0),
        }


def live(browser: Browser, service: Service, rate: int, seconds: float) -> dict[str, float]:
    """Following an app that writes so many lines a second."""
    app = f"live-{rate}"
    log = make_pod(service.data, app, 0)
    log.write_bytes(b"2026-01-01T00:00:00Z stdout F hello\n")
    while f'"{app}"'.encode() not in service.get("/v1/apps"):
        time.sleep(0.05)
    with opened(browser, service, app) as (page, session):
        wait(page, "document.querySelector('log-pane').log.connection.state === 'live'")
        page.evaluate("tasks.length = 0")
        browser.start_tracing(page=page, categories=["toplevel"])
        before = in_pane(page, "[pane.log.received, pane.list.drawn]")
        command = [sys.executable, "-m", "benchmarks._writer", str(rate), str(seconds), str(log)]
        writing = subprocess.Popen(command, stdout=subprocess.PIPE)
        page.wait_for_timeout(seconds * 700)
        said = page.locator("log-pane .pill").inner_text()
        most_heap = heap(session)
        assert writing.stdout is not None
        written = int(writing.stdout.read())
        writing.wait()
        wait(page, f"document.querySelector('log-pane').log.received >= {before[0] + written}")
        trace = browser.stop_tracing()
        received, drawn = in_pane(page, "[pane.log.received, pane.list.drawn]")
        gaps = page.evaluate("""() => {
            const { lines } = document.querySelector('log-pane').log;
            const numbers = lines.map(line => Number(/seq=(\\d+)/.exec(line.raw)?.[1]));
            return numbers.slice(1).filter((number, at) => numbers[at] >= 0 && number !== numbers[at] + 1).length;
        }""")
        assert received - before[0] == written, f"of {written} lines {received - before[0]} came"
        assert not gaps, f"{gaps} gaps"
        tasks = page.evaluate("tasks")
        return {
            "lines": written,
            "draws_per_s": (drawn - before[1]) / seconds,
            "sheds": float("drawn 4 times" in said),
            "long_tasks": len(tasks),
            "longest_ms": max(tasks, default=0.0),
            "longest_cpu_ms": longest_cpu(trace),
            "heap_mb": most_heap,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="live,first,scroll")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--opens", type=int, default=9)
    asked = parser.parse_args()
    report = Report("pane")
    with running() as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**CHROMIUM)
        cases = asked.cases.split(",")
        for rate in (5_000, 50_000) if "live" in cases else ():
            report.add(f"live at {rate:,} lines/s", live(browser, service, rate, asked.seconds))
        if cases != ["live"]:
            write(service, "million", asked.lines)
            service.wait_stored("million", asked.lines)
        if "first" in cases:
            report.add("first lines", first_lines(browser, service, asked.opens))
        if "scroll" in cases:
            report.add(f"{asked.lines:,} lines scrolled through", scrolled(browser, service, asked.lines))
        browser.close()
    report.write()


if __name__ == "__main__":
    main()
