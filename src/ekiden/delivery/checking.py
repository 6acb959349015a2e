"""What keeps mail from being delivered here, said before any comes: the part of ``ekiden check`` about users.

Looks at users/assign and its compiled form, at the alias user, and at the homes and .qmail files of ``alias``, of the
users that users/assign names, and of one address if asked. Nothing is opened that a user could make block.
Source: qmail-users(5), dot-qmail(5), qmail-getpw(8).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ekiden.delivery.checking_lines import READ, closed_to, line_problems, may, name_of
from ekiden.delivery.report import Trouble
from ekiden.delivery.search import FORBIDDEN_MODE, find
from ekiden.routing.users import ALIAS, User, Users, UsersUnavailable, assigned, system_account
from ekiden.settings.problem import Problem
from ekiden.tables.cdb import Cdb
from ekiden.tables.table import TableError

_FIELDS = 7
_DIGITS = 10
_OCTETS = 1 << 20


def users_problems(home: Path, default: bytes = b"") -> list[Problem]:
    """Everything doubtful about the home's users; fatal is what keeps users/assign from being compiled.

    ``default`` is the default delivery's instructions, empty if they are not known.
    """
    users, found = assignments(home)
    found += _compiled(home)
    try:
        alias = Users(home).alias(b"")
    except UsersUnavailable as error:
        found.append(_warning(str(home / "alias"), str(error), "make the directory, owned by the user alias"))
    else:
        users.append(alias)
        if not alias.uid:
            message = "there is no user alias, and root, whose directory this is, gets no mail delivered"
            found.append(_warning(str(home / "alias"), message, "add the user, or give the directory to another"))
    for user in {(user.home, user.uid): user for user in users}.values():
        found += home_problems(user, default)
    return found


def address_problems(home: Path, local: bytes, default: bytes = b"") -> tuple[User, list[Problem]]:
    """Who controls a local part, and what is wrong there. Raises UsersUnavailable."""
    user = Users(home).find(local)
    found = list(_passed_over(user, local)) + list(home_problems(user, default))
    try:
        is_nobodys = bool(user.dash) and find(user.home, user.dash, user.ext) is None
    except Trouble:
        is_nobodys = False  # said of the file
    if is_nobodys:
        name = os.fsdecode(user.dash + user.ext)
        message = f"there is neither .qmail{name} nor a .qmail{os.fsdecode(user.dash)}default, so that mail bounces"
        found.append(_warning(os.fsdecode(user.home), message, "make one of them"))
    return user, found


def _passed_over(user: User, local: bytes) -> Iterator[Problem]:
    """An account that is no mail user, so that its mail goes to alias."""
    account = system_account(local.lower())
    if account is None or user.name != ALIAS or account.name == ALIAS:
        return
    place = os.fsdecode(account.home)
    try:
        owner = os.stat(account.home).st_uid
    except OSError as error:
        why, remedy = f"home cannot be looked at: {error.strerror}", "make it"
    else:
        why, remedy = f"home belongs to uid {owner}, not to uid {account.uid}", f"chown {account.uid} {place}"
    if not account.uid:
        why, remedy = "uid is 0", "forward the mail in alias's .qmail file"
    name = os.fsdecode(account.name)
    yield _warning(place, f"the account {name} gets no mail, and alias does, because its {why}", remedy)


def assignments(home: Path) -> tuple[list[User], list[Problem]]:
    """The users that users/assign names, and what qmail-newu will not take."""
    try:
        lines = (home / "users" / "assign").read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [_bad(0, f"cannot be read: {error.strerror}", "make it readable")]
    users: list[User] = []
    found: list[Problem] = []
    known: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith(b"."):
            return users, found
        if number == len(lines) and not line:
            break
        user, reason = _assignment(line)
        if user is not None:
            users.append(user)
        if reason:
            found.append(_bad(number, reason, "the form is =local:user:uid:gid:homedir:dash:ext:"))
        first = known.setdefault(line.partition(b":")[0].lower(), number)
        if user is not None and first != number:
            message = f"this is assigned on line {first}, which counts"
            found.append(_warning("users/assign", message, "remove one of them", number))
    found.append(_bad(0, "does not end with a line that holds a dot", "add the line, so that nothing is cut off"))
    return users, found


def _assignment(line: bytes) -> tuple[User | None, str]:
    fields = line.split(b":")
    if len(fields) <= _FIELDS or not fields[0]:
        return None, "this is no assignment"
    if b"\0" in line:
        return None, "the line holds a NUL"
    if line[:1] not in b"=+":
        return None, "the line begins with neither = nor +"
    name, uid, gid, place, dash, ext = fields[1:_FIELDS]
    if not all(text.isdigit() and len(text) <= _DIGITS for text in (uid, gid)):
        return None, "uid or gid is not a number"
    if not int(uid):
        return None, "uid 0: mail is never delivered as root"
    if not place.startswith(b"/"):
        return None, "the home is not an absolute path"
    return User(name, int(uid), int(gid), place, dash, ext), ""


def _compiled(home: Path) -> Iterator[Problem]:
    """users/cdb is what counts."""
    assign, compiled = (_changed(home / "users" / name) for name in ("assign", "cdb"))
    if assign is not None and compiled is None:
        yield _warning("users/assign", "is not compiled, so that it has no effect", "run qmail-newu")
    elif assign is None and compiled is not None:
        yield _warning("users/cdb", "has no users/assign beside it", "remove it, or write users/assign")
    elif assign is not None and compiled is not None and compiled < assign:
        yield _warning("users/cdb", "is older than users/assign", "run qmail-newu")
    if compiled is not None:
        try:
            assigned(b"", Cdb(home / "users" / "cdb").get)
        except (TableError, UsersUnavailable) as error:
            yield _warning("users/cdb", f"is damaged, which defers all local mail: {error}", "run qmail-newu")


def home_problems(user: User, default: bytes = b"") -> Iterator[Problem]:
    """What is wrong with a user's home and the .qmail files in it."""
    place = os.fsdecode(user.home)
    try:
        status = os.stat(user.home)
    except OSError as error:
        yield _warning(place, f"the home of {name_of(user)}: {error.strerror}", "make it, or correct users/assign")
        return
    if not stat.S_ISDIR(status.st_mode):
        yield _warning(place, f"the home of {name_of(user)} is no directory", "make it one")
        return
    yield from _modes(place, status, user, "home")
    if status.st_mode & stat.S_ISVTX:
        yield _warning(place, "is sticky, which defers all mail", f"when .qmail is edited: chmod -t {place}")
    closed = closed_to(user, user.home + b"/")
    if closed:
        message = f"{name_of(user)} cannot reach his home, which defers all mail, because {closed} is closed to him"
        yield _warning(place, message, f"chmod {'u' if closed == place else 'o'}+x {closed}")
    try:
        names = sorted(name for name in os.listdir(user.home) if name.startswith(b".qmail"))
    except OSError as error:
        yield _warning(place, f"cannot be listed: {error.strerror}")
        return
    for name in names:
        yield from _name_problems(user.home, name)
        yield from _file_problems(os.path.join(user.home, name), user)
    if b".qmail" not in names and user.name != ALIAS:
        yield from _default_problems(user, default)


def _name_problems(home: bytes, name: bytes) -> Iterator[Problem]:
    looked_up = name[:7] + name[7:].lower().replace(b".", b":")
    if name[:7] == b".qmail-" and name != looked_up:
        message = "is never looked at: extensions are looked up in lower case, with colons for dots"
        path = os.fsdecode(os.path.join(home, name))
        yield _warning(path, message, f"mv {path} {os.fsdecode(looked_up)}")


def _default_problems(user: User, default: bytes) -> Iterator[Problem]:
    """What the default delivery, which a user without .qmail gets, finds in the home."""
    for problem in line_problems("", default, False, user) if default else ():
        text = f"without .qmail the default delivery is made here, and {problem.message}"
        yield _warning(os.fsdecode(user.home), text, problem.remedy)
    forward = os.path.join(user.home, b".forward")
    if default and b"forward" not in default and os.path.exists(forward):
        remedy = f"write |dot-forward .forward and the default delivery into {os.fsdecode(user.home)}/.qmail"
        yield _warning(os.fsdecode(forward), "has no effect", remedy)


def _modes(path: str, status: os.stat_result, user: User, what: str) -> Iterator[Problem]:
    if status.st_uid not in (user.uid, 0):
        yield _warning(path, f"belongs to uid {status.st_uid}, not to {name_of(user)}", f"chown {user.uid} {path}")
    if status.st_mode & FORBIDDEN_MODE:
        yield _warning(path, "is writable by others, which defers all mail", f"chmod o-w {path}")
    elif status.st_mode & 0o020:
        yield _warning(path, f"is writable by its group, which then controls the {what}", f"chmod g-w {path}")


def _file_problems(path: bytes, user: User) -> Iterator[Problem]:
    shown = os.fsdecode(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        yield _warning(shown, f"cannot be read: {error.strerror}")
        return
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            yield _warning(shown, "is no file, and is passed over", "remove it")
            return
        text = os.read(descriptor, _OCTETS)
    finally:
        os.close(descriptor)
    yield from _modes(shown, status, user, "mail")
    if not may(user, status, READ):
        yield _warning(shown, f"cannot be read by {name_of(user)}, which defers all mail", f"chmod 644 {shown}")
    if text:
        yield from line_problems(shown, text, bool(status.st_mode & stat.S_IXUSR), user)


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _bad(line: int, message: str, remedy: str) -> Problem:
    return Problem(file="users/assign", line=line, message=message, remedy=remedy)


def _warning(file: str, message: str, remedy: str = "", line: int = 0) -> Problem:
    return Problem(file=file, line=line, message=message, remedy=remedy, fatal=False)
