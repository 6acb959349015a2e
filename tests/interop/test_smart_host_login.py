"""A smart host that asks for a password: ours, as the only thing between two homes."""

from __future__ import annotations

import os
import pwd
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.certificate import Certificate
from tests.peers.ekiden import COMMAND, NOBODY, Ekiden
from tests.peers.processes import free_port, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

USER = os.getuid() or NOBODY


@pytest.fixture
def smart_host(place: Path, sink: Sink, certificate: Certificate) -> Iterator[Ekiden]:
    """Requires a login of everybody, and passes all on to the sink."""
    (place / "smart").mkdir()
    ekiden = Ekiden(place / "smart", "smart.example")
    ekiden.configure()
    ekiden.routes(f":{sink.route}")
    ekiden.control("tcp.smtp", ":allow")
    ekiden.control("authmechanisms", "plain", "login", "scram-sha-256")
    ekiden.control("pop3users", f"jiro:{{PLAIN}}secret word:{USER}:{USER}:/")
    (ekiden.home / "control" / "servercert.pem").write_bytes(certificate.both.read_bytes())
    ekiden.port = free_port()
    ekiden.control("listen", f"submission 127.0.0.1:{ekiden.port}")
    ekiden.start()
    yield ekiden
    ekiden.stop()


def give_login(home: Ekiden, smart_host: Ekiden, password: str = "secret word") -> None:
    home.routes(f":[127.0.0.1]:{smart_host.port}")
    home.control("remoteauth", f"[127.0.0.1]:{smart_host.port} jiro {password}")
    path = home.home / "control" / "remoteauth"
    path.chmod(0o400)
    if os.getuid() == 0:
        try:
            sender = pwd.getpwnam("qmailr")
        except KeyError:
            sender = pwd.getpwnam("nobody")
        os.chown(path, sender.pw_uid, sender.pw_gid)


def send(home: Ekiden) -> None:
    with smtplib.SMTP("127.0.0.1", home.port, timeout=60) as client:
        client.sendmail("a@a.example", ["far@far.example"], "Subject: hello\n\nhello\n")


def test_mail_goes_through_a_smart_host_that_requires_a_login(
    home: Ekiden, smart_host: Ekiden, sink: Sink, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_login(home, smart_host)
    home.start()
    send(home)
    wait_until(lambda: "TLS_failed:_CERTIFICATE_VERIFY_FAILED" in home.log(), "nobody is told the password")
    home.stop()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    home.start()
    home.command("queue", "flush")
    (message,) = sink.wait_for(1)
    assert b"(jiro@127.0.0.1)" in message.content
    assert b"with ESMTPSA;" in message.content
    assert "remoteauth" not in home.command("check", check=False).stdout
    # The classic program, with the same file.
    words = [str(COMMAND), "--home", str(home.home), "qmail-remote", "far.example", "a@a.example", "far@far.example"]
    said = subprocess.run(words, input=b"Subject: two\n\nhello\n", capture_output=True, timeout=60, check=True).stdout
    assert said.startswith(b"r\0K"), said
    assert len(sink.wait_for(2)) == 2


def test_a_wrong_password_or_none_that_can_be_read_makes_mail_wait(
    home: Ekiden, smart_host: Ekiden, sink: Sink
) -> None:
    home.control("remoteauthtls", "encrypt")
    give_login(home, smart_host, "wrong")
    home.start()
    send(home)
    wait_until(lambda: "login_failed./Remote_host_said:_535_5.7.8" in home.log(), "it is told")
    home.control("remoteauth", "nonsense")
    said = home.command("check", check=False).stdout
    assert "control/remoteauth:1: warning: there are fewer than three words" in said
    assert "can be read or changed by others" in said
    home.reload()
    home.command("queue", "flush")
    wait_until(lambda: "It_is_not_known_how_to_log_in" in home.log(), "it is told")
    (row,) = home.queue()
    assert "far@far.example" in str(row)
    give_login(home, smart_host)
    home.reload()
    home.command("queue", "flush")
    sink.wait_for(1)
    wait_until(lambda: home.queue() == [], "nothing is left")
