"""An SMTP server that writes down what it is given: ``python sink.py --port N --record FILE``.

Each message becomes one JSON line, appended in one write before its end of data is answered: a reply that was sent is
a line that is in the file, whatever happens to either side. It imports nothing of ekiden, for it is the witness.
``--reply``, ``--delay`` and ``--hangup`` make it a difficult peer: each names the beginning of a command line, or
``CONNECT`` or ``DOT`` (the end of data), in upper case.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import ssl
import time
from dataclasses import dataclass, field


@dataclass
class Conduct:
    """How the sink behaves: replies, delays in seconds and hang-ups by beginning of command."""

    replies: dict[str, str] = field(default_factory=dict)
    delays: dict[str, float] = field(default_factory=dict)
    hangups: list[str] = field(default_factory=list)
    extensions: list[str] = field(default_factory=list)
    tls: ssl.SSLContext | None = None


def body_hash(content: bytes) -> str:
    """The hash of what follows the header; lines ended by LF, whatever they were ended by on the way."""
    body = content.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    return hashlib.sha256(body.rstrip(b"\n")).hexdigest()


def header_field(content: bytes, name: bytes) -> str:
    """A header field's value, unfolded; empty if there is none."""
    header = content.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    for line in header.replace(b"\n ", b" ").replace(b"\n\t", b" ").split(b"\n"):
        key, colon, value = line.partition(b":")
        if colon and key.strip().lower() == name.lower():
            return value.strip().decode("latin-1")
    return ""


def describe(content: bytes) -> dict[str, object]:
    """What the record says about a content; the content itself is kept unless it is long."""
    return {
        "id": header_field(content, b"Message-ID").strip("<>"),
        "hash": body_hash(content),
        "size": len(content),
        "content": content.decode("latin-1") if len(content) < 100_000 else "",
    }


class Session:
    """One client's session."""

    def __init__(
        self, conduct: Conduct, record: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._conduct = conduct
        self._record = record
        self._reader = reader
        self._writer = writer
        self._encrypted = False
        self._helo = ""
        self._sender: str | None = None
        self._recipients: list[str] = []

    async def serve(self) -> None:
        """Greet, then answer commands until either side ends."""
        try:
            open_still = await self._answer("CONNECT", "220 sink.example ESMTP")
            while open_still:
                line = await self._reader.readline()
                if not line.endswith(b"\n"):
                    break
                open_still = await self._command(line.rstrip(b"\r\n").decode("latin-1"))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            self._writer.close()

    def _find(self, table: dict[str, str] | dict[str, float], line: str) -> str | float | None:
        return next((value for key, value in table.items() if line.upper().startswith(key)), None)

    async def _answer(self, line: str, reply: str) -> bool:
        """Send the reply that the conduct has for this line, or ``reply``; False if the connection is to end."""
        delay = self._find(self._conduct.delays, line)
        if delay is not None:
            await self._writer.drain()
            await asyncio.sleep(float(delay))
        if any(line.upper().startswith(key) for key in self._conduct.hangups):
            return False
        special = self._find(self._conduct.replies, line)
        self._writer.write(f"{special or reply}\r\n".encode("latin-1"))
        await self._writer.drain()
        return not (isinstance(special, str) and special.startswith("421"))

    def _granted(self, line: str) -> bool:
        special = self._find(self._conduct.replies, line)
        return not isinstance(special, str) or special[0] in "23"

    async def _command(self, line: str) -> bool:
        verb = line.split(" ")[0].upper()
        match verb:
            case "EHLO" | "HELO":
                self._helo = line[5:]
                self._sender = None
                return await self._answer(line, self._greeting(verb))
            case "MAIL":
                if self._granted(line):
                    self._sender, self._recipients = line[10:], []
                return await self._answer(line, "250 2.1.0 ok")
            case "RCPT":
                if self._granted(line):
                    self._recipients.append(line[8:])
                return await self._answer(line, "250 2.1.5 ok")
            case "DATA":
                return await self._data()
            case "STARTTLS" if self._conduct.tls and not self._encrypted:
                return await self._start_tls(line)
            case "RSET" | "NOOP":
                self._sender = None if verb == "RSET" else self._sender
                return await self._answer(line, "250 2.0.0 ok")
            case "QUIT":
                await self._answer(line, "221 2.0.0 bye")
                return False
            case _:
                return await self._answer(line, "502 5.5.1 what?")

    def _greeting(self, verb: str) -> str:
        words = ["sink.example"]
        if verb == "EHLO":
            words += self._conduct.extensions
            if self._conduct.tls and not self._encrypted:
                words.append("STARTTLS")
        return "\r\n".join(f"250{'-' if word is not words[-1] else ' '}{word}" for word in words)

    async def _start_tls(self, line: str) -> bool:
        if not await self._answer(line, "220 2.0.0 go ahead"):
            return False
        if self._granted(line):
            assert self._conduct.tls is not None
            await self._writer.start_tls(self._conduct.tls)
            self._encrypted = True
            self._sender = None
        return True

    async def _data(self) -> bool:
        if self._sender is None or not self._recipients:
            return await self._answer("NO TRANSACTION", "503 5.5.1 MAIL and RCPT first")
        if not await self._answer("DATA", "354 go ahead"):
            return False
        if not self._granted("DATA"):
            return True
        lines = []
        while (line := await self._reader.readline()) != b".\r\n":
            if not line.endswith(b"\n"):
                return False
            lines.append(line[1:] if line.startswith(b".") else line)
        if self._granted("DOT"):
            self._write_down(b"".join(lines))
        self._sender = None
        return await self._answer("DOT", "250 2.0.0 ok")

    def _write_down(self, content: bytes) -> None:
        entry = {
            **describe(content),
            "when": time.time(),
            "helo": self._helo,
            "tls": self._encrypted,
            "sender": self._sender,
            "recipients": self._recipients,
        }
        os.write(self._record, json.dumps(entry).encode() + b"\n")


def _pairs(words: list[str]) -> dict[str, str]:
    return {key.upper(): value for key, _, value in (word.partition("=") for word in words)}


def _conduct(options: argparse.Namespace) -> Conduct:
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate)
    return Conduct(
        replies=_pairs(options.reply),
        delays={key: float(value) for key, value in _pairs(options.delay).items()},
        hangups=[word.upper() for word in options.hangup],
        extensions=[word for word in options.extensions.split(",") if word],
        tls=tls,
    )


async def _serve(options: argparse.Namespace) -> None:
    conduct = _conduct(options)
    record = os.open(options.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Session(conduct, record, reader, writer).serve()

    server = await asyncio.start_server(session, options.host, options.port, backlog=1000, limit=1 << 20)
    await server.serve_forever()


def main() -> None:
    """Serve until ended by a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--record", required=True)
    parser.add_argument("--reply", action="append", default=[], metavar="COMMAND=REPLY")
    parser.add_argument("--delay", action="append", default=[], metavar="COMMAND=SECONDS")
    parser.add_argument("--hangup", action="append", default=[], metavar="COMMAND")
    parser.add_argument("--extensions", default="PIPELINING,8BITMIME,SMTPUTF8,ENHANCEDSTATUSCODES,DSN,SIZE 100000000")
    parser.add_argument("--certificate", default="")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
