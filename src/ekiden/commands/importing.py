"""queue import and queue export: messages from a qmail's queue, and back into one."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click

from ekiden.commands.findings import tell_findings
from ekiden.commands.progress import progress
from ekiden.commands.trouble import unusable
from ekiden.migration.finding import Kind, Place, Report
from ekiden.migration.qmail_export import Exporter
from ekiden.migration.qmail_queue import QmailQueue
from ekiden.migration.qmail_transfer import Busy, Transfer, finish, locked
from ekiden.queue.store import StoreFailed
from ekiden.runtime.injection.direct import Direct
from ekiden.runtime.injection.door import NotQueued
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError


@click.command("import")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def import_queue(home: Path, directory: Path, dry_run: bool, as_json: bool) -> int:
    """Take over the messages of a qmail queue, with their age.

    DIRECTORY is qmail's queue/; qmail-send and ekiden must be stopped. What was taken is put aside in its taken/.
    Exit code 1 if something was left.
    """
    if not (directory / "mess").is_dir():
        raise click.ClickException(f"{directory}: no queue of qmail's: there is no mess directory in it")
    report = Report()
    with _both_stopped(directory), ExitStack() as opened:
        settings = read(home / "control")
        queue = None if dry_run else opened.enter_context(closing(Direct(str(home))))
        if queue is not None:
            finish(QmailQueue(directory))
        source = QmailQueue(directory)
        transfer = Transfer(source, queue, settings, report)
        numbers = source.accepted()
        with progress("queue", len(numbers)) as step:
            for number in numbers:
                transfer.take(number)
                step(1)
    for number in source.unfinished():
        text = "no message that qmail had accepted, or one that it had finished"
        report.changed(Place(str(source.directory / "mess" / str(number))), text)
    _tell(report, transfer, len(numbers), dry_run, as_json)
    return 1 if report.count(Kind.LEFT) else 0


@click.command("export")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def export_queue(home: Path, directory: Path, as_json: bool) -> int:
    """Move all messages into a qmail queue, with their age.

    DIRECTORY is qmail's queue/, made if it is not there; qmail-send and ekiden must be stopped. Damaged messages are
    named and left. Exit code 1 if something was left.
    """
    report = Report()
    with _both_stopped(directory), closing(Direct(str(home))) as queue:
        exporter = Exporter(directory.absolute(), queue, getpass.getuser(), report)
        try:
            found = sum(1 for _row in queue.pages())
            with progress("queue", found) as step:
                for row in queue.pages():
                    exporter.export(row)
                    step(1)
        except (OSError, StoreFailed):
            tell_findings(report, as_json)
            raise
    totals = {"found": found, "moved": exporter.messages, "left": report.count(Kind.LEFT)}
    totals |= {"recipients": exporter.recipients, "octets": exporter.octets}
    _print(report, totals, True, as_json)
    return 1 if report.count(Kind.LEFT) else 0


@contextmanager
def _both_stopped(directory: Path) -> Iterator[None]:
    """Hold qmail's lock on ``directory``; ClickException for what keeps messages from being moved."""
    try:
        with locked(directory):
            yield
    except Busy:
        raise click.ClickException(f"a qmail-send has {directory}; stop it first") from None
    except (NotQueued, SettingsError) as error:
        raise click.ClickException(f"{error}; ekiden must be stopped meanwhile") from None
    except StoreFailed as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise unusable(error, directory) from None


def _tell(report: Report, transfer: Transfer, found: int, dry_run: bool, as_json: bool) -> None:
    totals = {
        "found": found,
        "taken": transfer.messages,
        "by an earlier run": transfer.again,
        "left": report.count(Kind.LEFT),
        "recipients": transfer.recipients,
        "bounces": transfer.bounces,
        "octets": transfer.octets,
    }
    _print(report, totals, not dry_run, as_json)


def _print(report: Report, totals: dict[str, int], applied: bool, as_json: bool) -> None:
    tell_findings(report, as_json)
    if as_json:
        click.echo(json.dumps({"applied": applied, **totals}))
        return
    click.echo(", ".join(f"{count} {what}" for what, count in totals.items()))
    if not applied:
        click.echo("nothing was changed")
