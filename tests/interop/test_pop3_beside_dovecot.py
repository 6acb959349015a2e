"""The same Maildir read through ekiden and through Dovecot: the same numbers and the same octets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.dovecot import Pop3Dovecot
from tests.peers.ekiden import NOBODY, Ekiden
from tests.peers.processes import free_port

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.getuid() != 0, reason="Dovecot needs root")]

_CONTENTS = (
    b"Subject: plain\n\nbody\n",
    b"Subject: dots\n\n.\n..\n.dot\n \n.\n",
    b"Subject: carriage returns\r\n\r\nbody\r\n.\r\nmore\r\n",
    b"Subject: mixed\r\n\nbody\r\nmore\n",
    b"Subject: header only\n",
    b"Subject: header and an empty line\n\n",
    b"\nno header\n",
    b"Subject: octets\n\n\xff\xfe\xe9\n\tand a tab\n",
    b"Subject: long lines\n\n" + b"x" * 5000 + b"\n" + b"." * 5000 + b"\n",
    b"Subject: many lines\n\n" + b"".join(b"line %d\n" % number for number in range(20_000)),
)


@pytest.fixture
def ports(home: Ekiden, place: Path) -> Iterator[tuple[int, int]]:
    """Where ekiden and Dovecot serve u0's Maildir: half of it seen, half new."""
    maildir = place / "served" / "u0" / "Maildir"
    for part in ("new", "cur", "tmp"):
        (maildir / part).mkdir(parents=True)
    for number, content in enumerate(_CONTENTS):
        name = f"cur/{1000 + number}.1.h:2,S" if number % 2 else f"new/{1000 + number}.1.h"
        (maildir / name).write_bytes(content)
    for path in (maildir.parent, *maildir.parent.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    home.control("pop3users", f"u0:{{PLAIN}}secret:{NOBODY}:{NOBODY}:{maildir.parent}:./Maildir/")
    ours = free_port()
    home.control("listen", f"pop3 127.0.0.1:{ours}")
    home.start()
    theirs = Pop3Dovecot(place / "served")
    theirs.start()
    try:
        yield ours, theirs.port
    finally:
        theirs.stop()


def session(port: int) -> list[bytes]:
    """What a client hears in one session, but for the texts behind ``+OK``, which everybody words as he likes."""
    heard = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client, client.makefile("rwb") as stream:

        def ask(line: str) -> bytes:
            stream.write(line.encode() + b"\r\n")
            stream.flush()
            reply = stream.readline()
            assert reply.startswith(b"+OK"), (line, reply)
            return reply

        def read() -> bytes:
            return b"".join(iter(stream.readline, b".\r\n"))

        stream.readline()
        ask("USER u0")
        ask("PASS secret")
        heard.append(ask("STAT"))
        heard += [ask(f"LIST {number}") for number in range(1, len(_CONTENTS) + 1)]
        for command in ["LIST", *(f"RETR {number}" for number in range(1, len(_CONTENTS) + 1))]:
            ask(command)
            heard.append(read())
        for number in range(1, len(_CONTENTS) + 1):
            for lines in (0, 1, 3, 100_000):
                ask(f"TOP {number} {lines}")
                heard.append(read())
        ask("QUIT")
    return heard


def test_the_same_numbers_and_octets(ports: tuple[int, int]) -> None:
    """Also after Dovecot has moved everything to ``cur`` and put its own files beside it."""
    ours, theirs = ports
    before, dovecot, after = session(ours), session(theirs), session(ours)
    assert before == dovecot
    assert after == dovecot
