"""qmail-lspawn: local deliveries for qmail-send: commands on descriptor 0, results on descriptor 1 (qmail-lspawn.8).

A command is an octet (the delivery's number), then message file below queue/mess, sender and recipient, each ended by
NUL; a result is the number, a report and NUL. The first octet ever written says how many deliveries can run at once.
Each delivery runs qmail-local in a process that became the recipient's user. Ends when descriptor 0 has ended and
all results are written.
"""

from __future__ import annotations

import os
import re
import select
import signal
import stat
from collections.abc import Sequence
from pathlib import Path

import ekiden.base.dates
from ekiden.delivery.report import cut
from ekiden.programs import qmail_local
from ekiden.routing.users import User, Users, UsersUnavailable

DELIVERIES = 120
"""notqmail's conf-spawn."""

_HARD = b"D"
_SOFT_CODES = frozenset({111, 71, 74, 75})
_LETTERS = {0: b"K"} | dict.fromkeys(_SOFT_CODES, b"Z")


NEEDED = (re, signal, ekiden.base.dates)
"""What deliveries import when they need it: a recipient's user may not be able to read our files."""


class Refused(Exception):
    """A command that is not carried out; the text is the report, its letter first."""


def main(argv: Sequence[str], home: Path) -> int:
    """Takes the default delivery instructions."""
    if not argv:
        return 100
    os.umask(0o077)
    os.write(1, bytes((DELIVERIES,)))
    Spawner(argv[0], home).serve()
    return 0


class Spawner:
    """The deliveries that run: by the pipe that their output comes from."""

    def __init__(self, default: str, home: Path) -> None:
        self._default = default
        self._home = home
        self._messages = home / "queue" / "mess"
        self._users = Users(home)
        self._running: dict[int, tuple[int, int, bytes]] = {}

    def serve(self) -> None:
        poll = select.poll()
        poll.register(0, select.POLLIN)
        commands: bytes | None = b""
        while commands is not None or self._running:
            for descriptor, _event in poll.poll():
                if descriptor:
                    if not self._collect(descriptor):
                        poll.unregister(descriptor)
                        self._finish(descriptor)
                elif data := os.read(0, 65536):
                    commands = self._commands((commands or b"") + data, poll)
                else:
                    commands = None
                    poll.unregister(0)

    def _commands(self, data: bytes, poll: select.poll) -> bytes:
        """Start what is complete; the rest."""
        while data.count(b"\0", 1) >= 3:
            number, rest = data[0], data[1:]
            message, sender, recipient, data = rest.split(b"\0", 3)
            try:
                poll.register(self._start(number, message, sender, recipient), select.POLLIN)
            except Refused as refused:
                _report(number, str(refused).encode())
        return data

    def _start(self, number: int, message: bytes, sender: bytes, recipient: bytes) -> int:
        local, at, domain = recipient.rpartition(b"@")
        if number >= DELIVERIES or any(number == other for other, _pid, _output in self._running.values()):
            raise Refused("ZInternal error: this delivery number cannot be used now. (#4.3.5)\n")
        if not message or message.translate(None, b"0123456789/") or message.startswith(b"/"):
            raise Refused("DInternal error: this cannot be the name of a message. (#5.3.5)\n")
        if not at:
            raise Refused("DSorry, address must include host name. (#5.1.3)\n")
        try:
            user = self._users.find(local) if local else None
            content = self._open(message)
            reading, writing = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
        except UsersUnavailable as error:
            raise Refused(f"Z{error}\n") from None
        except OSError as error:
            raise Refused(f"ZUnable to start a delivery: {error.strerror}. (#4.3.0)\n") from None
        if not pid:
            self._deliver(content, writing, user, local, domain, sender)
        os.close(content)
        os.close(writing)
        self._running[reading] = (number, pid, b"")
        return reading

    def _open(self, message: bytes) -> int:
        """The message's file, which must be the queue's."""
        descriptor = os.open(os.fsencode(self._messages) + b"/" + message, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != self._messages.stat().st_uid:
            os.close(descriptor)
            raise Refused("ZSorry, this is not a message of the queue. (#4.3.5)\n")
        return descriptor

    def _deliver(
        self, content: int, output: int, user: User | None, local: bytes, domain: bytes, sender: bytes
    ) -> None:
        """In the child: become the user and run qmail-local."""
        code = 111
        try:
            os.dup2(content, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            if user is None:
                code = 0
                return
            if os.geteuid() == 0:
                os.setgroups([user.gid])
                os.setresgid(user.gid, user.gid, user.gid)
                os.setresuid(user.uid, user.uid, user.uid)
            fields = (user.name, user.home, local, user.dash, user.ext, domain, sender)
            code = qmail_local.main(["--", *map(os.fsdecode, fields), self._default], self._home)
        except BaseException as error:
            os.write(2, f"Unable to deliver: {error}. (#4.3.0)\n".encode("utf-8", "replace"))
        finally:
            os._exit(code)

    def _collect(self, descriptor: int) -> bool:
        data = os.read(descriptor, 65536)
        number, pid, output = self._running[descriptor]
        self._running[descriptor] = (number, pid, cut(output + data) if len(output) < 65536 else output)
        return bool(data)

    def _finish(self, descriptor: int) -> None:
        number, pid, output = self._running.pop(descriptor)
        os.close(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code < 0:
            _report(number, b"Zqmail-local crashed.\n")
        else:
            _report(number, _LETTERS.get(code, _HARD) + output)


def _report(number: int, text: bytes) -> None:
    data = bytes((number,)) + text + b"\0"
    while data:
        data = data[os.write(1, data) :]
