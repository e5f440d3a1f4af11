"""The `paas` command and its parts. A command lives in a module of its own and is added here."""

import click

from logsvc.client.drains import COMMANDS as DRAINS
from logsvc.client.logs import logs
from logsvc.client.push import push


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="logsvc", message="paas %(version)s")
def cli() -> None:
    """The logs of your apps.

    PAAS_URL says where the service is and PAAS_TOKEN who asks; else ~/.config/paas/config.toml does (url, token).
    """


cli.add_command(logs)
cli.add_command(push)
for command in DRAINS:
    cli.add_command(command)
