"""All spools of a directory: whose they are, and each moved by a process that has become its owner.

So nothing that a user puts in the way of the Maildir, such as a symbolic link, leads root anywhere.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ekiden.mailstore.maildrop import MailboxError
from ekiden.mailstore.spool_scan import NotMbox
from ekiden.migration.finding import Place, Report
from ekiden.migration.spool import Moved, make, move
from ekiden.runtime.privilege import Identity, become

TEMPLATE = "{home}/Maildir"

Step = Callable[[int], None]
"""Told the octets that are done."""


class Spool(NamedTuple):
    """A spool file, its owner's account and where its mail goes."""

    path: Path
    size: int
    account: pwd.struct_passwd
    maildir: Path


def spools(directory: Path, template: str, report: Report) -> Iterator[Spool]:
    """The spools in a directory; files that are nobody's are reported. OSError.

    ``template`` is a path in which ``{user}`` and ``{home}`` stand for the account's name and home.
    """
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or path.suffix == ".lock" or not path.is_file() or path.is_symlink():
            continue
        try:
            account = pwd.getpwnam(path.name)
        except KeyError:
            report.left(Place(str(path)), f"there is no user {path.name}", "give it to a user by renaming it")
            continue
        yield Spool(path, path.stat().st_size, account, _expanded(template, account))


def move_spool(spool: Spool, apply: bool, step: Step, report: Report) -> Moved | None:
    """Move one spool; None, with the reason reported, if that cannot be done."""
    place = Place(str(spool.path))
    try:
        moved = _as(spool.account, step, lambda told: move(spool.path, spool.maildir, apply, told))
    except _Failed as error:
        report.left(place, str(error), "the spool is as it was; mend that and run it again")
        return None
    if apply and moved.stored != moved.checksum:
        report.left(place, f"what is in {spool.maildir} differs from what was read", "compare the two by hand")
        return None
    verb = f"{moved.added} of {moved.messages} messages added to" if apply else f"{moved.messages} messages for"
    report.carried(place, f"{verb} {spool.maildir}, {moved.octets} octets, SHA-256 {moved.checksum}")
    return moved


class _Failed(Exception):
    """Why a spool was not moved."""


def _as(account: pwd.struct_passwd, step: Step, job: Callable[[Step], Moved]) -> Moved:
    """Have a process of the account's do the job, which tells its progress, a line each, through a pipe."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        _be_child(account, job, writing)
    os.close(writing)
    answer = {"error": "the process that did it was killed"}
    with open(reading, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("{"):
                answer = json.loads(line)
            else:
                step(int(line))
    os.waitpid(child, 0)
    if "error" in answer:
        raise _Failed(answer["error"])
    return Moved(**answer)  # type: ignore[arg-type]


def _be_child(account: pwd.struct_passwd, job: Callable[[Step], Moved], writing: int) -> None:
    """Never returns."""
    answer: dict[str, object]
    try:
        with open(writing, "w", encoding="utf-8", buffering=1) as pipe:
            try:
                if os.geteuid() == 0:
                    become(Identity(account.pw_uid, account.pw_gid))
                os.umask(0o077)
                answer = vars(job(lambda done: print(done, file=pipe)))
            except OSError as error:
                answer = {"error": f"{os.fsdecode(error.filename or account.pw_dir)}: {error.strerror}"}
            except (MailboxError, NotMbox) as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), file=pipe)
    finally:
        os._exit(0)


def missing_maildirs(template: str) -> Iterator[tuple[pwd.struct_passwd, Path]]:
    """Accounts that get mail and have no Maildir: without one, what comes for them is deferred (qmail-getpw(8))."""
    for account in pwd.getpwall():
        maildir = _expanded(template, account)
        try:
            owned = os.stat(account.pw_dir).st_uid == account.pw_uid
        except OSError:
            continue
        if account.pw_uid and owned and not maildir.is_dir():
            yield account, maildir


def make_maildir(account: pwd.struct_passwd, maildir: Path, report: Report) -> bool:
    """Make an account's Maildir; False, with the reason reported, if that cannot be done."""

    def job(_step: Step) -> Moved:
        make(os.fsencode(maildir))
        return Moved()

    try:
        _as(account, lambda _done: None, job)
    except _Failed as error:
        report.left(Place(str(maildir)), f"it is not made: {error}", f"as {account.pw_name}: maildirmake {maildir}")
        return False
    return True


def _expanded(template: str, account: pwd.struct_passwd) -> Path:
    return Path(template.replace("{user}", account.pw_name).replace("{home}", account.pw_dir))
