"""Entry of the `paas` command: how it ends.

0 when all is done or nobody reads the output any more, 130 after Ctrl-C, 2 for a command line that can't be used,
1 for everything else; what is wrong is one plain line on stderr.
"""

import os
import sys


def main() -> None:
    """Run `paas` with the arguments of this process and exit."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        # A second Ctrl-C, or one while modules were loading: nothing is left to tidy up.
        os._exit(130)


def _run() -> int:
    # Imported here so that Ctrl-C is caught while they load too.
    import click  # noqa: PLC0415

    from logsvc.client.cli import cli  # noqa: PLC0415
    from logsvc.client.output import tell  # noqa: PLC0415
    from logsvc.errors import LogsvcError  # noqa: PLC0415

    try:
        with cli.make_context("paas", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        # What is left in a buffer must not complain when Python flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        tell(error.format_message())
        return error.exit_code
    except LogsvcError as error:
        tell(str(error))
        return 1
    return 0


if __name__ == "__main__":
    main()
