"""What is wrong with the lines of a .qmail file, before mail comes: the part of ``ekiden check`` about instructions.

Judged by owners and modes as the user would be, without becoming him; nothing is opened. Source: dot-qmail(5).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from ekiden.delivery import dotqmail
from ekiden.delivery.instruction import Instruction
from ekiden.routing.users import User
from ekiden.settings.problem import Problem

READ, WRITE, SEARCH = 4, 2, 1

_PLAIN_PATH = re.compile(rb"\s*([\w./+-]*/[\w./+-]*)(?=\s|$)")
_MARK = b"\xef\xbb\xbf"


def line_problems(path: str, text: bytes, forward_only: bool, user: User) -> Iterator[Problem]:
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
                yield Problem(file=path, line=number, message=message, remedy=remedy, fatal=False)


def may(user: User, status: os.stat_result, what: int) -> bool:
    """Whether the user may do it, with no groups but his own, as deliveries are made."""
    if status.st_uid == user.uid:
        return status.st_mode >> 6 & what == what
    return status.st_mode >> (3 if status.st_gid == user.gid else 0) & what == what


def closed_to(user: User, path: bytes) -> str:
    """The first directory on the way to ``path`` that the user may not search; empty if the way is open."""
    for at in (at for at, octet in enumerate(path) if octet == ord("/")):
        directory = path[:at] or b"/"
        try:
            if not may(user, os.stat(directory), SEARCH):
                return os.fsdecode(directory)
        except OSError:
            break
    return ""


def _doubt(instruction: Instruction, user: User) -> tuple[str, str]:
    """What is wrong with an instruction, and what to do; empty if nothing is."""
    text = instruction.text
    if instruction.kind == dotqmail.REFUSE:
        return text.decode("utf-8", "replace").partition(" (#")[0], "every message is deferred; change the line"
    if text.endswith(b"\r"):
        return "the line ends with a carriage return, which counts as part of it", "end lines with a newline alone"
    if instruction.kind == dotqmail.FORWARD:
        return _doubtful_address(text)
    if instruction.kind == dotqmail.PROGRAM:
        return _doubtful_command(text, user)
    path = os.path.join(user.home, text)
    return (_doubtful_maildir if instruction.kind == dotqmail.MAILDIR else _doubtful_mbox)(path, user)


def _doubtful_address(text: bytes) -> tuple[str, str]:
    if not text:
        return "this forwards to nobody", "write an address after the &"
    if text.startswith(_MARK):
        return "the file begins with a byte order mark, which counts as part of the line", "save it without"
    if text[:1] in b'"\\:~' or (b"/" in text and b"@" not in text):
        remedy = "a file's name begins with . or /, a command with |; sendmail's forms are dot-forward's"
        return "this is taken for an address, and looks like none", remedy
    if any(octet in text for octet in b" \t<>,()\r"):
        return "this is no bare address", "write one address a line, without spaces, brackets and comments"
    return "", ""


def _doubtful_command(text: bytes, user: User) -> tuple[str, str]:
    if not text.strip():
        return "this runs nothing", "write a command after the bar"
    found = _PLAIN_PATH.match(text)
    if found is None:
        return "", ""
    path = os.path.join(user.home, found[1])
    shown = os.fsdecode(path)
    try:
        status = os.stat(path)
    except OSError as error:
        return f"{shown} cannot be run, so that mail is deferred: {error.strerror}", "correct the path"
    if stat.S_ISDIR(status.st_mode) or not may(user, status, SEARCH) or closed_to(user, path):
        return f"{shown} cannot be run by {name_of(user)}, so that mail is deferred", f"chmod a+rx {shown}"
    return "", ""


def _doubtful_maildir(path: bytes, user: User) -> tuple[str, str]:
    shown = os.fsdecode(path)
    if not os.path.isdir(os.path.join(path, b"new")):
        return "there is no such Maildir, so that mail is deferred", f"maildirmake {shown}"
    for part in (b"tmp", b"new", b"cur"):
        try:
            status = os.stat(os.path.join(path, part))
        except OSError:
            name = os.path.join(shown, part.decode())
            harm = "which mail readers need" if part == b"cur" else "so that mail is deferred"
            return f"the Maildir has no {part.decode()}, {harm}", f"mkdir {name}; chown {user.uid} {name}"
        if not may(user, status, WRITE | SEARCH):
            return f"{name_of(user)} may not write to {part.decode()} of this Maildir", f"chown -R {user.uid} {shown}"
    return _doubtful_way(path, user)


def _doubtful_mbox(path: bytes, user: User) -> tuple[str, str]:
    shown = os.fsdecode(path)
    directory = os.path.dirname(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        try:
            where = os.stat(directory)
        except OSError:
            return (
                "the directory of this file is not there, so that mail is deferred",
                f"mkdir {os.fsdecode(directory)}",
            )
        if not may(user, where, WRITE | SEARCH):
            return f"{name_of(user)} may not make this file", f"make it: touch {shown}; chown {user.uid} {shown}"
        return _doubtful_way(path, user)
    except OSError as error:
        return f"this cannot be looked at: {error.strerror}", ""
    if stat.S_ISDIR(status.st_mode):
        return "this is a directory, so that mail is deferred", "a Maildir's name ends with a slash"
    if not may(user, status, READ | WRITE) and stat.S_ISREG(status.st_mode):
        return f"{name_of(user)} may not write to this file", f"chown {user.uid} {shown}; chmod u+rw {shown}"
    return _doubtful_way(path, user)


def _doubtful_way(path: bytes, user: User) -> tuple[str, str]:
    closed = closed_to(user, path)
    if closed:
        return f"{name_of(user)} cannot reach this, because {closed} is closed", f"chmod o+x {closed}"
    return "", ""


def name_of(user: User) -> str:
    """For messages."""
    return f"{os.fsdecode(user.name)} (uid {user.uid})"
