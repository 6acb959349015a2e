"""The guide's part 4: ucspi-tcp's programs in use; from part 5, mail for two places at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.peers.machine import Machine
from tests.peers.network import Network
from tests.peers.processes import Unavailable, accepts, end, free_port, program, wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

CLIENTS = {
    "date@": (13, "printf '23 NOV\\r\\n'", "", "23 NOV\n"),
    "who@": (11, "printf 'jiro ttyq0\\r\\n'", "", "jiro ttyq0\n"),
    "finger@": (
        79,
        "read -r name; printf 'Login: %s' \"$name\" | tr -d '\\r'; printf '\\r\\n'",
        "jiro",
        "Login: jiro\n",
    ),
    "http@": (80, "read -r line; printf 'HTTP/1.0 200 OK\\r\\n\\r\\n%s\\n' \"$line\"", "x", "GET /x HTTP/1.0\n"),
    "tcpcat": (17, "printf 'a quote\\n'", "", "a quote\n"),
}
"""Per program its port, a server for it, its second argument and what it prints."""


@contextmanager
def served(machine: Machine, port: int, *command: str | Path, options: tuple[str, ...] = ()) -> Iterator[None]:
    """That runs behind tcpserver on 127.0.0.1."""
    server = machine.start(machine.home / "bin" / "tcpserver", "-RHl0", *options, "127.0.0.1", str(port), *command)
    try:
        wait_until(lambda: accepts("127.0.0.1", port), "tcpserver listens")
        yield
    finally:
        end(server)


@pytest.fixture
def alone(place: Path) -> Iterator[Machine]:
    """A machine whose well-known ports are free: on a network of its own."""
    with ExitStack() as running:
        try:
            network = Network({"relay": "202.241.128.3"}, {}, [])
            running.callback(network.remove)
            running.enter_context(network.at("relay"))
            machine = Machine(place)
        except Unavailable as reason:
            pytest.skip(str(reason))
        running.callback(machine.stop)
        yield machine


def test_w22_the_clients(alone: Machine) -> None:
    for name, (port, answer, argument, printed) in CLIENTS.items():
        with served(alone, port, "sh", "-c", answer):
            second = [argument] if argument else []
            done = alone.run(name, "127.0.0.1", *second)
            assert (done.returncode, done.stdout.decode().replace("\r", "")) == (0, printed), name


def test_w22_the_filters(machine: Machine) -> None:
    assert machine.run("addcr", data=b"a\nb\n").stdout == b"a\r\nb\r\n"
    assert machine.run("delcr", data=b"a\r\nb\n").stdout == b"a\nb\n"
    assert machine.run("argv0", "sh", "named", "-c", "echo $0", data=b"").stdout == b"named\n"
    recorded = machine.run("recordio", "echo", "hello")
    assert recorded.stdout == b"hello\n"
    assert re.fullmatch(rb"(\d+ < \[EOF\]\n)?\d+ > hello \n\d+ > \[EOF\]\n(\d+ < \[EOF\]\n)?", recorded.stderr)


def test_w22_the_relays_own(machine: Machine) -> None:
    """Rules, checked and used; a blocked client; a client without carriage returns; mconnect to look at it."""
    text = (
        b'192.168.1.1:allow,RELAYCLIENT=""\n127.0.0.2:deny\n127.:allow,RELAYCLIENT="",RBLSMTPD="-Blocked."\n:allow\n'
    )
    rules = machine.place / "rules.cdb"
    assert machine.run("tcprules", rules, machine.place / "rules.tmp", data=text).returncode == 0
    said = machine.run("tcprulescheck", rules, TCPREMOTEIP="192.168.1.1").stdout
    assert said == b"rule 192.168.1.1:\nset environment variable RELAYCLIENT=\nallow connection\n"
    assert (
        machine.run("tcprulescheck", rules, TCPREMOTEIP="127.0.0.2").stdout == b"rule 127.0.0.2:\ndeny connection\n"
    )
    port = free_port()
    smtpd = machine.home / "bin" / "qmail-smtpd"
    conversation = b"MAIL FROM:<>\nRCPT TO:<you@elsewhere.example>\nQUIT\n"
    with served(machine, port, machine.home / "bin" / "rblsmtpd", smtpd, options=("-x", str(rules))):
        said = machine.run("mconnect", "127.0.0.1", str(port), data=conversation).stdout
        assert b"\n553 Blocked.\r\n" in said or b"\n553 Blocked.\n" in said
    with served(machine, port, machine.home / "bin" / "fixcrio", smtpd):
        said = machine.run("mconnect", "127.0.0.1", str(port), data=conversation).stdout
        assert b"\n553 " in said.replace(b"\r", b"") and b"Blocked" not in said


def test_w36_an_alias_that_leads_to_two_places(machine: Machine, sink: Sink) -> None:
    """``katou: katou@indy2, ikken``: one copy goes to another host, one is read by POP3."""
    machine.control("me", "nix.co.jj")
    machine.control("locals", "nix.co.jj")
    machine.control("smtproutes", f"indy2.nix.co.jj:{sink.route}")
    (machine.place / "aliases").write_text("ikken: jiro\nkatou: katou@indy2.nix.co.jj, ikken\n")
    assert machine.run("newaliases", machine.place / "aliases").returncode == 0
    (machine.home / "alias" / ".qmail-default").write_text(f"|fastforward -d {machine.place}/aliases.cdb\n")
    machine.dot_qmail(".qmail", "./Maildir/\n")
    for path in (machine.user / "Maildir", *(machine.user / "Maildir" / part for part in ("cur", "new", "tmp"))):
        path.mkdir()
        os.chown(path, 4100, 4100)
    machine.control("pop3users", "jiro:{PLAIN}secret")
    (machine.home / "control" / "pop3users").chmod(0o600)
    machine.boot()
    sent = machine.run("qmail-inject", data=b"to: katou\nsubject: twice\n\nbody\n", USER="root")
    assert sent.returncode == 0, sent.stderr
    wait_until(lambda: len(sink.received()) == 1, "the copy for the other host")
    (there,) = sink.received()
    assert (there.to, there.header("Subject")) == (["katou@indy2.nix.co.jj"], "twice")
    wait_until(lambda: len(list((machine.user / "Maildir" / "new").iterdir())) == 1, "the copy that is kept")
    port = free_port()
    programs = machine.home / "bin"
    popup = (programs / "qmail-popup", "nix.co.jj", programs / "checkpassword", programs / "qmail-pop3d", "Maildir")
    with served(machine, port, *popup):
        read = machine.run(program("curl"), "-s", "--user", "jiro:secret", f"pop3://127.0.0.1:{port}/1").stdout
    assert b"\r\nDelivered-To: katou@nix.co.jj\r\n" in read
    assert b"\r\nsubject: twice\r\n\r\nbody\r\n" in read
