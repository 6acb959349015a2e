"""migrate: moving in from another mail system."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ekiden.commands.findings import tell
from ekiden.commands.progress import progress
from ekiden.commands.trouble import require_configured, unusable
from ekiden.migration.accounts import ASSIGN, DELIVERY, follow_forward_files, forward_files
from ekiden.migration.finding import Kind, Place, Report
from ekiden.migration.plan import Step, carry_out
from ekiden.migration.reading import Reading
from ekiden.migration.spools import TEMPLATE

if TYPE_CHECKING:
    from ekiden.runtime.injection.direct import Direct

_SKELETON = "for those: maildirmake /etc/skel/Maildir"

_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def migrate() -> None:
    """Move in from another mail system."""


@migrate.command()
@click.argument("directory", metavar="[DIR]", type=_DIRECTORY, default="/etc/mail")
@click.option("--queue", "queues", metavar="DIR", type=_DIRECTORY, multiple=True, help="Take over this queue.")
@click.option("--spool", "spool", metavar="DIR", type=_DIRECTORY, help="Move these mboxes (/var/mail) into Maildirs.")
@click.option("--maildirs", metavar="TEMPLATE", default=TEMPLATE, show_default=True, help="Where to; also {user}.")
@click.option("--apply", "apply", is_flag=True, help="Do it; without this nothing is changed.")
@click.option("--replace", is_flag=True, help="Replace control files that say something else.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.pass_obj
def sendmail(
    home: Path,
    directory: Path,
    queues: tuple[Path, ...],
    spool: Path | None,
    maildirs: str,
    apply: bool,
    replace: bool,
    as_json: bool,
) -> int:
    """Carry over what sendmail has in DIR (/etc/mail), its queue and its users' mail.

    Says what is carried over, what means something else here, and what is left and why. Exit code 1 if something
    was left.
    """
    me = _me(home)
    if apply and queues:
        _require_stopped(home)
    try:
        reading = Reading(directory.absolute(), home, me)
        steps = _configure(home, reading, spool, maildirs, apply, replace)
        report = reading.report
        totals: dict[str, Any] = {}
        if not queues:
            _tell_of_waiting(reading)
        else:
            totals["queue"] = _take_queues(home, queues, reading.plan.local, apply, report)
        if spool is not None:
            totals["spool"] = _move_spools(home, spool.absolute(), maildirs, apply, report)
    except OSError as error:
        raise unusable(error, home) from None
    tell(report, steps, totals, apply, as_json)
    return 1 if report.count(Kind.LEFT) or any(step.action == "keep" for step in steps) else 0


def _me(home: Path) -> str:
    from ekiden.settings.control import read
    from ekiden.settings.problem import SettingsError

    require_configured(home)
    try:
        return read(home / "control").me.decode("utf-8", "replace").lower()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def _require_stopped(home: Path) -> None:
    """ClickException while ekiden runs: before anything is changed, not when the queue turns out to be taken."""
    from ekiden.runtime.control import Asking

    with contextlib.suppress(OSError), Asking(home):
        raise click.ClickException(f"ekiden runs, and has the queue; first: ekiden --home {home} stop")


def _configure(
    home: Path, reading: Reading, spool: Path | None, maildirs: str, apply: bool, replace: bool
) -> list[Step]:
    """The files of the home; the aliases are compiled before anything uses them."""
    _default_delivery(reading, spool, maildirs)
    if home.stat().st_uid == 0:
        follow_forward_files(list(forward_files()), home, reading.plan, reading.report)
    steps = reading.plan.steps(home, replace)
    if apply:
        aliases = [step for step in steps if step.path == "control/aliases"]
        carry_out(home, aliases)
        _compile(home, reading, any(step.changes for step in aliases))
        carry_out(home, [step for step in steps if step not in aliases])
        _compile_assignments(home, any(step.path == ASSIGN and step.changes for step in steps))
    return steps


def _default_delivery(reading: Reading, spool: Path | None, maildirs: str) -> None:
    place = Place(DELIVERY)
    if spool is None:
        text = "users' spools stay as they are, and new mail goes to ~/Mailbox unless this file says otherwise"
        reading.report.changed(place, text, "--spool /var/mail moves them into Maildirs")
    elif maildirs.startswith("{home}/"):
        reading.plan.add(place.file, f"./{maildirs.removeprefix('{home}/').rstrip('/')}/")
    else:
        text = f"new mail is not delivered to {maildirs}"
        reading.report.left(place, text, "write .qmail files, or users/assign with these homes")


def _compile(home: Path, reading: Reading, changed: bool) -> None:
    """What ``newaliases`` and ``newinclude`` do, for what is not compiled yet."""
    from ekiden.programs import newaliases, newinclude

    umask = os.umask(0o033)
    try:
        for name in reading.included:
            if not Path(f"{name}.bin").exists() and newinclude.main([name], str(home)):
                reading.report.left(Place(name), "the list is not compiled", f"newinclude {name}")
        path = home / "control" / "aliases"
        compiled = path.with_name("aliases.cdb").exists() and not changed
        if path.exists() and not compiled and newaliases.main([str(path)], str(home)):
            raise click.ClickException("the aliases are not compiled; nothing else was changed")
    finally:
        os.umask(umask)


def _compile_assignments(home: Path, changed: bool) -> None:
    """What ``qmail-newu`` does, if it was not done."""
    from ekiden.programs import qmail_newu

    there, compiled = (home / "users" / name for name in ("assign", "cdb"))
    umask = os.umask(0o033)
    try:
        if (changed or (there.exists() and not compiled.exists())) and qmail_newu.main([], str(home)):
            raise click.ClickException("users/assign is not compiled; mend it and run this again")
    finally:
        os.umask(umask)


def _tell_of_waiting(reading: Reading) -> None:
    """Name queues that have messages and are not taken over."""
    from ekiden.migration.queue_directory import control_files

    for directory in reading.queue_directories():
        count = sum(1 for _ in control_files(directory))
        if count:
            text = f"{count} messages wait in sendmail's queue"
            reading.report.left(Place(str(directory)), text, f"--queue {directory} takes them over")


def _take_queues(home: Path, queues: tuple[Path, ...], local: str, apply: bool, report: Report) -> dict[str, int]:
    from ekiden.migration.queue_directory import Transfer, control_files, strays

    found = [file for queue in queues for file in control_files(queue.absolute())]
    with _way_in(home, apply) as taker, progress("queue", len(found)) as step:
        transfer = Transfer(taker, local, report)
        for each in found:
            transfer.take(each)
            step(1)
        transfer.finish()
    for queue in queues:
        strays(queue.absolute(), report, apply)
    return {
        "found": len(found),
        "taken": transfer.messages,
        "by an earlier run": transfer.again,
        "left": len(found) - transfer.messages,
        "recipients": transfer.recipients,
        "octets": transfer.octets,
    }


@contextmanager
def _way_in(home: Path, apply: bool) -> Iterator[Direct | None]:
    """Our queue, if anything is to be done; ClickException if it is not to be had."""
    from ekiden.runtime.injection.direct import Direct
    from ekiden.runtime.injection.door import NotQueued

    if not apply:
        yield None
        return
    try:
        queue = Direct(str(home))
    except NotQueued as error:
        raise click.ClickException(str(error)) from None
    try:
        yield queue
    finally:
        queue.close()


def _move_spools(home: Path, directory: Path, maildirs: str, apply: bool, report: Report) -> dict[str, int]:
    from ekiden.migration.spools import make_maildir, missing_maildirs, move_spool, spools

    found = list(spools(directory, maildirs, report))
    totals = {"spools": 0, "messages": 0, "added": 0, "octets": 0}
    with progress("spools", sum(spool.size for spool in found)) as step:
        for spool in found:
            moved = move_spool(spool, apply, step, report)
            if moved is not None:
                totals["spools"] += 1
                for name in ("messages", "added", "octets"):
                    totals[name] += getattr(moved, name)
    if maildirs.startswith("{home}/") and home.stat().st_uid == 0:
        missing = list(missing_maildirs(maildirs))
        made = [one for one in missing if not apply or make_maildir(*one, report)]
        totals["maildirs made"] = len(made)
        place = Place(maildirs)
        report.changed(place, f"{len(made)} users without one get it now; users added later do not", _SKELETON)
    return totals
