"""Sinks as tests and benchmarks hold them: our recording one, and Postfix's smtp-sink, which only counts."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers import sink
from tests.peers.processes import accepts, end, free_port, program, wait_until


@dataclass(frozen=True)
class Received:
    """One message that a sink has taken. ``sender`` and ``recipients`` are as on the wire, with parameters."""

    id: str
    hash: str
    content: bytes
    sender: str
    recipients: tuple[str, ...]
    helo: str
    tls: bool
    when: float

    @property
    def to(self) -> list[str]:
        """The recipients' addresses alone."""
        return [recipient.partition(">")[0].lstrip("<") for recipient in self.recipients]

    def header(self, name: str) -> str:
        """A header field's value; empty if there is none."""
        return sink.header_field(self.content, name.encode())


class Sink:
    """Our recording sink as a process. ``options`` are its command line's, without host, port and record."""

    def __init__(self, record: Path, *options: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.record = record
        self.host = host
        self.port = port or free_port(host)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def route(self) -> str:
        """The sink as the right side of a line in smtproutes."""
        return f"[{self.host}]:{self.port}"

    def start(self, *options: str) -> None:
        """Start, or start again with other options; records go on in the same file."""
        self._options = options or self._options
        place = ["--host", self.host, "--port", str(self.port), "--record", str(self.record)]
        self._process = subprocess.Popen([sys.executable, sink.__file__, *place, *self._options])
        wait_until(lambda: accepts(self.host, self.port), "the sink accepts connections")

    def stop(self) -> None:
        """End the process, with its connections."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def received(self) -> list[Received]:
        """Everything taken so far."""
        if not self.record.exists():
            return []
        entries = [json.loads(line) for line in self.record.read_bytes().split(b"\n")[:-1]]
        return [_received(entry) for entry in entries]

    def wait_for(self, count: int) -> list[Received]:
        """What has been taken, once it is at least ``count`` messages."""
        wait_until(lambda: self._lines() >= count, f"{count} messages at the sink")
        return self.received()

    def _lines(self) -> int:
        return self.record.read_bytes().count(b"\n") if self.record.exists() else 0


def _received(entry: dict[str, Any]) -> Received:
    return Received(
        id=entry["id"],
        hash=entry["hash"],
        content=entry["content"].encode("latin-1"),
        sender=entry["sender"],
        recipients=tuple(entry["recipients"]),
        helo=entry["helo"],
        tls=entry["tls"],
        when=entry["when"],
    )


class CountingSink:
    """Postfix's smtp-sink: far faster than any MTA, and it counts messages."""

    _COUNTER = re.compile(rb"mesg=(\d+)")

    def __init__(self) -> None:
        self.port = free_port()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = [program("smtp-sink"), "-c", "-m", "1000", *user, f"127.0.0.1:{self.port}", "1000"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        fcntl.fcntl(self._output, fcntl.F_SETFL, os.O_NONBLOCK)
        self._tail = b""
        wait_until(lambda: accepts("127.0.0.1", self.port), "smtp-sink accepts connections")

    @property
    def pid(self) -> int:
        """The process, whose time a benchmark may want to know."""
        return self._process.pid

    def count(self) -> int:
        """Messages taken since the start. To be called often: smtp-sink waits when its output is not read."""
        while True:
            try:
                data = os.read(self._output, 1 << 20)
            except BlockingIOError:
                break
            if not data:
                break
            self._tail = (self._tail + data)[-200:]
        counters = self._COUNTER.findall(self._tail)
        return int(counters[-1]) if counters else 0

    def stop(self) -> None:
        """End the process."""
        end(self._process)
        assert self._process.stdout is not None
        self._process.stdout.close()
