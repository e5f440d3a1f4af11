"""The `logsvc` command."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import click
import uvloop

from logsvc import logs
from logsvc.config import Settings
from logsvc.errors import LogsvcError
from logsvc.loading import load, render

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="logsvc")
@click.option("--config", type=_FILE, help="File of settings (TOML); else LOGSVC_CONFIG.")
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """The log service of a Heroku-compatible platform."""
    context.obj = config


@cli.command()
@click.option("--procfile", type=_FILE, help="Run the processes of this Procfile and collect their logs.")
@click.option("--app", default="demo", show_default=True, help="The app that they are.")
@click.option("--scale", multiple=True, metavar="TYPE=N", help="How many processes of a type to run; repeats.")
@click.option("--data", type=_FOLDER, help="Folder of everything that is kept.")
@click.option("--host", help="Address to listen on; without tokens one of loopback.")
@click.option("--port", type=int, help="Port to listen on.")
@click.pass_obj
def dev(
    config: Path | None,
    procfile: Path | None,
    app: str,
    scale: tuple[str, ...],
    data: Path | None,
    host: str | None,
    port: int | None,
) -> None:
    """Run the whole service in this process, for one machine."""
    from logsvc.service.development import Development, develop  # noqa: PLC0415 - other commands need none of it

    settings = _start(config, {"data.dir": data, "http.host": host, "http.port": port})
    sys.exit(uvloop.run(develop(Development(settings, procfile, app, scale))))


@cli.command()
@click.option("--data", type=_FOLDER, help="Folder of the node: its log files, and how far collection got.")
@click.option("--node", help="The node's name, the same over restarts. [default: the host's]")
@click.pass_obj
def collect(config: Path | None, data: Path | None, node: str | None) -> None:
    """Collect the log files of one node into Kafka."""
    from logsvc.service import collect as role  # noqa: PLC0415 - other commands need none of it

    settings = _start(config, {"data.dir": data})
    sys.exit(uvloop.run(role.collect(settings, node)))


@cli.command()
@click.pass_obj
def store(config: Path | None) -> None:
    """Store what is in Kafka in ClickHouse. Start as many as there is work for."""
    from logsvc.service import store as role  # noqa: PLC0415 - other commands need none of it

    sys.exit(uvloop.run(role.store(_start(config, {}))))


@cli.command()
@click.option("--host", help="Address to listen on; without tokens one of loopback.")
@click.option("--port", type=int, help="Port to listen on.")
@click.pass_obj
def serve(config: Path | None, host: str | None, port: int | None) -> None:
    """Serve the API from Kafka and ClickHouse. Start as many as there are readers for."""
    from logsvc.service import serve as role  # noqa: PLC0415 - other commands need none of it

    sys.exit(uvloop.run(role.serve(_start(config, {"http.host": host, "http.port": port}))))


@cli.command()
@click.pass_obj
def drain(config: Path | None) -> None:
    """Deliver apps' lines to their drains. Start as many as there is work for."""
    from logsvc.service import drain as role  # noqa: PLC0415 - other commands need none of it

    sys.exit(uvloop.run(role.drain(_start(config, {}))))


@cli.command()
@click.option("--procfile", type=_FILE, required=True, help="Run the processes of this Procfile.")
@click.option("--app", default="demo", show_default=True, help="The app that they are.")
@click.option("--scale", multiple=True, metavar="TYPE=N", help="How many processes of a type to run; repeats.")
@click.option("--data", type=_FOLDER, help="Folder that their log files go to.")
@click.pass_obj
def procfile(config: Path | None, procfile: Path, app: str, scale: tuple[str, ...], data: Path | None) -> None:
    """Run processes as a kubelet would, for a `logsvc collect` beside it."""
    from logsvc.service.procfile import run_processes  # noqa: PLC0415 - other commands need none of it

    sys.exit(uvloop.run(run_processes(_start(config, {"data.dir": data}), procfile, app, scale)))


@cli.command()
@click.pass_obj
def migrate(config: Path | None) -> None:
    """Bring topics and tables up to date. Another number of partitions begins a new epoch."""
    from logsvc.service import admin  # noqa: PLC0415 - other commands need none of it

    for sentence in uvloop.run(admin.migrate(_start(config, {}))):
        click.echo(sentence)


@cli.command()
@click.pass_obj
def check(config: Path | None) -> None:
    """Say whether Kafka, ClickHouse and rights in Kubernetes are as they must be, and what to do where not."""
    from logsvc.service import admin  # noqa: PLC0415 - other commands need none of it

    findings = uvloop.run(admin.check(_start(config, {})))
    click.echo(admin.table(findings))
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


@cli.command()
@click.option("--tenant", default="local", show_default=True, help="Whose app it is.")
@click.option("--app", required=True, help="The app.")
@click.option(
    "--data", type=_FOLDER, help="Data folder of a `logsvc dev` that doesn't run; else on Kafka and ClickHouse."
)
@click.option("--wait", default=60.0, show_default=True, help="Most seconds to wait for what is being stored.")
@click.option("--drains", is_flag=True, help="Remove its drains, too: for an app that was deleted.")
@click.pass_obj
def purge(config: Path | None, tenant: str, app: str, data: Path | None, wait: float, drains: bool) -> None:
    """Remove for good what an app has written until now. It can't be undone.

    A `logsvc dev` that runs is asked by `DELETE /v1/apps/{app}/logs`; so may be a `logsvc serve`.
    """
    from logsvc.access.grant import NAME  # noqa: PLC0415 - other commands need none of it
    from logsvc.model import AppId  # noqa: PLC0415 - the same
    from logsvc.service import admin  # noqa: PLC0415 - the same

    for name in (tenant, app):
        if not NAME.fullmatch(name):
            raise click.UsageError(f"{name!r} is not a name: letters, digits, `.`, `_` and `-`")
    settings = _start(config, {"data.dir": data})
    of = AppId(tenant, app)
    if data is None:
        done = admin.purge(settings, of, wait, drains=drains)
    else:
        done = admin.purge_folder(settings, of, drains=drains)
    for sentence in uvloop.run(done):
        click.echo(sentence)


@cli.command()
@click.pass_obj
def backup(config: Path | None) -> None:
    """Write a copy of what Kafka alone knows to stdout: epochs, drains, what was revoked and removed.

    It holds secrets: the URLs of drains.
    """
    from logsvc.service import admin  # noqa: PLC0415 - other commands need none of it

    click.echo(uvloop.run(admin.backup(_start(config, {}))), nl=False)


@cli.command()
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def restore(config: Path | None, file: BinaryIO) -> None:
    """Give what `logsvc backup` has written to FILE to an empty Kafka, once ClickHouse is restored."""
    from logsvc.service import admin  # noqa: PLC0415 - other commands need none of it

    for sentence in uvloop.run(admin.restore(_start(config, {}), file.read())):
        click.echo(sentence)


@cli.command()
@click.argument("name")
@click.option("--undo", is_flag=True, help="Take it back.")
@click.pass_obj
def revoke(config: Path | None, name: str, undo: bool) -> None:
    """Revoke a token at every `logsvc serve`: NAME is the `jti` of a JWT, or the name of a static token."""
    from logsvc.service import admin  # noqa: PLC0415 - other commands need none of it

    click.echo(uvloop.run(admin.revoke(_start(config, {}), name, undo=undo)))


@cli.command()
@click.option("--name", required=True, help="What it is called: in the audit log, and to revoke it.")
@click.option("--tenant", default="local", show_default=True, help="Whose apps it is for.")
@click.option("--scope", multiple=True, default=["logs:read", "logs:write"], show_default=True, help="Repeats.")
@click.option("--app", multiple=True, help="Only for this app; repeats.")
def token(name: str, tenant: str, scope: tuple[str, ...], app: tuple[str, ...]) -> None:
    """Make a static token: its entry for the file of tokens on stdout, the token itself on stderr."""
    from logsvc.access.static import mint  # noqa: PLC0415 - other commands need none of it

    try:
        made, entry = mint(name, tenant, scope, app)
    except LogsvcError as error:
        raise click.ClickException(str(error)) from error
    click.echo(entry, nl=False)
    click.echo(f"The token, which nobody can show again: {made}", err=True)


@cli.command("config")
@click.pass_obj
def config_(config: Path | None) -> None:
    """Print the settings in force, as a file of settings."""
    click.echo(render(load(config)), nl=False)


def _start(config: Path | None, flags: Mapping[str, object]) -> Settings:
    """The settings in force, for a process that begins to work."""
    settings = load(config, flags)
    logs.set_up(settings.log.level, settings.log.format)
    # Threads that decode hold the interpreter for so long before the loop gets it back; 5 ms is seen in latency.
    sys.setswitchinterval(0.0005)
    return settings


def main() -> None:
    """Run a command; an error that somebody can act on is one line on stderr and status 1."""
    error: BaseException | None = None
    try:
        cli()
    except* LogsvcError as group:
        error = group  # SystemExit raised in here would become part of a group, and of a traceback
    if error is not None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        click.echo(f"logsvc: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
