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

from ekiden.delivery import dotqmail
from ekiden.delivery.search import FORBIDDEN_MODE
from ekiden.routing.users import User, Users, UsersUnavailable
from ekiden.settings.problem import Problem

_FIELDS = 7
_OCTETS = 1 << 20


def users_problems(home: Path) -> list[Problem]:
    """Everything doubtful about the home's users; fatal is what keeps users/assign from being compiled."""
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
        found += home_problems(user)
    return found


def address_problems(home: Path, local: bytes) -> tuple[User, list[Problem]]:
    """Who controls a local part, and what is wrong there. Raises UsersUnavailable."""
    user = Users(home).find(local)
    return user, list(home_problems(user))


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
    if not uid.isdigit() or not gid.isdigit():
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


def home_problems(user: User) -> Iterator[Problem]:
    """What is wrong with a user's home and the .qmail files in it."""
    place = os.fsdecode(user.home)
    try:
        status = os.stat(user.home)
    except OSError as error:
        yield _warning(place, f"the home of {_name(user)}: {error.strerror}", "make it, or correct users/assign")
        return
    if not stat.S_ISDIR(status.st_mode):
        yield _warning(place, f"the home of {_name(user)} is no directory", "make it one")
        return
    yield from _modes(place, status, user, "home")
    if status.st_mode & stat.S_ISVTX:
        yield _warning(place, "is sticky, which defers all mail", f"when .qmail is edited: chmod -t {place}")
    try:
        names = sorted(name for name in os.listdir(user.home) if name.startswith(b".qmail"))
    except OSError as error:
        yield _warning(place, f"cannot be listed: {error.strerror}")
        return
    for name in names:
        yield from _file_problems(os.path.join(user.home, name), user)


def _modes(path: str, status: os.stat_result, user: User, what: str) -> Iterator[Problem]:
    if status.st_uid not in (user.uid, 0):
        yield _warning(path, f"belongs to uid {status.st_uid}, not to {_name(user)}", f"chown {user.uid} {path}")
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
    if not _may_read(status, user):
        yield _warning(shown, f"cannot be read by {_name(user)}, which defers all mail", f"chmod 644 {shown}")
    if text:
        yield from _line_problems(shown, text, bool(status.st_mode & stat.S_IXUSR), user)


def _may_read(status: os.stat_result, user: User) -> bool:
    if status.st_uid == user.uid:
        return bool(status.st_mode & 0o400)
    return bool(status.st_mode & (0o040 if status.st_gid == user.gid else 0o004))


def _line_problems(path: str, text: bytes, forward_only: bool, user: User) -> Iterator[Problem]:
    """Each line on its own, with what the lines above say of it."""
    for number, line in enumerate(text.removesuffix(b"\n").split(b"\n"), 1):
        line = line.partition(b"\0")[0].rstrip(b" \t")
        if line == b"+list":
            forward_only = True
        if not line and number > 1:
            continue
        for instruction in dotqmail.parse(line, forward_only):
            message, remedy = _doubt(instruction, user)
            if message:
                yield _warning(path, message, remedy, number)


def _doubt(instruction: dotqmail.Instruction, user: User) -> tuple[str, str]:
    """What is wrong with an instruction, and what to do; empty if nothing is."""
    text = instruction.text
    if instruction.kind == dotqmail.REFUSE:
        return text.decode("utf-8", "replace").partition(" (#")[0], "every message is deferred; change the line"
    if instruction.kind == dotqmail.FORWARD:
        if any(octet in text for octet in b" \t<>,()\r"):
            return "this is no bare address", "write one address a line, without spaces, brackets and comments"
        if not text:
            return "this forwards to nobody", "write an address after the &"
    elif instruction.kind == dotqmail.PROGRAM:
        if not text.strip():
            return "this runs nothing", "write a command after the bar"
    else:
        path = os.path.join(user.home, text)
        if instruction.kind == dotqmail.MAILDIR and not os.path.isdir(os.path.join(path, b"new")):
            return "there is no such Maildir, so that mail is deferred", f"maildirmake {os.fsdecode(path)}"
        if instruction.kind == dotqmail.MBOX and os.path.isdir(path):
            return "this is a directory, so that mail is deferred", "a Maildir's name ends with a slash"
    return "", ""


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _name(user: User) -> str:
    return f"{os.fsdecode(user.name)} (uid {user.uid})"


def _bad(line: int, message: str, remedy: str) -> Problem:
    return Problem(file="users/assign", line=line, message=message, remedy=remedy)


def _warning(file: str, message: str, remedy: str = "", line: int = 0) -> Problem:
    return Problem(file=file, line=line, message=message, remedy=remedy, fatal=False)
