"""Too little memory, in steps: programs say that the trouble may pass, roles refuse or start anew, nothing is lost.

``--every-point`` takes steps of 128 KiB for programs, and more limits for roles.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.crash.desk import LARGE, SMALL, settle
from tests.crash.mailboxes import Delivery, prepare_home
from tests.crash.memory import ENOUGH, KIB, MIB, is_interpreters, least, limit_role, limited
from tests.peers.accounting import Ledger, balance
from tests.peers.client import OUT_OF_PATIENCE, LoadClient
from tests.peers.deliveries import account, drain
from tests.peers.ekiden import Ekiden
from tests.peers.sinks import Sink

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="limiting others' memory needs root")]

MAILBOXES = {"qmail-local into a Maildir": "./Maildir/\n", "qmail-local into an mbox": "./Mailbox\n"}
TEMPORARY = {
    "qmail-queue": {*range(51, 64), 81, 111},
    "qmail-smtpd": {1, 111, -signal.SIGPROF},
}
"""Of the last, the signal ends an interpreter that goes round in circles while it loads modules."""
PROGRAMS = ["qmail-queue", "qmail-inject", "sendmail", "qmail-smtpd", *MAILBOXES]


class Trial:
    """One program in a home that is not running, and what it said of each message."""

    def __init__(self, home: Ekiden, program: str) -> None:
        self._program = program
        self._bin = home.home / "bin"
        self.directory = home.home.parent / "mailboxes"
        self.directory.mkdir()
        prepare_home(self.directory, MAILBOXES.get(program, ""))
        self.ledger = Ledger()
        self._number = 1000
        self.outcomes: Counter[str] = Counter()

    def run(self, octets: int) -> bool:
        """Hand in one more message, every other one a large one; whether that was taken."""
        self._number += 1
        large = self._number % 2
        number = self._number + 9_000_000 * large
        identity, content = self.ledger.compose(number, LARGE if large else SMALL)
        done = limited(self._command(), octets, *self._input(content), self._environment())
        temporary = TEMPORARY.get(self._program, {111})
        taken = done.returncode == 0
        if self._program == "qmail-smtpd":
            replies = [line[:3] for line in done.stdout.split(b"\r\n") if line]
            assert not any(reply.startswith(b"5") for reply in replies), done.stdout
            # Behind those to the greeting, EHLO, MAIL, RCPT and DATA.
            taken = b"250" in replies[replies.index(b"354") :] if b"354" in replies else False
            if any(reply.startswith(b"4") for reply in replies):
                # It has told its client, who may take leave.
                temporary = temporary | {0}
        if taken:
            self.ledger.acknowledged.add(identity)
        elif is_interpreters(done.stderr) or done.returncode in (127, -6):
            self.outcomes["no interpreter"] += 1
            return False
        else:
            assert done.returncode in temporary, f"{octets >> 10} KiB: {done.returncode} {done.stderr.decode()}"
            # The standard library's hashlib says what it lacks, and goes on.
            assert b"Traceback" not in done.stderr or b"hashlib.py" in done.stderr, done.stderr.decode()
        self.outcomes["taken" if taken else str(done.returncode)] += 1
        return taken

    def _command(self) -> list[str | Path]:
        name = self._program.partition(" ")[0]
        arguments: list[str] = []
        if name in ("qmail-inject", "sendmail"):
            arguments = ["-fs@example.org", "a@example.com"]
        elif name == "qmail-local":
            user = str(self.directory / "user")
            arguments = ["--", "user", user, "user", "", "", "x.example", "s@example.org", "./Mailbox"]
        return [self._bin / name, *arguments]

    def _input(self, content: bytes) -> tuple[bytes, bytes | None]:
        if self._program == "qmail-smtpd":
            commands = b"EHLO x\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<a@example.com>\r\nDATA\r\n"
            return commands + content.replace(b"\r\n.", b"\r\n..") + b".\r\nQUIT\r\n", None
        envelope = b"Fs@example.org\0Ta@example.com\0\0" if self._program == "qmail-queue" else None
        return content.replace(b"\r\n", b"\n"), envelope

    def _environment(self) -> dict[str, str]:
        client = {"PROTO": "TCP", "TCPREMOTEIP": "127.0.0.1", "RELAYCLIENT": ""}
        return client if self._program == "qmail-smtpd" else {}

    def wrong(self, queue: Path) -> str:
        """What the books say when there is memory again; "" if they balance."""
        if self._program not in MAILBOXES:
            books = settle(queue, [], self.ledger, now=time.time() + 1)
            return "" if books else str(books)
        found = Delivery(MAILBOXES[self._program]).found(self.directory)
        balanced = balance(self.ledger, found)
        return "" if balanced and not balanced.duplicates else str(balanced)


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_without_memory_say_that_it_may_pass(
    home: Ekiden, program: str, pytestconfig: pytest.Config
) -> None:
    trial = Trial(home, program)
    octets, enough = least(), 0
    while enough < ENOUGH:
        enough = enough + 1 if trial.run(octets) else 0
        octets += 128 * KIB if pytestconfig.getoption("--every-point") else 2176 * KIB
        assert octets < 512 * MIB
    print(f"{program}: {dict(trial.outcomes)}")
    assert len(trial.outcomes) > 1, "memory was always enough"
    assert not (problem := trial.wrong(home.home / "queue")), problem


ROLES = ("smtpd", "queue", "remote", "local")
SIZES = (2000, 200_000, 3_000_000)


def test_roles_without_memory_lose_nothing(home: Ekiden, sink: Sink, pytestconfig: pytest.Config) -> None:
    home.routes(f":{sink.route}")
    inbox = home.make_inbox("inbox")
    home.start()
    ledger = Ledger()
    recipients = ["a@sink.example", "inbox@ekiden.example"]
    # What is loaded with the first message is there.
    LoadClient(home.port, ledger, recipients, sessions=2, limit=4).run()
    steps = (0, 1, 2, 4, 8, 16) if pytestconfig.getoption("--every-point") else (1,)
    first = 1000
    for more in steps:
        for role in ROLES:
            limit_role(home.roles(), role, more * MIB)
            LoadClient(home.port, ledger, recipients, 4, limit=24, size=lambda n: SIZES[n % 3], first=first).run()
            # Nobody is kept waiting for what was forgotten.
            assert not ledger.troubles[OUT_OF_PATIENCE], f"{role} with {more} MiB\n{home.log()[-3000:]}"
            limit_role(home.roles(), role, None)
            first += 1000
    assert drain(home, 60) == 0, home.log()[-3000:]
    books = account(ledger, sink, inbox)
    print(f"{len(ledger.acknowledged)} of {len(ledger.sent)} acknowledged, {ledger.refused} refused, {books}")
    assert books and ledger.acknowledged
    assert len(ledger.acknowledged) < len(ledger.sent), "memory was always enough"
    assert "Traceback" not in home.log()
    assert list((home.home / "queue" / "spool").iterdir()) == []
    assert home.command("audit", check=False).returncode == 0
