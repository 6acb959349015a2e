"""POP3 for the system's own users: passwd(5), shadow(5) and crypt(3), on a machine with users of its own."""

from __future__ import annotations

import os
import poplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.ekiden import COMMAND
from tests.peers.fresh import Fresh
from tests.peers.processes import free_port, run

pytestmark = pytest.mark.slow

UID = 4500


@pytest.fixture
def port(place: Path, fresh: Fresh) -> Iterator[int]:
    """The POP3 port of a home of root's; hana has an mbox in her home and a password, kaz an account without one."""
    secret = run(["openssl", "passwd", "-6", "hana's word"]).stdout.strip()
    for name, password in (("hana", secret), ("kaz", "!")):
        (place / name).mkdir(mode=0o700)
        with (place / "etc" / "passwd").open("a") as passwd, (place / "etc" / "shadow").open("a") as shadow:
            passwd.write(f"{name}:x:{UID}:{UID}::{place / name}:/bin/sh\n")
            shadow.write(f"{name}:{password}:19000:0:99999:7:::\n")
        (place / name / "Mailbox").write_text("From a@b Mon Jan  1 00:00:00 2001\nSubject: x\n\nin an mbox\n\n")
        for path in (place / name, place / name / "Mailbox"):
            os.chown(path, UID, UID)
    home, port = place / "qmail", free_port()
    assert fresh.run(COMMAND, "install", "--create-users", home).returncode == 0
    assert fresh.run(COMMAND, "--home", home, "config", "a.example").returncode == 0
    (home / "control" / "listen").write_text(f"pop3 127.0.0.1:{port}\n")
    (home / "control" / "pop3passwords").write_text("system\n")
    started = fresh.run(COMMAND, "--home", home, "start")
    assert started.returncode == 0, started.stderr
    yield port
    fresh.run(COMMAND, "--home", home, "stop")


def test_a_user_of_the_system_reads_and_deletes(port: int, place: Path) -> None:
    client = poplib.POP3("127.0.0.1", port, timeout=60)
    client.user("hana")
    client.pass_("hana's word")
    assert b"in an mbox" in client.retr(1)[1]
    client.dele(1)
    client.quit()
    mailbox = place / "hana" / "Mailbox"
    assert mailbox.read_bytes() == b""
    assert mailbox.stat().st_uid == UID


def test_nobody_else_gets_in(port: int) -> None:
    client = poplib.POP3("127.0.0.1", port, timeout=60)
    for name, password in (("hana", "another"), ("kaz", "!"), ("root", "")):
        client.user(name)
        with pytest.raises(poplib.error_proto):
            client.pass_(password)
    client.close()
