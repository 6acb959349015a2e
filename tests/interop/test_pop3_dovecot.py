"""The same Maildir read by Dovecot and by ekiden: the same answers, octet by octet."""

from __future__ import annotations

import os
import poplib
from pathlib import Path
from typing import Any

import pytest
from tests.peers.dovecot import Pop3Dovecot
from tests.peers.ekiden import NOBODY, Ekiden
from tests.peers.processes import Unavailable

pytestmark = pytest.mark.slow

MESSAGES = {
    "1000.a.h": b"Subject: plain\n\nbody\n",
    "1001.b.h:2,S": b"Subject: dots\n\n.\n..\n.dot\nmore\n",
    "1002.c.h": b"Subject: no end\n\nlast line",
    "1003.d.h:2,": b"Subject: only a header\n\n",
    "1004.e.h": b"Subject: crlf\r\n\r\nline\r\nline\r\n",
    "1005.f.h": b"Subject: long\n\n" + b"x" * 990 + b"\n" + b"line\n" * 3000,
    "1006.g.h": b"Subject: octets\n\n\xff\xfe\x80 \x01\n\n\n",
    "1007.h.h": b"\nno header\n",
}


def fill(maildir: Path) -> None:
    for part in ("new", "cur", "tmp"):
        (maildir / part).mkdir(parents=True)
    for name, content in MESSAGES.items():
        (maildir / ("cur" if ":" in name else "new") / name).write_bytes(content)
    for path in (maildir.parent, *maildir.parent.rglob("*")):
        os.chown(path, NOBODY, NOBODY)


def transcript(port: int, user: str) -> dict[str, Any]:
    """What a client sees of the mailbox."""
    client = poplib.POP3("127.0.0.1", port, timeout=30)
    client.user(user)
    client.pass_("secret")
    count, octets = client.stat()
    seen: dict[str, Any] = {"STAT": (count, octets), "LIST": client.list()[1]}
    for number in range(1, count + 1):
        seen[f"RETR {number}"] = client.retr(number)[1]
        for lines in (0, 1, 3, 100_000):
            seen[f"TOP {number} {lines}"] = client.top(number, lines)[1]
    seen["UIDL"] = len({line.split()[1] for line in client.uidl()[1]})
    client.dele(2)
    seen["STAT without 2"] = client.stat()
    client.rset()
    client.quit()
    return seen


def test_dovecot_and_ekiden_say_the_same(home: Ekiden, place: Path) -> None:
    try:
        dovecot = Pop3Dovecot(place / "dovecot")
    except Unavailable as reason:
        pytest.skip(str(reason))
    (place / "dovecot").mkdir()
    for user in ("theirs", "ours"):
        fill(place / "dovecot" / user / "Maildir")
    home.control("pop3users", f"ours:{{PLAIN}}secret:{NOBODY}:{NOBODY}:{place}/dovecot/ours:./Maildir/")
    home.control("listen", f"pop3 127.0.0.1:{home.port}")
    home.start()
    dovecot.start()
    try:
        theirs = transcript(dovecot.port, "theirs")
    finally:
        dovecot.stop()
    ours = transcript(home.port, "ours")
    assert theirs.keys() == ours.keys()
    # Dovecot does not count the line end that it adds to a message without one; what is sent is two octets longer.
    for name in ("STAT", "STAT without 2"):
        count, octets = theirs[name]
        theirs[name] = (count, octets + 2)
    theirs["LIST"][2] = b"3 30"
    assert [name for name in theirs if theirs[name] != ours[name]] == []
