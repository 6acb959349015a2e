"""qmail-qmtpd and qmail-qmqpd on pipes: environment, what stands for qmail-queue, exit codes."""

from __future__ import annotations

import pytest
from tests.programs.conftest import Site
from tests.wire.netstrings import texts

from ekiden.wire.netstring import netstring

CLIENT = {"TCPREMOTEIP": "192.0.2.7", "TCPREMOTEHOST": "client.example", "TCPREMOTEINFO": "j"}
CLIENT["TCPLOCALIP"] = "192.0.2.1"
TRACE = b"Received: from client.example (j@192.0.2.7)\n  by 192.0.2.1 with %b; "
NOT_LISTED = b"Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"
HERE = b"a@indy2.nix.co.jj"


def package(content: bytes, *recipients: bytes) -> bytes:
    return netstring(content) + netstring(b"s@x") + netstring(b"".join(map(netstring, recipients)))


def request(content: bytes, *recipients: bytes) -> bytes:
    return netstring(b"".join(map(netstring, (content, b"s@x", *recipients))))


@pytest.mark.parametrize("content", [b"\nA: b\n\nx\r\0\n", b"\rA: b\r\n\r\nx\r\0\r\n"])
def test_qmtp(recorded: Site, content: bytes) -> None:
    done = recorded.run("qmail-qmtpd", data=package(content, HERE, b"b@y", b"c"), **CLIENT)
    first, second, third = texts(done.stdout)
    assert first.startswith(b"Kok ") and second == NOT_LISTED and third == first
    assert (done.returncode, done.stderr) == (0, b"")
    assert recorded.envelope == (b"s@x", [HERE, b"c"])
    assert recorded.message.startswith(TRACE % b"QMTP")
    assert recorded.message.split(b"\n", 2)[2] == b"A: b\n\nx\r\0\n"


def test_qmtp_with_relayclient_and_databytes(recorded: Site) -> None:
    large, small = package(b"\n" + b"x" * 10, b"b@y"), package(b"\n" + b"x" * 9, b"b@y")
    recorded.control("databytes", "9\n")
    done = recorded.run("qmail-qmtpd", data=large + small, RELAYCLIENT="@tail")
    too_large = netstring(b"Dmessage size exceeds the limit of this host (#5.3.4)")
    assert done.stdout.startswith(too_large) and b":Kok " in done.stdout
    assert recorded.envelope == (b"s@x", [b"b@y@tail"])
    assert b":Kok " in recorded.run("qmail-qmtpd", data=large, RELAYCLIENT="", DATABYTES="10").stdout


def test_qmqp(recorded: Site) -> None:
    recorded.control("databytes", "1\n")
    done = recorded.run("qmail-qmqpd", data=request(b"A: b\n\nx\r\n", b"b@y", b"c") + b"rest", **CLIENT)
    assert b":Kok " in done.stdout and (done.returncode, done.stderr) == (0, b"")
    assert recorded.envelope == (b"s@x", [b"b@y", b"c"])
    assert recorded.message.startswith(TRACE % b"QMQP")
    assert recorded.message.split(b"\n", 2)[2] == b"A: b\n\nx\r\n"


@pytest.mark.parametrize(("code", "letter"), [(0, b"K"), (11, b"D"), (31, b"D"), (53, b"Z"), (71, b"Z"), (82, b"D")])
def test_exit_codes_of_what_stands_for_qmail_queue(site: Site, code: int, letter: bytes) -> None:
    site.record(code)
    for program, data in (("qmail-qmtpd", package(b"\nx\n", HERE)), ("qmail-qmqpd", request(b"x\n", HERE))):
        done = site.run(program, data=data)
        assert done.returncode == 0 and done.stdout.partition(b":")[2][:1] == letter


@pytest.mark.parametrize("program", ["qmail-qmtpd", "qmail-qmqpd"])
@pytest.mark.parametrize(
    ("data", "code"), [(b"", 0), (b"5:", 0), (b"EHLO x\r\n", 100), (b"0x:", 100), (b"3000000000:", 111)]
)
def test_exit_codes(recorded: Site, program: str, data: bytes, code: int) -> None:
    done = recorded.run(program, data=data)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.parametrize("program", ["qmail-qmtpd", "qmail-qmqpd"])
def test_control_files_that_cannot_be_used(recorded: Site, program: str) -> None:
    recorded.control("databytes", "many\n")
    done = recorded.run(program, data=package(b"\nx\n", HERE))
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", b"")


def test_a_client_that_leaves_has_sent_nothing(recorded: Site) -> None:
    for program, data in (("qmail-qmtpd", package(b"\nx\n", HERE)), ("qmail-qmqpd", request(b"x\n", HERE))):
        assert recorded.run(program, data=data[:-1]).returncode == 0
    assert not (recorded.place / "message").exists()
