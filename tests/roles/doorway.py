"""The smtpd role in a process of its own, a stand-in for the queue in another, and a client to talk with."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from ekiden.roles import smtpd
from ekiden.runtime.frames import Accepted, Inject, IntakeRequest, Rejected, SpoolGrant, SpoolRelease, SpoolRequest
from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.runtime.role import Context, run
from ekiden.settings.schema import Listener, Service, Settings

_fork = multiprocessing.get_context("fork")


class Doorway:
    """A home with ``run/intake``; messages that the stand-in took are in ``taken``, one file each."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("run", "control", "taken", "spool"):
            (home / name).mkdir()
        self._processes: list[Any] = []
        self._intake = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._intake.bind(str(home / "run" / "intake"))
        self._intake.listen(16)
        self.port = 0
        self.role: Any = None

    def start_queue(self) -> None:
        """Start the stand-in. It obeys the sender: ``reject@`` and ``die@`` mean what they say."""
        self._start(_serve_queue, self.home, self._intake)

    def start(self, service: Service = "smtp", **settings: Any) -> None:
        """Start the role on a free port."""
        bound = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = bound.getsockname()[1]
        listener = Listener(service, host="127.0.0.1", port=self.port)
        settings.setdefault("smtpdprocesses", 1)
        self.role = self._start(_serve_smtp, self.home, Settings(me=b"mx.example", **settings), listener, bound)
        bound.close()

    def _start(self, target: Any, *arguments: Any) -> Any:
        process = _fork.Process(target=target, args=arguments, daemon=True)
        process.start()
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End everything, and print the log, which pytest shows of tests that fail."""
        for process in self._processes:
            process.kill()
            process.join()
        self._intake.close()
        print(self.log())

    def taken(self) -> list[Inject]:
        """What the queue took, in order, spooled content put in its place."""
        found = []
        for path in sorted((self.home / "taken").iterdir(), key=lambda path: int(path.name)):
            frame = msgspec.msgpack.decode(path.read_bytes(), type=Inject)
            if frame.spool:
                frame = msgspec.structs.replace(frame, content=(self.home / "spool" / frame.spool).read_bytes())
            found.append(frame)
        return found

    def log(self) -> str:
        """What the role has logged."""
        log = self.home / "log"
        return log.read_text() if log.exists() else ""

    def talk(self) -> Talk:
        """A new connection; the greeting is not read yet."""
        return Talk(socket.create_connection(("127.0.0.1", self.port), timeout=60))


class Talk:
    """A client."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._received = b""

    def say(self, data: bytes) -> str:
        """Send octets; the next reply."""
        self.connection.sendall(data)
        return self.reply()

    def reply(self) -> str:
        """The next reply, all its lines; empty at the end of the connection."""
        while True:
            lines = self._received.split(b"\r\n")
            for number, line in enumerate(lines[:-1]):
                if line[3:4] != b"-":
                    self._received = b"\r\n".join(lines[number + 1 :])
                    return "\n".join(each.decode() for each in lines[: number + 1])
            try:
                data = self.connection.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return ""
            self._received += data

    def rest(self) -> str:
        """Everything until the server closes."""
        replies = []
        while reply := self.reply():
            replies.append(reply)
        return "\n".join(replies)

    def message(self, content: bytes, sender: str = "a@b.example", recipient: str = "c@d.example") -> str:
        """A whole transaction, content stuffed and with its last CRLF; the reply to it."""
        for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            reply = self.say(command.encode() + b"\r\n")
            if reply[0] not in "23":
                return reply
        return self.say(content + b".\r\n")


@contextlib.contextmanager
def doorway(home: Path) -> Iterator[Doorway]:
    """A doorway that is ended at the end."""
    made = Doorway(home)
    try:
        yield made
    finally:
        made.stop()


def wait_for(condition: Any) -> None:
    """Until ``condition()`` is true."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _serve_smtp(home: Path, settings: Settings, listener: Listener, bound: socket.socket) -> None:
    log = os.open(home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    directory = os.open(home / "run", os.O_PATH | os.O_DIRECTORY)
    context = Context(home, settings, Log("smtpd", log), listeners=((listener, bound),), run=directory)
    run(context, smtpd.main)


def _serve_queue(home: Path, listening: socket.socket) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        while True:
            connection, _ = await loop.sock_accept(listening)
            _StandIn(loop, home, connection)

    uvloop.run(serve())


class _StandIn:
    def __init__(self, loop: asyncio.AbstractEventLoop, home: Path, connection: socket.socket) -> None:
        self._home = home
        self._link: Link[IntakeRequest] = Link(
            loop, connection, msgspec.msgpack.Decoder(IntakeRequest), self._take, lambda _reason: None
        )

    def _take(self, frame: IntakeRequest, _descriptor: int | None) -> None:
        if isinstance(frame, SpoolRequest):
            name = f"s{frame.token}"
            descriptor = os.open(self._home / "spool" / name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            self._link.send(SpoolGrant(frame.token, name), descriptor)
        elif isinstance(frame, SpoolRelease):
            (self._home / "spool" / frame.spool).unlink()
        else:
            self._inject(frame)

    def _inject(self, frame: Inject) -> None:
        if frame.envelope.sender.startswith(b"die@"):
            os._exit(1)
        if frame.envelope.sender.startswith(b"reject@"):
            self._link.send(Rejected(frame.token, 452, "4.3.1", "no room"))
            return
        number = len(os.listdir(self._home / "taken")) + 1
        (self._home / "taken" / str(number)).write_bytes(msgspec.msgpack.encode(frame))
        self._link.send(Accepted(frame.token, number))
