"""The guide's production site, whole: a relay outside the firewall, a mail store inside, a PC that reads by POP3.

Every host has its own network. Inside there is no DNS; the relay is its own name server. The mail store is Postfix,
where the guide has sendmail, and serves POP3 as popper did. The relay runs in both forms: qmail's programs under
tcpserver, started by boot/init, and the daemon.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.interop.test_open_relay import TRICKS, attempt
from tests.peers.dialogue import dialogue
from tests.peers.ekiden import COMMAND, NOBODY, Ekiden
from tests.peers.machine import Machine
from tests.peers.nameserver import NameServer, host, mx
from tests.peers.network import Network
from tests.peers.postfix import Postfix
from tests.peers.processes import Unavailable, accepts, run, short_directory, wait_until
from tests.peers.sinks import Received, Sink

pytestmark = pytest.mark.slow

RELAY, STORE, PC, WORLD = "202.241.128.3", "192.168.1.1", "192.168.1.4", "202.241.128.50"
RULES = f'{STORE}:allow,RELAYCLIENT=""\n127.:allow,RELAYCLIENT=""\n:allow\n'
PASSES = [
    f"from {RELAY} to {STORE} ipproto tcp dport 25",
    f"from {STORE} to {RELAY} ipproto tcp sport 25",
    f"from {STORE} to {RELAY} ipproto tcp dport 25",
    f"from {RELAY} to {STORE} ipproto tcp sport 25",
]
PEOPLE = ("jiro", "haruo", "ikken")
MAIL = b"Subject: hello\r\n\r\nfrom outside\r\n"


class Site:
    """The hosts. ``start`` and ``stop`` are the relay's."""

    def __init__(self, place: Path, running: ExitStack) -> None:
        self.place = place
        inside = {"store": STORE, "pc": PC}
        self.network = Network({"relay": RELAY, "world": WORLD}, inside, PASSES)
        running.callback(self.network.remove)
        (place / "resolv.conf").write_text(f"nameserver {RELAY}\n")
        with self.network.at("relay"):
            self.relay = Machine(place)
            running.callback(self.relay.stop)
            records = [mx("outside.example", 10, "mx.outside.example"), host("mx.outside.example", WORLD)]
            names = NameServer(place, records, RELAY, 53)
            names.start()
            running.callback(names.stop)
        with self.network.at("world"):
            self.world = Sink(place / "world", host=WORLD, port=25)
            self.world.start()
            running.callback(self.world.stop)
        self._make_store(running)
        self._configure()

    def _make_store(self, running: ExitStack) -> None:
        """hostB: keeps the mail of nix.co.jj, sends all else to the relay, serves POP3."""
        boxes = self.place / "boxes"
        boxes.mkdir()
        os.chown(boxes, NOBODY, NOBODY)
        self.store = Postfix(
            self.place / "postfix",
            25,
            {
                "myhostname": "hostB.nix.co.jj",
                "mydestination": "hostB.nix.co.jj",
                "myorigin": "nix.co.jj",
                "mynetworks": "192.168.1.0/24",
                "relayhost": f"[{RELAY}]",
                "disable_dns_lookups": "yes",
                "smtpd_peername_lookup": "no",  # Nobody would answer: each client would wait for five seconds.
                "virtual_mailbox_domains": "nix.co.jj",
                "virtual_mailbox_base": str(boxes),
                "virtual_mailbox_maps": "inline:{" + ", ".join(f"{name}@nix.co.jj={name}/" for name in PEOPLE) + "}",
                "virtual_uid_maps": f"static:{NOBODY}",
                "virtual_gid_maps": f"static:{NOBODY}",
                "virtual_minimum_uid": "1",
            },
            host=STORE,
        )
        self.popper = Ekiden(self.place / "popper", "hostB.nix.co.jj")
        self.popper.home.mkdir(parents=True)
        self.popper.configure()
        self.popper.control("listen", f"pop3 {STORE}:110")
        lines = [f"{name}:{{PLAIN}}secret:{NOBODY}:{NOBODY}:{boxes}/{name}:./" for name in PEOPLE]
        self.popper.control("pop3users", *lines)
        self.popper.control("pop3plaintext", "always")
        self.boxes = boxes
        with self.network.at("store"):
            self.store.start()
            running.callback(self.store.stop)
            self.popper.start()
            running.callback(self.popper.stop)

    def _configure(self) -> None:
        """W23, as it stands there."""
        control = self.relay.control
        control("me", "nix.co.jj")
        control("rcpthosts", "nix.co.jj")
        control("smtproutes", f"nix.co.jj:[{STORE}]")
        control("locals", "localhost", "hostA.nix.co.jj")
        control("defaultdomain", "nix.co.jj")
        control("plusdomain", "co.jj")
        self.rules(RULES)

    def rules(self, text: str) -> None:
        """``tcprules /etc/tcp.smtp.cdb /etc/tcp.smtp.tmp < /etc/tcp.smtp``, and the daemon's own copy."""
        place = self.relay.place
        built = self.relay.run("tcprules", place / "tcp.smtp.cdb", place / "tcp.smtp.tmp", data=text.encode())
        assert built.returncode == 0, built.stderr
        (place / "tcp.smtp.cdb").chmod(0o644)
        beside = self.relay.home / "control" / "tcp.smtp.new"
        beside.write_text(text)
        beside.rename(self.relay.home / "control" / "tcp.smtp")

    def start(self) -> None:
        """W24: the script, as it runs at boot."""
        done = self.relay.run(self.relay.home / "boot" / "init", "start", RULES=str(self.place / "tcp.smtp.cdb"))
        assert (done.returncode, done.stderr) == (0, b"")
        self._wait()

    def stop(self) -> None:
        assert self.relay.run(self.relay.home / "boot" / "init", "stop").returncode == 0

    def _wait(self) -> None:
        with self.network.at("relay"):
            wait_until(lambda: accepts(RELAY, 25), "the relay listens")

    def reads(self, name: str, number: int = 1) -> str:
        """What the PC gets of a user's mail by POP3."""
        with self.network.at("pc"):
            return run(["curl", "-sf", "--user", f"{name}:secret", f"pop3://{STORE}/{number}"], check=False).stdout

    def box(self, name: str) -> list[Path]:
        """A user's messages on the mail store."""
        return sorted((self.boxes / name / "new").glob("*")) + sorted((self.boxes / name / "cur").glob("*"))

    def offer(self, sender: str, recipient: str) -> str:
        """What the relay says to a message from wherever this thread is."""
        with dialogue(25, host=RELAY) as talk:
            return talk.message(MAIL, sender, recipient)


class DaemonSite(Site):
    """The relay is one daemon."""

    def start(self) -> None:
        self.relay.control("listen", f"smtp {RELAY}:25")
        done = self.relay.run(COMMAND, "--home", self.relay.home, "start")
        assert done.returncode == 0, done.stdout + done.stderr
        self._wait()

    def stop(self) -> None:
        self.relay.run(COMMAND, "--home", self.relay.home, "stop")


def make(form: Callable[[Path, ExitStack], Site], place: Path) -> Iterator[Site]:
    with ExitStack() as running:
        try:
            site = form(place, running)
        except Unavailable as reason:
            pytest.skip(str(reason))
        site.start()
        yield site
        site.stop()


@pytest.fixture(scope="module", params=[Site, DaemonSite], ids=["tcpserver", "daemon"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """One for all tests of a form: each leaves it running, with other people's mail in it."""
    with short_directory("ekiden") as place:
        yield from make(request.param, place)


in_the_classic_form = pytest.mark.parametrize("site", [Site], ids=["tcpserver"], indirect=True)


def test_w1_w2_w3_w5_w23_w26_mail_both_ways_and_no_open_relay(site: Site) -> None:
    with site.network.at("world"):
        assert site.offer("friend@outside.example", "jiro@nix.co.jj")[:3] == "250"
        assert site.offer("friend@outside.example", "victim@elsewhere.example")[:3] == "553"
        for sender, recipient in TRICKS:
            attempt(25, sender, recipient, RELAY)
        # The firewall lets nobody else through.
        assert not accepts(STORE, 25)
    with site.network.at("relay"):
        assert not accepts(STORE, 110)
    wait_until(lambda: bool(site.box("jiro")), "mail on the mail store")
    assert "\n\nfrom outside\n" in site.reads("jiro")
    assert "(HELO client.example)" in site.reads("jiro")

    with site.network.at("store"):
        site.store.send("jiro@nix.co.jj", ["friend@outside.example"], "Subject: answer\n\nfrom inside\n")

    def answers() -> list[Received]:
        # The tricks that are odd names of local mailboxes came back to their sender.
        return [message for message in site.world.received() if message.header("Subject") == "answer"]

    wait_until(lambda: bool(answers()), "mail outside")
    (answer,) = answers()
    assert answer.to == ["friend@outside.example"]
    assert answer.content.endswith(b"\r\n\r\nfrom inside\r\n")
    assert STORE.encode() in answer.content
    travelled = [message for message in site.world.received() if message.header("Subject") == "relayed"]
    assert travelled == []


def test_w25_the_administrator_gets_the_hosts_own_mail(site: Site) -> None:
    """Aliases carry over: root, Postmaster and MAILER-DAEMON go to the administrator on the mail store."""
    for name in ("root", "postmaster", "mailer-daemon"):
        file = site.relay.home / "alias" / f".qmail-{name}"
        file.write_text("&ikken@nix.co.jj\n")
        file.chmod(0o644)
    sendmail = site.relay.home / "bin" / "sendmail"
    sent = site.relay.run(sendmail, "root@hostA.nix.co.jj", data=b"Subject: cron\n\nall is well\n")
    assert sent.returncode == 0, sent.stderr
    wait_until(lambda: len(site.box("ikken")) == 1, "root's mail on the mail store")
    assert site.box("ikken")[0].read_text().endswith("\n\nall is well\n")


def test_w23_rules_are_rebuilt_under_load(site: Site) -> None:
    """No connection is refused or wrongly allowed while rules are rebuilt without a pause."""
    over = threading.Event()
    wrong: list[str] = []
    seen = {"world": 0, "store": 0}

    def knock(where: str, expected: str) -> None:
        with site.network.at(where):
            while not over.is_set():
                try:
                    with dialogue(25, host=RELAY) as talk:
                        talk.say("MAIL FROM:<a@outside.example>")
                        reply = talk.say("RCPT TO:<somebody@elsewhere.example>")
                except (OSError, EOFError) as error:
                    reply = repr(error)
                seen[where] += 1
                if not reply.startswith(expected):
                    wrong.append(f"{where}: {reply}")

    threads = [threading.Thread(target=knock, args=pair) for pair in (("world", "553"), ("store", "250"))]
    for thread in threads:
        thread.start()
    with contextlib.ExitStack() as ending:
        ending.callback(lambda: [thread.join() for thread in threads])
        ending.callback(over.set)
        rebuilt = 0
        while min(seen.values()) < 10 and rebuilt < 200:
            site.rules(RULES + f"10.0.0.{rebuilt % 200}:deny\n")
            rebuilt += 1
    assert wrong == []
    assert min(seen.values()) >= 10


@in_the_classic_form
def test_w25_sendmail_is_replaced(site: Site) -> None:
    """Mail is tried beside the old mail system; then that is emptied, stopped, and replaced by the wrapper."""
    site.stop()
    parameters = {
        "myhostname": "hostA.nix.co.jj",
        "relayhost": f"[{STORE}]",
        "disable_dns_lookups": "yes",
        "smtpd_peername_lookup": "no",
    }
    old = Postfix(site.place / "old", 25, parameters, host=RELAY)
    with site.network.at("relay"):
        old.start()
        try:
            rc = site.relay.boot()
            sent = site.relay.run("qmail-inject", data=b"to: jiro@hostA.nix.co.jj\n\ntest\n", USER="root")
            assert sent.returncode == 0, sent.stderr
            mailbox = site.relay.user / "Mailbox"
            wait_until(lambda: mailbox.exists() and mailbox.read_bytes().endswith(b"\n\n"), "~jiro/Mailbox")
            old.send("root@nix.co.jj", ["haruo@nix.co.jj"], "Subject: last\n\nby the old one\n")
            wait_until(lambda: not old.queue() and bool(site.box("haruo")), "the old queue to empty")
            rc.terminate()
            assert rc.wait(60) == 0
        finally:
            old.stop()
    lib = site.place / "lib"
    lib.mkdir()
    (lib / "sendmail").symlink_to(site.relay.home / "bin" / "sendmail")
    site.start()
    sent = site.relay.run(lib / "sendmail", "-t", data=b"To: haruo@nix.co.jj\nSubject: first\n\nby the new one\n")
    assert sent.returncode == 0, sent.stderr
    wait_until(lambda: len(site.box("haruo")) == 2, "mail by the new one")
    with site.network.at("world"):
        assert site.offer("friend@outside.example", "haruo@nix.co.jj")[:3] == "250"
    wait_until(lambda: len(site.box("haruo")) == 3, "mail from the world")


@in_the_classic_form
def test_w24_term_waits_for_deliveries_to_the_mail_store(site: Site) -> None:
    """A transaction that is under way when stop comes is finished, and the message is there once."""
    site.stop()
    with site.network.at("store"):
        site.store.stop()
        slow = Sink(site.place / "slow", "--delay", "DOT=5", host=STORE, port=25)
        slow.start()
    try:
        site.start()
        with site.network.at("world"):
            assert site.offer("friend@outside.example", "jiro@nix.co.jj")[:3] == "250"
        shown = [site.relay.home / "bin" / "qmail-qstat"]
        wait_until(lambda: is_busy(site), "the delivery to begin")
        stopping: subprocess.Popen[bytes] = site.relay.start(site.relay.home / "boot" / "init", "stop")
        assert stopping.wait(60) == 0
        (message,) = slow.received()
        assert message.to == ["jiro@nix.co.jj"]
        site.start()
        assert site.relay.run(*shown).stdout.startswith(b"messages in queue: 0\n")
        assert len(slow.received()) == 1
    finally:
        slow.stop()
        with site.network.at("store"):
            site.store.start()


def is_busy(site: Site) -> bool:
    """Whether somebody is connected to the mail store."""
    with site.network.at("store"):
        said = run(["ss", "-Htn", "state", "established", "sport = :25"]).stdout
    return bool(said.strip())
