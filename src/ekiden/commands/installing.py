"""install: a home's directories, programs, boot scripts and manual pages, and qmail's users."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

import ekiden
from ekiden.commands.running import supervisor_of
from ekiden.commands.trouble import unusable
from ekiden.installation.accounts import NotAdded, Owners, add, additions
from ekiden.installation.layout import CannotInstall, Change, apply, closed_to_others, plan
from ekiden.installation.tree import Entry, Fault, tree
from ekiden.runtime.privilege import Identity, become


@click.command()
@click.argument("directory", metavar="[HOME]", required=False, type=click.Path(path_type=Path))
@click.option("--create-users", is_flag=True, help="Add those of qmail's users and groups that do not exist.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def install(home: Path, directory: Path | None, create_users: bool, dry_run: bool) -> int:
    """Lay out HOME, or repair what differs from the way it was laid out, and say what is done, a line each.

    Mail, settings, users/ and what is in alias/ are never touched. Exit code 1, with nothing changed, if a user is
    missing. In a directory of your own, no users are needed.
    """
    home = directory.absolute() if directory else home
    os.umask(0o022)
    try:
        # Read while we are root: a user may not be able to read the interpreter's files.
        entries = list(tree(home, Owners(home)))
        _become_owner(home)
        changes = _plan(home, entries, create_users)
        if not dry_run:
            _add_users(home)
            # The users that were missing are known by number now.
            changes = plan(home, entries, Owners(home))
        else:
            for line, _ in additions(home, Owners(home).missing()):
                click.echo(line)
        _lay_out(changes, Owners(home), dry_run)
    except (CannotInstall, NotAdded) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise unusable(error, home) from None
    _warn_of_closed(home)
    return 0


def _become_owner(home: Path) -> None:
    """Root installs a user's home as that user, who could otherwise lead root to any file by links."""
    if os.geteuid() == 0 and home.is_dir() and (status := home.stat()).st_uid:
        become(Identity(status.st_uid, status.st_gid))


def _plan(home: Path, entries: list[Entry], create_users: bool) -> list[Change]:
    """What is to be changed; raises ``CannotInstall`` if that is already known to fail."""
    owners = Owners(home)
    missing = owners.missing()
    if missing and not create_users:
        remedy = f"Nothing is changed. To add them: ekiden install --create-users {home}"
        raise CannotInstall("\n".join([*(f"there is no {name}" for name in missing), remedy]))
    if owners.are_qmails and os.geteuid() != 0:
        raise CannotInstall(f"{home} belongs to root, and only root may install there")
    changes = plan(home, entries, owners)
    moved = [c for c in changes if c.entry.path in ("queue", "log") and Fault.OWNER in c.faults]
    if moved and (pid := supervisor_of(home)):
        raise CannotInstall(
            f"process {pid} serves {home} as another user than will own {moved[0].entry.path}/; "
            f"first: ekiden --home {home} stop"
        )
    return changes


def _add_users(home: Path) -> None:
    for line, command in additions(home, Owners(home).missing()):
        click.echo(line)
        add(command)


def _lay_out(changes: list[Change], owners: Owners, dry_run: bool) -> None:
    for change in changes:
        click.echo(str(change))
        if not dry_run:
            apply(change, owners)


def _warn_of_closed(home: Path) -> None:
    """qmail's users have to reach the home, the interpreter and the package."""
    if not Owners(home).are_qmails:
        return
    programs = (Path(sys.executable).resolve().parent, Path(sys.prefix), Path(ekiden.__path__[0]))
    for way in closed_to_others(home, *programs):
        click.echo(f"warning: other users cannot enter {way}: qmail's users cannot run the programs", err=True)
