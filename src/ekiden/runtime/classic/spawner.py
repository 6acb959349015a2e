"""The half of qmail-lspawn and qmail-rspawn that they share: commands in, deliveries beside each other, reports out.

A command on descriptor 0 is an octet (the delivery's number), then a message's file below queue/mess, sender and
recipient, each ended by NUL; a report on descriptor 1 is the number, text and NUL. The first octet ever written says
how many deliveries can run at once. ``serve`` returns when descriptor 0 has ended, or says something that is too long
for a command, and all deliveries have ended.
"""

from __future__ import annotations

import os
import re
import select
import stat
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

DELIVERIES = 120
"""notqmail's conf-spawn."""

OUTPUT = 65_536
"""Octets of a delivery's output that are kept, half of them its last: what came of it may stand at the end."""


COMMAND_OCTETS = 8192
"""Octets of the longest command; qmail-queue takes addresses of a thousand."""

_COMMAND = re.compile(rb"(.)([^\0]*)\0([^\0]*)\0([^\0]*)\0", re.DOTALL)


class Refused(Exception):
    """A command that is not carried out; the text is the report, its letter first."""


class Spawner:
    """The deliveries that run: number, process and output by the pipe that the output comes from."""

    def __init__(self, home: str) -> None:
        self._messages = Path(home, "queue", "mess")
        self._running: dict[int, tuple[int, int, bytes]] = {}
        self._listened_to = True

    def work(self, message: int, output: int, sender: bytes, local: bytes, domain: bytes) -> NoReturn:
        """In a new process: deliver the open file ``message``, write to ``output``, and exit."""
        raise NotImplementedError

    def report(self, code: int, output: bytes) -> bytes:
        """The report on a delivery that exited with ``code``, the negative of a signal's number if one ended it."""
        raise NotImplementedError

    def look_up(self, local: bytes) -> None:
        """What can be refused before a process is made; raises ``Refused``."""

    def serve(self) -> None:
        """Carry out commands to their end."""
        self._write(bytes((DELIVERIES,)))
        poll = select.poll()
        poll.register(0, select.POLLIN)
        commands: bytes | None = b""
        while commands is not None or self._running:
            for descriptor, _event in poll.poll():
                if descriptor:
                    if not self._collect(descriptor):
                        poll.unregister(descriptor)
                        self._finish(descriptor)
                elif (data := os.read(0, OUTPUT)) and len(commands or b"") <= COMMAND_OCTETS:
                    commands = self._commands((commands or b"") + data, poll)
                else:
                    commands = None
                    poll.unregister(0)

    def _commands(self, data: bytes, poll: select.poll) -> bytes:
        """Start what is complete; the rest."""
        begin = 0
        while found := _COMMAND.match(data, begin):
            number, message, sender, recipient = found.groups()
            begin = found.end()
            try:
                poll.register(self._start(number[0], message, sender, recipient), select.POLLIN)
            except Refused as refused:
                self._answer(number[0], str(refused).encode())
        return data[begin:]

    def _start(self, number: int, message: bytes, sender: bytes, recipient: bytes) -> int:
        local, at, domain = recipient.rpartition(b"@")
        if number >= DELIVERIES or any(number == other for other, _pid, _output in self._running.values()):
            raise Refused("ZInternal error: this delivery number cannot be used now. (#4.3.5)\n")
        if not message or message.translate(None, b"0123456789/") or message.startswith(b"/"):
            raise Refused("DInternal error: this cannot be the name of a message. (#5.3.5)\n")
        if not at:
            raise Refused("DSorry, address must include host name. (#5.1.3)\n")
        self.look_up(local)
        try:
            content = self._open(message)
            reading, writing = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
        except OSError as error:
            raise Refused(f"ZUnable to start a delivery: {error.strerror}. (#4.3.0)\n") from None
        if not pid:
            os.dup2(content, 0)
            self.work(content, writing, sender, local, domain)
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

    def _collect(self, descriptor: int) -> bool:
        data = os.read(descriptor, OUTPUT)
        number, pid, output = self._running[descriptor]
        output += data
        if len(output) > OUTPUT:
            output = output[: OUTPUT // 2] + output[-OUTPUT // 2 :]
        self._running[descriptor] = (number, pid, output)
        return bool(data)

    def _finish(self, descriptor: int) -> None:
        number, pid, output = self._running.pop(descriptor)
        os.close(descriptor)
        self._answer(number, self.report(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output))

    def _answer(self, number: int, text: bytes) -> None:
        self._write(bytes((number,)) + text.replace(b"\0", b"\n") + b"\0")

    def _write(self, data: bytes) -> None:
        """Without a reader the deliveries that run are still finished, as in qmail."""
        try:
            while data and self._listened_to:
                data = data[os.write(1, data) :]
        except BrokenPipeError:
            self._listened_to = False
