"""qmail-local and qmail-queue as work to be crashed: into a Maildir, an mbox, a forward; and the direct way in.

The directory is a home whose daemon does not run: ``queue/`` is written directly. ``user/`` is the recipient's.
"""

from __future__ import annotations

import mailbox
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.crash.desk import LARGE, SMALL, Books, Desk, Tell, settle
from tests.peers.accounting import Ledger
from tests.peers.sink import describe

from ekiden.cli import quietly
from ekiden.installation.scripts import texts
from ekiden.programs import qmail_local, qmail_queue

BEGIN = "begin"
"""Told when the harness has prepared what the work needs."""


def prepare_home(directory: Path, dot_qmail: str = "") -> None:
    for name in ("bin", "control", "queue/spool", "run", *(f"user/Maildir/{part}" for part in ("tmp", "new", "cur"))):
        (directory / name).mkdir(parents=True)
    (directory / "control" / "me").write_text("me.example\n")
    (directory / "bin" / "qmail-queue").write_text(texts(directory)["qmail-queue"])
    (directory / "bin" / "qmail-queue").chmod(0o755)
    (directory / "user" / ".qmail").write_text(dot_qmail)


def message(number: int, size: int) -> tuple[Ledger, bytes]:
    """A message with its line ends as local programs have them."""
    ledger = Ledger()
    _, content = ledger.compose(number, size)
    return ledger, content.replace(b"\r\n", b"\n")


def become(descriptor: int, content: bytes) -> None:
    """Have this content on a descriptor of this process, to be read from its beginning."""
    held = os.memfd_create("input")
    os.write(held, content)
    os.lseek(held, 0, os.SEEK_SET)
    os.dup2(held, descriptor)


def as_run(name: str, program: Callable[[], int], directory: Path, tell: Tell) -> int:
    """Run a program's ``main`` as its command does, what it says on descriptor 2 put into ``said``; its exit code."""
    said = os.open(directory / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    code = 1
    tell(BEGIN)
    try:
        code = quietly(program, name)
    except Exception:
        # What the interpreter does with it.
        traceback.print_exc(file=sys.stderr)
    sys.stderr.flush()
    tell(f"exit {code}")
    return code


@dataclass(frozen=True)
class Injection:
    """qmail-queue while the daemon is stopped."""

    size: int

    def prepare(self, directory: Path, _tell: Tell) -> None:
        prepare_home(directory)

    def act(self, directory: Path, tell: Tell) -> None:
        ledger, content = message(1, self.size)
        become(0, content)
        become(1, b"Fs@example.org\0Ta@example.com\0\0")
        if as_run("qmail-queue", lambda: qmail_queue.main([], directory), directory, tell) == 0:
            tell(f"acknowledged {next(iter(ledger.sent))}")

    def finish(self, directory: Path, told: list[str]) -> Books:
        ledger, _ = message(1, self.size)
        return settle(directory / "queue", told, ledger, now=time.time() + 1, size=self.size)


@dataclass(frozen=True)
class Delivery:
    """qmail-local, with these lines in .qmail."""

    dot_qmail: str
    size: int = 150_000

    def prepare(self, directory: Path, tell: Tell) -> None:
        prepare_home(directory, self.dot_qmail)
        self.deliver(directory, 1)
        tell("delivered 1")

    def act(self, directory: Path, tell: Tell) -> None:
        if as_run("qmail-local", lambda: self.deliver(directory, 2), directory, tell) == 0:
            tell("delivered 2")

    def deliver(self, directory: Path, number: int) -> int:
        """Deliver message ``number`` in this process, or, where that would take its descriptors away, in a child."""
        pid = os.fork() if number != 2 else 0
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        become(0, message(number, self.size)[1])
        become(1, b"")
        user = directory / "user"
        names = ["user", str(user), "user", "", "", "x.example", "s@example.org", "./Mailbox"]
        code = qmail_local.main(["--", *names], directory)
        if number != 2:
            os._exit(code)
        return code

    def finish(self, directory: Path, told: list[str]) -> Books:
        """What the queue does next: deliver again if it was not told, and another message after it."""
        books = Books()
        lock = directory / "user" / "Mailbox.lock"
        if lock.exists() and not lock.read_bytes().endswith(b" ekiden\n"):
            # It does not say whose it is, so that it could be any program's, and holds for five minutes.
            os.utime(lock, (0, 0))
        for number in (2, 3) if "delivered 2" not in told else (3,):
            pid = os.fork()
            if not pid:
                os._exit(Delivery.deliver(self, directory, number))
            if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                books.wrong.append(f"message {number} is not delivered again: {code}")
        expected = {number: message(number, self.size)[0] for number in (1, 2, 3)}
        found = list(self.found(directory))
        for number, ledger in expected.items():
            ((identity, digest),) = ledger.sent.items()
            whole = found.count((identity, digest))
            if not whole and number == 1 and self._is_there_in_front(directory):
                books.duplicates["what is left of a message stands behind another in the mbox"] += 1
            elif not whole:
                books.wrong.append(f"message {number} is lost")
            books.duplicates["the report was lost"] += max(0, whole - 1)
        torn = [entry for entry in found if entry not in [next(iter(one.sent.items())) for one in expected.values()]]
        if torn and "./Mailbox" not in self.dot_qmail:
            books.wrong.append(f"torn: {torn}")
        books.duplicates["the beginning of a message stays in the mbox"] += len(torn)
        books.duplicates += type(books.duplicates)()
        return books

    def _is_there_in_front(self, directory: Path) -> bool:
        """Whether message 1, which was there before the crash, has all its octets, if not its end."""
        path = directory / "user" / "Mailbox"
        return path.exists() and message(1, self.size)[1] in path.read_bytes()

    def found(self, directory: Path) -> list[tuple[str, str]]:
        """Identity and hash of each message where it was to be delivered."""
        user = directory / "user"
        if "./Mailbox" in self.dot_qmail:
            contents = [bytes(entry) for entry in mailbox.mbox(user / "Mailbox", create=False)]
        elif "Maildir" in self.dot_qmail:
            contents = [path.read_bytes() for path in (user / "Maildir" / "new").iterdir()]
        else:
            return self.forwarded(directory)
        return [(str(entry["id"]), str(entry["hash"])) for entry in map(describe, contents)]

    def forwarded(self, directory: Path) -> list[tuple[str, str]]:
        """What comes out of the queue, everything in it being delivered."""
        lines: list[str] = []
        desk = Desk(directory / "queue", lines.append, time.time() + 1)
        desk.drain()
        desk.store.close()
        return [(line.split()[1], line.split()[2]) for line in lines if line.startswith("delivered")]


KINDS = {
    "qmail-queue, small": Injection(SMALL),
    "qmail-queue, large": Injection(LARGE),
    "Maildir": Delivery("./Maildir/\n"),
    "program and forward": Delivery("|cat > copy\n&a@example.com\n", 20_000),
    "mbox": Delivery("./Mailbox\n"),
}
