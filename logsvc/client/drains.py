"""`paas drains` and its kin: where else an app's lines go, and how that does."""

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import click
import orjson

from logsvc.client.options import app_option
from logsvc.client.output import tell
from logsvc.client.service import Service, quoted_app
from logsvc.client.settings import load
from logsvc.errors import ClientError, Refused
from logsvc.formats.terminal import plain

Drain = dict[str, Any]
"""As the API shows one."""

_FLAGS: Final = {"process": "-p", "dyno": "-d", "source": "-s"}
"""What filters are called on the command line, where it isn't their own name."""

drain_argument = click.argument("drain", metavar="URL|TOKEN")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("drains")
@app_option
@json_option
def drains(app: str, *, as_json: bool) -> None:
    """List the drains of an app."""
    found = _ask("GET", app)
    if as_json:
        _print_json(found)
        return
    if not found:
        tell(f"{app} has no drains; add one with: paas drains:add URL -a {app}")
    for drain in found:
        click.echo(f"{_name(drain)}{_restrictions(drain)}")


@click.command("drains:add")
@app_option
@click.argument("url", metavar="URL")
@click.option("-p", "--process-type", "process", multiple=True, metavar="NAME", help="Only this process type.")
@click.option("-d", "--dyno-name", "--dyno", "dyno", multiple=True, metavar="NAME", help="Only this dyno.")
@click.option("-s", "--source", multiple=True, metavar="NAME", help="Only this source: app or platform.")
@click.option("--stream", multiple=True, type=click.Choice(["stdout", "stderr"]), help="Only this output.")
@click.option("--grep", multiple=True, metavar="TEXT", help="Only lines that hold this text.")
@click.option("--grep-re", multiple=True, metavar="PATTERN", help="Only lines that match this RE2 pattern.")
@click.option("--exclude", multiple=True, metavar="TEXT", help="Only lines that do not hold this text.")
@click.option("--exclude-re", multiple=True, metavar="PATTERN", help="Only lines that do not match this RE2 pattern.")
@click.option("-i", "--ignore-case", is_flag=True, help="Ignore case in texts and patterns.")
@click.option("--unordered", is_flag=True, help="Send several requests at once, in any order.")
def add(app: str, url: str, *, unordered: bool, **filters: Any) -> None:
    """Forward an app's lines to a URL from now on.

    https://, syslog:// and syslog+tls:// as at Heroku, otlp+https:// and loki+https:// besides. Filters repeat, and
    mean what they mean in `paas logs`. With --unordered one request that is slow or fails holds up no other, so more
    gets to a receiver that is far away or puts lines into order by itself.
    """
    wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in filters.items() if value}
    body = {"url": url} | ({"filter": wanted} if wanted else {}) | ({"ordered": False} if unordered else {})
    drain = _ask("POST", app, body=body)
    click.echo(f"Successfully added drain {_name(drain)}")
    try:
        Service(load()).ask("GET", f"/apps/{quoted_app(app)}")
    except ClientError:  # a token that may not read is not told, which is no matter
        tell(f"{app} has not written a line yet, as far as can be told: is that its name?")


@click.command("drains:remove")
@app_option
@drain_argument
def remove(app: str, drain: str) -> None:
    """Take a drain away from an app."""
    click.echo(f"Successfully removed drain {_name(_ask('DELETE', app, drain))}")


@click.command("drains:status")
@app_option
@click.argument("drain", metavar="[URL|TOKEN]", required=False)
@json_option
def status(app: str, drain: str | None, *, as_json: bool) -> None:
    """Say how the drains of an app do, or one of them."""
    found = _ask("GET", app, drain or "", parameters=[("status", "true")])
    if as_json:
        _print_json(found)
        return
    shown = found if isinstance(found, list) else [found]
    if not shown:
        tell(f"{app} has no drains")
    now = datetime.now(UTC)
    for each in shown:
        click.echo("\n".join((_name(each), *(f"  {line}" for line in _lines_of(each["status"], now)))))


@click.command("drains:pause")
@app_option
@drain_argument
def pause(app: str, drain: str) -> None:
    """Have a drain rest; what is written meanwhile is delivered once it is resumed."""
    click.echo(f"Paused drain {_name(_ask('POST', app, drain, action='pause'))}")


@click.command("drains:resume")
@app_option
@drain_argument
def resume(app: str, drain: str) -> None:
    """Have a drain go on where it was paused."""
    click.echo(f"Resumed drain {_name(_ask('POST', app, drain, action='resume'))}")


@click.command("drains:test")
@app_option
@drain_argument
def test(app: str, drain: str) -> None:
    """Send one marked line to a drain, and say what the other side answers.

    Ends with 0 where the line was taken.
    """
    trial = _ask("POST", app, drain, action="test")
    answer = f"{plain(str(trial['answer']))} ({trial['seconds']} s)"
    if not trial["taken"]:
        raise Refused(answer)
    click.echo(answer)


def _ask(
    method: str,
    app: str,
    drain: str = "",
    *,
    action: str = "",
    body: object = None,
    parameters: Sequence[tuple[str, str]] = (),
) -> Any:
    path = f"/apps/{quoted_app(app)}/log-drains"
    path += f"/{quote(drain, safe='')}" if drain else ""
    path += f"/actions/{action}" if action else ""
    return Service(load()).ask(method, path, parameters, body)


def _print_json(found: object) -> None:
    sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n")


def _name(drain: Drain) -> str:
    return plain(f"{drain['url']} ({drain['token']})")


def _restrictions(drain: Drain) -> str:
    """What of the app's lines it doesn't get, as it is said on the command line."""
    said = ["paused"] if drain.get("paused") else []
    said += [] if drain.get("ordered", True) else ["--unordered"]
    for name, values in drain.get("filter", {}).items():
        flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
        said += [flag] if values is True else [word for value in values for word in (flag, value)]
    return f"  {plain(shlex.join(said))}" if said else ""


def _lines_of(status: Drain, now: datetime) -> list[str]:
    state = status["state"]
    lines = [f"{state}, {_number(status['lines'])} lines delivered, {status['lines_per_second']:g} lines/s"]
    if state == "paused":
        lines = ["paused: what is written meanwhile is delivered once it is resumed"]
    elif state == "unattended":
        lines = [f"unattended: no process has delivered it for {_ago(status['at'], now)}"]
    if status["lag_lines"] or status["lag_seconds"] >= 1:
        lines.append(f"{_number(status['lag_lines'])} lines behind, the oldest {_span(status['lag_seconds'])} old")
    if status["error"]:
        lines.append(f"last error, {_ago(status['error_at'], now)} ago: {plain(status['error'])}")
    if status["retry_at"]:
        lines.append(f"tried again in {_span(max(0.0, -_since(status['retry_at'], now)))}")
    return lines


def _number(value: int) -> str:
    return f"{value:,}"


def _since(moment: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(moment)).total_seconds()


def _ago(moment: str | None, now: datetime) -> str:
    return "an unknown time" if moment is None else _span(max(0.0, _since(moment, now)))


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


COMMANDS: Final = (drains, add, remove, status, pause, resume, test)
