"""ekiden's own subcommands, by click: config, start, stop, reload, status, queue, route, check, install, audit ..."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ekiden import __version__
from ekiden.commands.configuring import check, config, route
from ekiden.commands.late import LateGroup
from ekiden.commands.queueing import queue
from ekiden.commands.running import reload, start, status, stop

_LATE = {
    "audit": "ekiden.commands.auditing:audit",
    "install": "ekiden.commands.installing:install",
    "migrate": "ekiden.commands.migrating:migrate",
    "trace": "ekiden.commands.tracing:trace",
}


@click.group(cls=LateGroup, late=_LATE, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", metavar="DIR", help="Home directory (else $EKIDEN_HOME, else /var/qmail).")
@click.version_option(__version__, prog_name="ekiden")
@click.pass_context
def ekiden(context: click.Context, home: str | None) -> None:
    """ekiden, a mail transfer agent: qmail's files and programs on a modern engine.

    The classic programs run as `ekiden NAME ARGS` too: `ekiden qmail-showctl`, `ekiden qmail-qstat` ...
    """


for command in (config, start, stop, reload, status, queue, route, check):
    ekiden.add_command(command)


def run_command(arguments: list[str], home: Path) -> int:
    """Run one command line; its exit code (2: usage)."""
    try:
        result = ekiden.main(arguments, prog_name="ekiden", obj=home, standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        return 1
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    return result if isinstance(result, int) else 0
