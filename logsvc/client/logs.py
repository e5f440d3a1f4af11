"""`paas logs`: prints an app's log, and goes on with it."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from logsvc.client.follow import Follow, Query
from logsvc.client.options import app_option
from logsvc.client.output import Output, Progress
from logsvc.client.render import JsonLines, PlainText, Render, TerminalText
from logsvc.client.service import Parameters, Service
from logsvc.client.settings import load
from logsvc.client.times import parse_time, rfc3339
from logsvc.errors import BadTime

_DEFAULT_NUM = 100


@dataclass(frozen=True, slots=True)
class Zone:
    """A time zone as `--tz` names it; `info` is None for the machine's own."""

    info: tzinfo | None


class ZoneType(click.ParamType[Zone]):
    """An IANA name, `local` or `utc`."""

    name = "zone"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Zone:
        if isinstance(value, Zone):
            return value
        name = str(value)
        if name.lower() in {"utc", "z"}:
            return Zone(UTC)
        if name.lower() == "local":
            return Zone(None)
        try:
            return Zone(ZoneInfo(name))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(f"there is no time zone {name!r}; write local, utc or a name like Europe/Berlin", param, ctx)


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags of one `paas logs`."""

    app: str
    num: int | None
    tail: bool
    process_type: tuple[str, ...]
    dyno_name: tuple[str, ...]
    source: tuple[str, ...]
    since: str | None
    until: str | None
    grep: tuple[str, ...]
    grep_re: tuple[str, ...]
    exclude: tuple[str, ...]
    exclude_re: tuple[str, ...]
    not_process_type: tuple[str, ...]
    not_dyno_name: tuple[str, ...]
    not_source: tuple[str, ...]
    not_stream: tuple[str, ...]
    ignore_case: bool
    stream: tuple[str, ...]
    json_lines: bool
    tz: Zone | None
    no_color: bool
    force_colors: bool


@click.command("logs")
@app_option
@click.option("-n", "--num", type=click.IntRange(min=0), metavar="N", help="The last N lines.  [default: 100]")
@click.option("-t", "--tail", is_flag=True, help="Go on with new lines as they come.")
@click.option("-p", "--process-type", multiple=True, metavar="NAME", help="Only this process type, such as web.")
@click.option("-d", "--dyno-name", "--dyno", multiple=True, metavar="NAME", help="Only this dyno, such as web.1.")
@click.option("-s", "--source", multiple=True, metavar="NAME", help="Only this source: app or platform.")
@click.option("--stream", multiple=True, type=click.Choice(["stdout", "stderr"]), help="Only this output.")
@click.option("--not-process-type", multiple=True, metavar="NAME", help="All but this process type.")
@click.option("--not-dyno-name", "--not-dyno", multiple=True, metavar="NAME", help="All but this dyno.")
@click.option("--not-source", multiple=True, metavar="NAME", help="All but this source.")
@click.option("--not-stream", multiple=True, type=click.Choice(["stdout", "stderr"]), help="All but this output.")
@click.option("--since", metavar="TIME", help='From this time on: 15m, 14:00, "yesterday 14:00", RFC 3339.')
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option("--grep", multiple=True, metavar="TEXT", help="Only lines that hold this text.")
@click.option("--grep-re", multiple=True, metavar="PATTERN", help="Only lines that match this RE2 pattern.")
@click.option("--exclude", multiple=True, metavar="TEXT", help="Only lines that do not hold this text.")
@click.option("--exclude-re", multiple=True, metavar="PATTERN", help="Only lines that do not match this RE2 pattern.")
@click.option("-i", "--ignore-case", is_flag=True, help="Ignore case in texts and patterns.")
@click.option("--json", "json_lines", is_flag=True, help="Print JSON, one object a line.")
@click.option("--tz", type=ZoneType(), metavar="ZONE", help="Time zone: local, utc, Europe/Berlin, …  [default: utc]")
@click.option("--no-color", is_flag=True, help="No colours on the terminal, not even those in messages.")
@click.option("--force-colors", is_flag=True, help="Colours even where the output is not a terminal.")
def logs(**flags: object) -> None:
    """Print the log of an app.

    Filters repeat: a line passes that is of one of the processes, dynos, sources and streams named and of none of
    those that a --not-… names, holds every --grep, matches every --grep-re, holds no --exclude and matches no
    --exclude-re. Times without a zone are of --tz, else local.
    """
    asked = Asked(**flags)  # type: ignore[arg-type] # click has converted each to its field's type
    query = query_of(asked, time.time_ns())
    output = Output(1)
    render = render_of(asked, output, os.environ)
    Follow(Service(load()), query, render, output, progress=_progress(query, output)).run()


def query_of(asked: Asked, now: int) -> Query:
    """What to ask the service for; `now` in Unix ns. Raises click.UsageError."""
    if asked.tail and asked.until is not None:
        raise click.UsageError("--until and --tail exclude each other: a tail has no end.")
    zone = asked.tz.info if asked.tz else None
    since, until = (_moment(flag, value, now, zone) for flag, value in (("since", asked.since), ("until", asked.until)))
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until.")
    num = asked.num
    if num is None and since is None and until is None:
        num = _DEFAULT_NUM
    parameters = [
        *([("tail", "1")] if asked.tail else []),
        *([("num", str(num))] if num is not None else []),
        *([("since", rfc3339(since))] if since is not None else []),
        *([("until", rfc3339(until))] if until is not None else []),
        *_filters(asked),
    ]
    return Query(asked.app, parameters, asked.tail, num)


def _moment(flag: str, value: str | None, now: int, zone: tzinfo | None) -> int | None:
    if value is None:
        return None
    try:
        return parse_time(value, now, zone)
    except BadTime as error:
        raise click.BadParameter(str(error), param_hint=f"'--{flag}'") from error


def _filters(asked: Asked) -> Parameters:
    repeated = {
        "process": asked.process_type,
        "dyno": asked.dyno_name,
        "source": asked.source,
        "stream": asked.stream,
        "not_process": asked.not_process_type,
        "not_dyno": asked.not_dyno_name,
        "not_source": asked.not_source,
        "not_stream": asked.not_stream,
        "grep": asked.grep,
        "grep_re": asked.grep_re,
        "exclude": asked.exclude,
        "exclude_re": asked.exclude_re,
    }
    pairs = [(name, value) for name, values in repeated.items() for value in values]
    return [*pairs, ("ignore_case", "1")] if asked.ignore_case else pairs


def render_of(asked: Asked, output: Output, environ: Mapping[str, str]) -> Render:
    """How to print: for a terminal where there is one or colours are forced, else as it is."""
    if asked.no_color and asked.force_colors:
        raise click.UsageError("--no-color and --force-colors exclude each other.")
    if asked.json_lines:
        return JsonLines(terminal=output.terminal)
    zone = asked.tz.info if asked.tz else UTC
    if not output.terminal and not asked.force_colors:
        return PlainText(zone)
    unwanted = asked.no_color or bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
    return TerminalText(zone, colour=asked.force_colors or not unwanted)


def _progress(query: Query, output: Output) -> Progress | None:
    """Progress of what is more than a screenful and goes to a file while somebody watches stderr."""
    if query.tail or not output.file or sys.stderr is None or not sys.stderr.isatty():
        return None
    if query.limit is not None and query.limit <= os.get_terminal_size(sys.stderr.fileno()).lines:
        return None
    return Progress(sys.stderr.fileno(), query.limit)
