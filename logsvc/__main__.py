"""The `logsvc` command."""

import sys
from pathlib import Path

import click
import uvloop

from logsvc import logs
from logsvc.config import load, render
from logsvc.errors import LogsvcError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Folder of everything that is kept.")
@click.option("--host", help="Address to listen on (loopback).")
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
    from logsvc.service.development import Development, develop  # noqa: PLC0415 - the other commands need none of it

    settings = load(config, {"data.dir": data, "http.host": host, "http.port": port})
    logs.set_up(settings.log.level, settings.log.format)
    # Threads that decode hold the interpreter for so long before the loop gets it back; 5 ms is seen in latency.
    sys.setswitchinterval(0.0005)
    sys.exit(uvloop.run(develop(Development(settings, procfile, app, scale))))


@cli.command("config")
@click.pass_obj
def config_(config: Path | None) -> None:
    """Print the settings in force, as a file of settings."""
    click.echo(render(load(config)), nl=False)


def main() -> None:
    """Run a command; an error that somebody can act on is one line on stderr and status 1."""
    try:
        cli()
    except* LogsvcError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        click.echo(f"logsvc: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
