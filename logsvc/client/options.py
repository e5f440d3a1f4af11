"""Options that several commands share."""

import click

app_option = click.option(
    "-a", "--app", required=True, envvar="PAAS_APP", metavar="NAME", help="The app (or PAAS_APP)."
)
