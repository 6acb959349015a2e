"""A client that says exactly what it is told to: octets out, replies in."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager


class Dialogue:
    """One connection to ``host``:``port``; the greeting is read already."""

    def __init__(self, port: int, timeout: float = 60, host: str = "127.0.0.1") -> None:
        self.connection: socket.socket = socket.create_connection((host, port), timeout=timeout)
        self._file = self.connection.makefile("rb")
        self.greeting = self.reply()

    def reply(self) -> str:
        """The next reply, its lines joined by newlines; EOFError when the server has hung up."""
        lines = []
        while True:
            line = self._file.readline()
            if not line:
                raise EOFError("the server has closed the connection")
            lines.append(line.decode("latin-1").rstrip("\r\n"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    def send(self, octets: bytes) -> None:
        """Octets as they are."""
        self.connection.sendall(octets)

    def say(self, command: str) -> str:
        """Send a command line and return the reply."""
        self.send(command.encode("latin-1") + b"\r\n")
        return self.reply()

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands; STARTTLS has been answered."""
        self._file.close()
        self.connection = context.wrap_socket(self.connection, server_hostname="localhost")
        self._file = self.connection.makefile("rb")

    def message(self, content: bytes, sender: str, *recipients: str) -> str:
        """A whole transaction; the reply to the first command refused, or to the end of data."""
        for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients)):
            reply = self.say(command)
            if reply[0] != "2":
                return reply
        reply = self.say("DATA")
        if reply[0] != "3":
            return reply
        self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return self.reply()

    def is_over(self) -> bool:
        """Whether the server has hung up, waiting for it as long as the connection's time limit."""
        try:
            return self._file.read(1) == b""
        except (ConnectionError, ssl.SSLError):
            return True

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.connection.close()


@contextmanager
def dialogue(
    port: int, ehlo: str = "client.example", timeout: float = 60, host: str = "127.0.0.1"
) -> Iterator[Dialogue]:
    """A connection that has said EHLO (unless ``ehlo`` is empty), closed afterwards."""
    talk = Dialogue(port, timeout, host)
    try:
        if ehlo:
            talk.say(f"EHLO {ehlo}")
        yield talk
    finally:
        talk.close()
