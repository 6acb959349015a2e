"""qmail-smtpd on pipes and sockets: environment, control files, time limit, and what stands for qmail-queue."""

from __future__ import annotations

import re
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from tests.peers.certificate import Certificate
from tests.peers.processes import wait_until
from tests.programs.conftest import Running, Site

CODES = """#!/bin/sh
code=$(sed -n 's/^Code: //p')
cat <&1 >/dev/null
case $code in
82) printf 'Dnot today (#5.7.1)' >&6 ;;
kill) kill -9 $$ ;;
esac
exit $code
"""

CLIENT = {
    "TCPREMOTEIP": "192.0.2.7",
    "TCPREMOTEHOST": "client.example",
    "TCPREMOTEINFO": "jiro",
    "TCPLOCALHOST": "mx.example",
    "TCPLOCALIP": "192.0.2.1",
}


def message(content: str, sender: str = "s@x.example", *recipients: str) -> str:
    """A transaction with its commands pipelined."""
    commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients or ("a@indy2.nix.co.jj",))]
    return "".join(f"{line}\r\n" for line in [*commands, "DATA", *content.split("\n"), "."])


def hold(site: Site, *parts: str, **environment: str) -> tuple[int, list[str]]:
    """A whole session: exit code and replies, without the lines that more lines follow."""
    said = site.run("qmail-smtpd", data="".join(parts).encode(), **environment)
    assert said.stderr == b""
    return said.returncode, [line for line in said.stdout.decode().split("\r\n") if line[3:4] == " "]


def test_a_session_as_tcpserver_starts_it(recorded: Site) -> None:
    text = message("Subject: x\n\n..dot\n\xe9", "s@x.example", "a@indy2.nix.co.jj", "b@y.example")
    code, said = hold(recorded, "EHLO me.example\r\n", text, "QUIT\r\n", **CLIENT)
    assert code == 0
    assert [line[:9] for line in said] == [
        "220 indy2",
        "250 HELP",
        "250 2.1.0",
        "250 2.1.5",
        "553 5.7.1",
        "354 go ah",
        "250 2.0.0",
        "221 2.0.0",
    ]
    assert recorded.envelope == (b"s@x.example", [b"a@indy2.nix.co.jj"])
    trace, _newline, content = recorded.message.partition(b" -0000\n")
    assert re.fullmatch(
        rb"Received: from client\.example \(HELO me\.example\) \(jiro@192\.0\.2\.7\)\n"
        rb"  by mx\.example with ESMTP; \d+ \w+ \d{4} [0-9:]{8}",
        trace,
    )
    assert content == "Subject: x\n\n.dot\n\xe9\n".encode()


def test_a_client_of_whom_nothing_is_known(recorded: Site) -> None:
    hold(recorded, "HELO h\r\n", message("x"))
    assert recorded.message.startswith(b"Received: from unknown (HELO h) (unknown)\n  by indy2.nix.co.jj with SMTP; ")
    hold(recorded, message("x"), TCPREMOTEHOST="b(a)d\n", TCPLOCALIP="192.0.2.1")
    assert recorded.message.startswith(b"Received: from b?a?d? (unknown)\n  by 192.0.2.1 with SMTP; ")


def test_relayclient_is_put_to_every_recipient(recorded: Site) -> None:
    text = message("x", "s@x", "a@anywhere.example", "b")
    assert hold(recorded, text, RELAYCLIENT="")[1][2:4] == ["250 2.1.5 ok"] * 2
    assert recorded.envelope[1] == [b"a@anywhere.example", b"b"]
    hold(recorded, text, RELAYCLIENT="@tail")
    assert recorded.envelope[1] == [b"a@anywhere.example@tail", b"b@tail"]


def test_databytes(recorded: Site) -> None:
    recorded.control("databytes", "10\n")
    large = message("123456789")
    assert hold(recorded, large)[1][-1].startswith("552 5.3.4")
    assert hold(recorded, large, DATABYTES="11")[1][-1].startswith("250 2.0.0")
    assert hold(recorded, large, DATABYTES="0")[1][-1].startswith("250 2.0.0")
    assert hold(recorded, message("12345"), DATABYTES="6")[1][-1].startswith("552 5.3.4")


def test_control_files_are_read_by_every_process(recorded: Site) -> None:
    recorded.control("badmailfrom", "@bad.example\n")
    recorded.control("smtpgreeting", "hello there\n")
    recorded.control("rcpthosts", "here.example\n")
    _code, said = hold(recorded, message("x", "s@bad.example"), message("x", "s@x", "a@b", "a@here.example"))
    assert said[0] == "220 hello there ESMTP"
    assert [line[:3] for line in said[1:]] == ["553", "503", "503", "500", "500", "250", "553", "250", "354", "250"]
    (recorded.home / "control" / "rcpthosts").unlink()
    assert hold(recorded, message("x", "s@x", "a@b"))[1][-1].startswith("250 2.0.0 ok")


@pytest.mark.parametrize("spoiled", ["me", "databytes"])
def test_control_files_that_cannot_be_used(recorded: Site, spoiled: str) -> None:
    recorded.control(spoiled, "" if spoiled == "me" else "many\n")
    code, said = hold(recorded, "QUIT\r\n")
    assert (code, said[-1]) == (1, "421 4.3.0 unable to read controls")


def test_silence(recorded: Site) -> None:
    recorded.control("timeoutsmtpd", "3\n")
    with started(recorded) as (process, client):
        client.sendall(b"MAIL FROM:<s@x>\r\n")
        assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b"250 2.1.0 ok\r\n451 4.4.2 timeout\r\n")
        assert process.wait(60) == 1


def test_a_command_in_drops(recorded: Site) -> None:
    recorded.control("timeoutsmtpd", "3\n")
    with started(recorded) as (process, client):
        said = client.recv(4096)
        deadline = time.monotonic() + 60
        while b"451 4.4.2 timeout\r\n" not in said and time.monotonic() < deadline:
            with suppress(BrokenPipeError):
                client.sendall(b"N")
            if select.select([client], [], [], 0.2)[0]:
                said += client.recv(4096)
        assert said.endswith(b"451 4.4.2 timeout\r\n")
        assert process.wait(60) == 1


def test_a_client_that_leaves_has_sent_nothing(recorded: Site) -> None:
    for end in ("", "x\r\n", "x\r\n.", "x\r\n.\r"):
        text = message("Subject: x").removesuffix(".\r\n") + end
        assert hold(recorded, text)[0] == 1
    assert not (recorded.place / "message").exists()


def test_too_many_hops(recorded: Site) -> None:
    recorded.control("hopsmax", "3\n")
    assert hold(recorded, message("Received: x\nReceived: x\n\nReceived: x"))[1][-1].startswith("250")
    assert hold(recorded, message("Received: x\nDelivered-To: x\nReceived: x"))[1][-1].startswith("554 5.4.6")


def test_exit_codes_of_what_stands_for_qmail_queue(site: Site) -> None:
    script = site.place / "codes"
    script.write_text(CODES)
    script.chmod(0o755)
    wanted = {"0": "250 2.0.0", "11": "554 5.1.3", "31": "554 5.3.0", "40": "554 5.3.0", "115": "554 5.1.3"}
    wanted |= dict.fromkeys(("51", "52", "53", "54", "55", "56", "61", "62", "63", "64", "65", "66"), "451 4.3.0")
    wanted |= {"71": "451 4.3.0", "72": "451 4.4.1", "73": "451 4.4.1", "74": "451 4.4.2", "81": "451 4.3.0"}
    wanted |= {"82": "554 5.7.1", "91": "451 4.3.0", "120": "451 4.3.0", "41": "451 4.3.0", "kill": "451 4.3.0"}
    texts = [message(f"Code: {code}\n\nx") for code in wanted]
    code, said = hold(site, *texts, "QUIT\r\n", QMAILQUEUE=str(script))
    assert code == 0
    assert dict(zip(wanted, (line[:9] for line in said[4::4]), strict=False)) == wanted
    assert hold(site, message("x"), QMAILQUEUE="/nonexistent")[1][-1].startswith("451 4.3.0 ")


def test_a_large_message_for_another_queue_program(recorded: Site) -> None:
    recorded.control("inlinebytes", "1000\n")
    lines = [f"line {number}" for number in range(50_000)]
    assert hold(recorded, message("\n".join(lines)))[1][-1].startswith("250 2.0.0 ok ")
    assert recorded.message.decode().split("\n")[2:-1] == lines


def test_starttls(recorded: Site, certificate: Certificate) -> None:
    assert "STARTTLS" not in recorded.run("qmail-smtpd", data=b"EHLO x\r\n").stdout.decode()
    (recorded.home / "control" / "servercert.pem").write_bytes(certificate.both.read_bytes())
    with started(recorded) as (process, client):
        client.sendall(b"EHLO x\r\nSTARTTLS\r\n")
        said = b""
        while not said.endswith(b"ready for TLS\r\n"):
            said += client.recv(4096)
        context = ssl.create_default_context(cafile=str(certificate.certificate))
        with context.wrap_socket(client, server_hostname="localhost") as secured:
            secured.sendall(b"EHLO y\r\n" + message("Subject: z").encode() + b"QUIT\r\n")
            said = b"".join(iter(lambda: secured.recv(4096), b""))
        assert b"STARTTLS" not in said and b"\r\n250 2.0.0 ok " in said
        assert process.wait(60) == 0
    assert b"(HELO y) (unknown)\n  by indy2.nix.co.jj with ESMTPS; " in recorded.message


def test_a_certificate_that_cannot_be_used(recorded: Site) -> None:
    recorded.control("servercert.pem", "no certificate\n")
    code, said = hold(recorded, "EHLO x\r\nSTARTTLS\r\n")
    assert (code, said[-1]) == (1, "454 4.7.0 TLS is not available now")


def test_plaintext_behind_starttls_ends_the_session(recorded: Site, certificate: Certificate) -> None:
    (recorded.home / "control" / "servercert.pem").write_bytes(certificate.both.read_bytes())
    _code, said = hold(recorded, "EHLO x\r\nSTARTTLS\r\nMAIL FROM:<s@x>\r\n")
    assert said[-1].startswith("421 4.7.0")


def test_inetd_with_tcp_env(recorded: Site) -> None:
    """As inetd does: the accepted connection is descriptors 0, 1 and 2."""
    programs = [str(recorded.home / "bin" / name) for name in ("tcp-env", "qmail-smtpd")]
    command = [programs[0], "-R", programs[1]]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), timeout=60)
        accepted, _address = listening.accept()
    with accepted:
        process = subprocess.Popen(
            command, stdin=accepted, stdout=accepted, stderr=accepted, env=recorded.environment
        )
    with client:
        client.sendall(f"HELO me\r\n{message('Subject: x')}QUIT\r\n".encode())
        said = b"".join(iter(lambda: client.recv(4096), b""))
    assert process.wait(60) == 0
    assert said.startswith(b"220 indy2.nix.co.jj ESMTP\r\n") and said.endswith(b"221 2.0.0 indy2.nix.co.jj\r\n")
    assert b"(127.0.0.1)\n  by " in recorded.message or b"@127.0.0.1)\n  by " in recorded.message


def test_into_the_queue_of_this_home(running: Running) -> None:
    """Inline and, being above ``inlinebytes`` of 1000, as a file."""
    site = Site(running.home, running.home.parent)
    lines = "\n".join(f"line {number}" for number in range(5000))
    texts = [message(f"Subject: x\n\n{body}", "s@x", "tell@ekiden.example") for body in ("short", lines)]
    code, said = hold(site, *texts, "QUIT\r\n", **CLIENT)
    assert code == 0
    qps = [re.fullmatch(r"250 2\.0\.0 ok \d+ (qp \d+)", said[place])[1] for place in (4, 8)]  # type: ignore[index]
    wait_until(lambda: all(f"from <s@x> {qp} uid " in running.log() for qp in qps), "the log names both")
    contents = sorted((path.read_bytes() for path in running.arrived(2)), key=len)
    assert contents[0].endswith(b"\n\nshort\n") and contents[1].endswith(f"\n\n{lines}\n".encode())
    for content in contents:
        assert b"\nReceived: (qmail " in content
        assert b"\nReceived: from client.example (jiro@192.0.2.7)\n  by mx.example with SMTP; " in content


def test_into_the_store_while_ekiden_does_not_run(site: Site) -> None:
    code, said = hold(site, message("Subject: x"), "QUIT\r\n", **CLIENT)
    assert code == 0 and said[-2].startswith("250 2.0.0 ok ")


def test_sendmail_bs(recorded: Site) -> None:
    """SMTP from a mail reader of this machine, which may relay."""
    text = f"EHLO me\r\n{message('Subject: x', 's@x', 'a@anywhere.example', 'b')}QUIT\r\n"
    done = recorded.run("sendmail", "-bs", data=text.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"220 indy2.nix.co.jj ESMTP\r\n") and b"\r\n250 2.0.0 ok " in done.stdout
    assert recorded.envelope == (b"s@x", [b"a@anywhere.example", b"b"])
    whence = b"Received: from localhost (HELO me) (sendmail-bs@127.0.0.1)\n  by localhost with ESMTP; "
    assert recorded.message.startswith(whence)


@contextmanager
def started(site: Site) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The program with one end of a connection, and the other end."""
    ours, theirs = socket.socketpair()
    command = [str(site.home / "bin" / "qmail-smtpd")]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, env=site.environment)
    theirs.close()
    ours.settimeout(60)
    try:
        with ours:
            yield process, ours
    finally:
        process.kill()
        process.wait()
