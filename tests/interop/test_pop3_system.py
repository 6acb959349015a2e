"""POP3 and AUTH for the system's own users: passwd(5), shadow(5) and crypt(3), on a machine with users of its own."""

from __future__ import annotations

import json
import os
import poplib
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.ekiden import COMMAND
from tests.peers.fresh import Fresh
from tests.peers.processes import free_port, run

pytestmark = pytest.mark.slow

UID = 4500


@pytest.fixture
def smtp_port() -> int:
    """Where clients who log in may relay."""
    return free_port()


@pytest.fixture
def port(place: Path, fresh: Fresh, smtp_port: int) -> Iterator[int]:
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
    (home / "control" / "listen").write_text(f"pop3 127.0.0.1:{port}\nsmtp 127.0.0.1:{smtp_port} auth=yes\n")
    (home / "control" / "authmechanisms").write_text("plain\n")
    (home / "control" / "authplaintext").write_text("local\n")
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


def test_who_checks_passwords_for_smtp_is_not_root(port: int, smtp_port: int, place: Path) -> None:
    """It reads shadow(5) all the same, by the one capability that it has."""
    with smtplib.SMTP("127.0.0.1", smtp_port, timeout=20) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("hana", "another")
        assert client.login("hana", "hana's word")[0] == 235
    roles = json.loads((place / "qmail" / "run" / "roles").read_text())["roles"]
    (keeper,) = (role["pid"] for role in roles if role["role"] == "keeper")
    status = dict(line.split(":", 1) for line in Path(f"/proc/{keeper}/status").read_text().splitlines())
    finder = next(line.split(":") for line in (place / "etc" / "passwd").read_text().splitlines() if "qmailp" in line)
    assert set(status["Uid"].split()) == {finder[2]}
    assert {status[each].strip() for each in ("CapPrm", "CapEff")} == {f"{1 << 2:016x}"}
