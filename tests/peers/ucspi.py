"""ekiden's ucspi-tcp programs and Debian's, run in the same way, so that what they do can be compared."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.peers.ekiden import COMMAND
from tests.peers.processes import end, program

CHILD = ("sh", "-c", "env | grep -E '^(PROTO|TCP|SSL|RELAYCLIENT|A=)' | sort")
"""Tells its client what it sees of the connection."""

OURS, THEIRS = "ours", "theirs"

_PID = re.compile(r"\b(pid|ok|deny|end) \d+|^\d+(?= [<>] )", re.MULTILINE)


def command(side: str, name: str) -> list[str]:
    """The beginning of a command line."""
    return [str(COMMAND), name] if side == OURS else [program(name)]


def own_address(last: int) -> str:
    """A loopback address that no other test process uses; ``last`` is 0 to 3."""
    number = (os.getpid() << 2 | last) & 0xFFFFFF
    return f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def environment(**variables: str) -> dict[str, str]:
    """A plain environment with these variables."""
    return {"PATH": os.environ["PATH"], **variables}


def run(side: str, name: str, *arguments: str, data: bytes = b"", **variables: str) -> tuple[int, bytes, str]:
    """Exit code, standard output and masked standard error of a program."""
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            [*command(side, name), *arguments],
            input=data,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(**variables),
            timeout=60,
        )
        errors.seek(0)
        return done.returncode, done.stdout, mask(errors.read().decode())


def mask(text: str, **numbers: int) -> str:
    """A log without what differs from run to run: process numbers, and these numbers by name."""
    for name, number in numbers.items():
        text = re.sub(rf"\b{number}\b", name, text)
    return _PID.sub(lambda match: f"{match[1] or ''} PID".strip(), text)


@dataclass
class Server:
    """A running tcpserver; its answers and its log have names in place of ports."""

    side: str
    options: Sequence[str]
    child: Sequence[str] = CHILD
    host: str = "127.0.0.1"
    variables: dict[str, str] = field(default_factory=dict)
    name: str = "tcpserver"

    def __enter__(self) -> Server:
        # Read by name: a shared position would move under the writers.
        self._log = tempfile.NamedTemporaryFile("ab")
        self.process = subprocess.Popen(
            [*command(self.side, self.name), "-1", *self.options, self.host, "0", *self.child],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(**self.variables),
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.numbers = {"SERVER": self.port}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self.process)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()

    def connect(self, source: str = "") -> socket.socket:
        """A client's connection."""
        here = (source, 0) if source else None
        there = {"0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        connection = socket.create_connection((there, self.port), 30, here)
        self.numbers[f"CLIENT{len(self.numbers)}"] = connection.getsockname()[1]
        return connection

    def answer(self, source: str = "") -> str:
        """All that a client is told that says nothing."""
        with self.connect(source) as connection:
            return mask(everything(connection), **self.numbers)

    def log(self, last: str = "", times: int = 1) -> str:
        """The log, once it ends with that and has it so often."""
        deadline = time.monotonic() + 60
        while True:
            text = mask(Path(self._log.name).read_text(), **self.numbers)
            if text.endswith(last) and text.count(last) >= times:
                return text
            assert time.monotonic() < deadline, text
            time.sleep(0.01)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def everything(connection: socket.socket) -> str:
    """What comes until the end of the connection."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pieces.append(b"(reset)")
    return b"".join(pieces).decode(errors="replace")


def compile_rules(directory: Path, text: str) -> str:
    """The path of compiled tcp rules."""
    path = directory / "rules.cdb"
    arguments = [str(path), str(directory / "rules.tmp")]
    subprocess.run([shutil.which("tcprules") or "tcprules", *arguments], input=text.encode(), check=True)
    return str(path)
