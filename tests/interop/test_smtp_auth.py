"""SMTP AUTH as real mail programs see it: who logs in may relay, and nobody else."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import signal
import smtplib
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.peers.certificate import Certificate
from tests.peers.ekiden import NOBODY, Ekiden
from tests.peers.processes import free_port, program, run, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

WORD = "secret word"
USER = os.getuid() or NOBODY
FAR = "far@far.example"
CONTENT = "Subject: hello\r\n\r\nbody\r\n"


class Submission:
    """An ekiden whose clients may relay only if they log in, and the user jiro."""

    def __init__(self, ekiden: Ekiden, sink: Sink, certificate: Certificate) -> None:
        self.ekiden, self.sink = ekiden, sink
        self.port, self.tls_port, self.mx_port = free_port(), free_port(), free_port()
        self.certificate = certificate
        ekiden.routes(f":{sink.route}")
        ekiden.control("tcp.smtp", ":allow")
        ekiden.control("authmechanisms", "plain", "login", "scram-sha-256")
        self.secret("{PLAIN}" + WORD)
        control = ekiden.home / "control"
        (control / "servercert.pem").write_bytes(certificate.both.read_bytes())
        ekiden.control(
            "listen",
            f"smtp 127.0.0.1:{ekiden.port} auth=yes",
            f"submission 127.0.0.1:{self.port}",
            f"smtps 127.0.0.1:{self.tls_port}",
            f"smtp 127.0.0.1:{self.mx_port}",
        )

    def secret(self, secret: str) -> None:
        """Jiro's line in control/pop3users."""
        home = self.ekiden.home.parent
        self.ekiden.control("pop3users", f"jiro:{secret}:{USER}:{USER}:{home}", f"root:{secret}:0:0:/")
        (self.ekiden.home / "control" / "pop3users").chmod(0o600)

    def client(self, port: int = 0, tls: bool = True) -> smtplib.SMTP:
        """Connected, greeted, under TLS; not logged in."""
        client = smtplib.SMTP("127.0.0.1", port or self.port, timeout=60)
        client.ehlo("client.example")
        if tls:
            client.starttls(context=self.tls())
            client.ehlo("client.example")
        return client

    def tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.certificate.certificate))
        context.check_hostname = False
        return context

    def send(self, client: smtplib.SMTP) -> None:
        client.sendmail("jiro@a.example", [FAR], CONTENT)


@pytest.fixture
def office(home: Ekiden, sink: Sink, certificate: Certificate) -> Submission:
    return Submission(home, sink, certificate)


def received(sink: Sink, count: int = 1) -> str:
    """The newest message's Received fields."""
    return sink.wait_for(count)[-1].content.partition(b"\r\n\r\n")[0].decode()


def scram(word: str) -> Callable[[bytes | None], str]:
    """A client's side of RFC 5802, as an authobject for smtplib; checks the server's signature."""
    state: dict[str, bytes] = {}

    def answer(challenge: bytes | None = None) -> str:
        if challenge is None or challenge == b"":
            state["bare"] = b"n=jiro,r=clientnonce"
            return "n,," + state["bare"].decode()
        if challenge.startswith(b"v="):
            assert challenge[2:] == base64.b64encode(state["signature"]), "the server knows the keys"
            return ""
        fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
        assert fields[b"r"].startswith(b"clientnonce")
        salted = hashlib.pbkdf2_hmac("sha256", word.encode(), base64.b64decode(fields[b"s"]), int(fields[b"i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        final = b"c=biws,r=" + fields[b"r"]
        signed = b",".join((state["bare"], challenge, final))
        proof = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        state["signature"] = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, proof, strict=True))
        return (final + b",p=" + base64.b64encode(proof)).decode()

    return answer


def test_senders_are_their_owners(office: Submission) -> None:
    office.ekiden.control("senderlogins", "@a.example:%u")
    office.ekiden.start()
    with contextlib.closing(office.client()) as client:
        client.login("jiro", WORD)
        assert client.mail("haruo@a.example") == (553, b"5.7.1 sorry, jiro may not send as that address (#5.7.1)")
        office.send(client)
    wait_until(lambda: "from <haruo@a.example> to <>: 553 5.7.1 sorry, jiro" in office.ekiden.log(), "a line")


def test_what_a_login_in_clear_allowed_ends_with_the_clear(office: Submission) -> None:
    office.ekiden.control("authplaintext", "always")
    office.ekiden.start()
    with contextlib.closing(office.client(office.ekiden.port, tls=False)) as client:
        client.login("jiro", WORD)
        client.mail("jiro@a.example")
        assert client.rcpt(FAR)[0] == 250
        client.rset()
        client.starttls(context=office.tls())
        client.ehlo("client.example")
        client.mail("jiro@a.example")
        assert client.rcpt(FAR)[0] == 553


def test_who_logs_in_may_relay(office: Submission) -> None:
    office.ekiden.start()
    common = [program("swaks"), "--to", FAR, "--from", "jiro@a.example", "--server", "127.0.0.1", "--silent", "2"]
    login = ["--auth-user", "jiro", "--auth-password", WORD]
    run([*common, "--port", str(office.port), "--tls", "--auth", "PLAIN", *login], 30)
    field = received(office.sink)
    assert "(jiro@127.0.0.1)" in field
    assert "with ESMTPSA;" in field
    run([*common, "--port", str(office.tls_port), "--tls-on-connect", "--auth", "LOGIN", *login], 30)
    assert "with ESMTPSA;" in received(office.sink, 2)
    with office.client(office.ekiden.port) as client:
        client.auth("SCRAM-SHA-256", scram(WORD))
        office.send(client)
    assert "(jiro@127.0.0.1)" in received(office.sink, 3)
    wait_until(lambda: office.ekiden.log().count("smtp: 127.0.0.1: jiro logged in") == 3, "logins are logged")


def test_mail_programs_of_people(office: Submission, place: Path) -> None:
    office.ekiden.start()
    message = place / "message"
    message.write_text(CONTENT)
    trust = ["--cacert", str(office.certificate.certificate)]
    envelope = ["--mail-from", "jiro@a.example", "--mail-rcpt", FAR, "--upload-file", str(message)]
    url = f"smtps://localhost:{office.tls_port}/client.example"
    resolve = ["--ipv4", "--silent", "--show-error"]
    run([program("curl"), *resolve, *trust, "--user", f"jiro:{WORD}", "--url", url, *envelope], 30)
    assert "with ESMTPSA;" in received(office.sink)
    settings = [
        "-:/",
        "-Sv15-compat",
        f"-Smta=smtp://jiro:{WORD.replace(' ', '%20')}@localhost:{office.port}",
        "-Ssmtp-use-starttls",
        "-Ssmtp-auth=login",
        f"-Stls-ca-file={office.certificate.certificate}",
        "-Shostname=client.example",
        "-r",
        "jiro@a.example",
        "-s",
        "hello",
    ]
    run(["sh", "-c", 'program=$1; shift; echo body | "$program" "$@"', "sh", program("s-nail"), *settings, FAR], 30)
    assert "(jiro@127.0.0.1)" in received(office.sink, 2)


def test_who_does_not_log_in_may_not(office: Submission) -> None:
    office.ekiden.start()
    with office.client() as client:
        assert client.mail("a@a.example") == (530, b"5.7.0 authentication required")
    with office.client(office.mx_port) as client:
        assert "auth" not in client.esmtp_features
        assert client.docmd("AUTH", "PLAIN AGppcm8AeA==")[0] == 502
    with office.client(office.ekiden.port, tls=False) as client:
        assert "auth" not in client.esmtp_features
        assert client.docmd("AUTH", "PLAIN AGppcm8AeA==")[0] == 538
        client.mail("a@a.example")
        assert client.rcpt(FAR)[0] == 553
    office.ekiden.control("tcp.smtp", '127.:allow,RELAYCLIENT=""')
    office.ekiden.control("authplaintext", "local")
    office.ekiden.reload()
    with office.client(tls=False) as client:
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
        office.send(client)
    assert "with ESMTP;" in received(office.sink)


def test_a_wrong_password(office: Submission) -> None:
    office.ekiden.start()
    for user, word in (("jiro", "wrong"), ("nobody-here", WORD), ("root", WORD)):
        with office.client() as client:
            client.user, client.password = user, word
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                client.auth("PLAIN", client.auth_plain)
            assert refused.value.smtp_code == 535
            assert client.mail("a@a.example")[0] == 530
    with office.client() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.auth("SCRAM-SHA-256", scram("wrong"))
    wait_until(lambda: office.ekiden.log().count("jiro: authentication failed") == 2, "failures are logged")
    assert "refuse: smtp: 127.0.0.1: nobody-here: authentication failed" in office.ekiden.log()
    assert WORD not in office.ekiden.log()


def test_a_keeper_that_dies_or_is_replaced_holds_nobody_up(office: Submission) -> None:
    # As often as it takes until the next keeper is there.
    office.ekiden.control("errorsmax", "10000")
    office.ekiden.start()
    (keeper,) = (pid for pid, role in office.ekiden.roles().items() if role == "keeper")
    os.kill(keeper, signal.SIGSTOP)
    answers: list[int] = []
    with office.client() as client:
        client.user, client.password = "jiro", WORD

        def log_in() -> None:
            with contextlib.suppress(smtplib.SMTPAuthenticationError):
                answers.append(client.auth("PLAIN", client.auth_plain)[0])

        waiting = threading.Thread(target=log_in)
        waiting.start()
        waiting.join(0.3)
        os.kill(keeper, signal.SIGKILL)
        waiting.join(60)
        assert not waiting.is_alive()

        def has_logged_in() -> bool:
            log_in()
            return bool(answers)

        wait_until(has_logged_in, "the next keeper answers")
        office.ekiden.reload()
        office.send(client)
    with office.client() as client:
        client.login("jiro", WORD)
        office.send(client)
    office.sink.wait_for(2)


def test_check_names_what_is_missing(office: Submission) -> None:
    (office.ekiden.home / "control" / "servercert.pem").unlink()
    office.ekiden.control("authmechanisms", "cram-md5")
    said = office.ekiden.command("check", check=False).stdout
    assert f"submission at 127.0.0.1:{office.port} has no certificate, so that nobody can log in" in said
    assert "control/authmechanisms: warning: cram-md5 is unknown; allowed are scram-sha-256, plain, login" in said
    assert "names no mechanism, but a listener requires AUTH" in said
    office.ekiden.control("listen", "lmtp /tmp/x auth=yes")
    said = office.ekiden.command("check", check=False).stdout
    assert "auth is for smtp, smtps, submission, and one of no, yes, required" in said
