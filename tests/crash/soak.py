"""A site for a soak: mixed traffic into a home on a small device, and what may go wrong there in a day.

All of it at a bounded pace, about a third of a processor, so that a soak can go on for long beside other work.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.measure import anonymous_bytes
from tests.crash.nemesis import Nemesis
from tests.crash.readers import Mover, Pop3Reader, over_and_over
from tests.peers.accounting import Account, Ledger
from tests.peers.client import LoadClient
from tests.peers.deliveries import account, named_by_notices
from tests.peers.ekiden import COMMAND, Ekiden
from tests.peers.processes import free_port, kill, process_tree, run
from tests.peers.sinks import Sink

RECIPIENTS = [
    "inbox@ekiden.example",
    "somebody@sink.example",
    "flaky@flaky.example",
    "one@sink.example two@sink.example three@sink.example four@sink.example",
    "reject@sink.example",
    "mbox@ekiden.example",
    "program@ekiden.example",
    "forward@ekiden.example",
    "somebody@sink.example",
    "unwanted@sink.example",
    "reader@ekiden.example",
    "moved@ekiden.example",
    "list@ekiden.example",
]
SIZES = [2000, 2000, 2000, 100_000, 400_000]
"""Octets; the last is beyond ``inlinebytes``. Only the mbox gets none but small ones: a large one half written by a
process that is killed stays in it."""

INJECTED = 10_000_000
"""Numbers from here on are those of messages that qmail-inject hands in."""

SESSIONS, MESSAGE_PAUSE, INJECT_PAUSE, POP3_PAUSE, MOVE_PAUSE, TROUBLE_PAUSE = 6, 0.2, 1.0, 1.0, 2.0, 0.5
"""How many SMTP clients there are, and how many seconds each of them and all others wait before their next turn."""

STORE = "f=tmp/$(date +%s%N).$$; cat >$f && mv $f new/"


class Site:
    """ekiden, its mailboxes, their readers, and two next hops, one of which is now and then not there."""

    def __init__(self, ekiden: Ekiden, sink: Sink, flaky: Sink, seed: int) -> None:
        self.ekiden = ekiden
        self.flaky = flaky
        self.ledger = Ledger()
        self._sink = sink
        sink.stop()
        sink.start("--reply", "RCPT TO:<REJECT@=550 5.1.1 nobody here")
        ekiden.routes(f"flaky.example:{flaky.route}", f":{sink.route}")
        ekiden.control("badrcptto", "unwanted@sink.example")
        ekiden.control("reuseseconds", "1")
        ekiden.control("logfilebytes", "1000000")
        ekiden.control("logfilecount", "60")
        names = ("inbox", "mbox", "program", "forward", "reader", "moved", "list", "list-owner")
        inbox, box, program, forward, reader, moved, subscribers, self._owner = map(ekiden.make_inbox, names)
        (box.parent / ".qmail").write_text("./Mailbox\n")
        (program.parent / ".qmail").write_text(f"|cd Maildir; {STORE}\n")
        (forward.parent / ".qmail").write_text("&somebody@sink.example\n")
        (subscribers.parent / ".qmail").write_text("&one@sink.example\n&reject@sink.example\n&two@sink.example\n")
        (subscribers.parent / ".qmail-owner").write_text("")
        port = free_port()
        listen = ekiden.home / "control" / "listen"
        ekiden.control("listen", *listen.read_text().splitlines(), f"pop3 127.0.0.1:{port}")
        self.reader = Pop3Reader(ekiden, port, {"reader": reader, "mbox": box.parent / "Mailbox"})
        self.mover = Mover(moved, seed)
        self._mailboxes = [inbox, program, self.mover.mbox]

    def close_books(self) -> tuple[Account, set[str]]:
        """Empty the mailboxes that are read, and balance; and mail to the list whose owner was not told of the
        subscriber who does not exist."""
        self.mover.finish()
        while self.reader.turn():
            pass
        told = named_by_notices(self._owner)
        listed = {identity for identity in self.ledger.acknowledged if _recipient(identity).startswith("list@")}
        return account(self.ledger, self._sink, *self._mailboxes, read=self.reader.arrivals), listed - told

    @contextmanager
    def traffic(self, first: int) -> Iterator[None]:
        """Mail comes in while the block runs, by SMTP and by qmail-inject; numbers begin with ``first``."""
        client = LoadClient(
            self.ekiden.port, self.ledger, RECIPIENTS, SESSIONS, size=_size, pause=MESSAGE_PAUSE, first=first
        )
        reading, moving = over_and_over(self.reader.turn, POP3_PAUSE), over_and_over(self.mover.turn, MOVE_PAUSE)
        stopping = threading.Event()
        injecting = threading.Thread(target=self._inject, args=(stopping, INJECTED + first))
        injecting.start()
        try:
            with client.running(), reading, moving:
                yield
        finally:
            stopping.set()
            injecting.join()

    def _inject(self, stopping: threading.Event, number: int) -> None:
        while not stopping.wait(INJECT_PAUSE):
            number += 1
            identity, content = self.ledger.compose(number)
            words = [COMMAND, "--home", self.ekiden.home, "qmail-inject", "-fsender@load.example"]
            recipient = "inbox@ekiden.example" if number % 2 else "somebody@sink.example"
            text = content.decode().replace("\r\n", "\n")
            if run([*words, recipient], check=False, input=text).returncode == 0:
                self.ledger.acknowledged.add(identity)

    def look(self) -> Look:
        """What is held at rest."""
        # Until connections kept for more mail to the same host are let go.
        time.sleep(2.5)
        return Look(
            {pid: Footprint.of(pid, role) for pid, role in self.ekiden.roles().items()},
            (self.ekiden.home / "queue" / "queue.sqlite").stat().st_size,
        )


@dataclass(frozen=True)
class Footprint:
    """What a role's process and its children hold: memory that is no file's (octets), open descriptors."""

    role: str
    memory: int
    descriptors: int

    @classmethod
    def of(cls, pid: int, role: str) -> Footprint:
        """Look at a process."""
        tree = process_tree([pid])
        return cls(role, anonymous_bytes(tree), sum(len(os.listdir(f"/proc/{one}/fd")) for one in tree))


@dataclass(frozen=True)
class Look:
    """What the supervisor's children hold, by process id, and how many octets the queue's database has."""

    processes: dict[int, Footprint]
    database: int


def _recipient(identity: str) -> str:
    """Whom a message of the SMTP client's is for; "" for qmail-inject's."""
    number = int(identity.partition("@")[0])
    return RECIPIENTS[number % len(RECIPIENTS)] if number < INJECTED else ""


def _size(number: int) -> int:
    recipient = RECIPIENTS[number % len(RECIPIENTS)]
    return SIZES[0] if recipient.startswith("mbox") else SIZES[number // len(RECIPIENTS) % len(SIZES)]


class Troubles:
    """What goes wrong, seeded: the n-th trouble of a seed is always the same one."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._seed = seed
        self._random = random.Random()
        self._nemesis = Nemesis(site.ekiden, seed)
        self._others = [self._next_hop_gone, self._full, self._storm, self._hold]
        self._reloads = [self._reload, self._hang_up]
        self._began = time.monotonic()
        self.history: list[str] = []

    def go_on(self, seconds: float, kills: bool = False, reloads: bool = False) -> None:
        """One trouble after another for that long."""
        others = [*self._others, *self._reloads] if reloads else self._others
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._random.seed(f"{self._seed} {len(self.history)}")
            if kills and self._random.random() < 0.5:
                self._happen(self._kill)
            else:
                self._happen(self._random.choice(others))
            time.sleep(TROUBLE_PAUSE)

    def _happen(self, trouble: Callable[[], str | None]) -> None:
        """Printed as it goes: of a trouble that never ends nothing else would be known."""
        print(f"{time.monotonic() - self._began:8.2f} {trouble.__name__.strip('_')}", end=" ", flush=True)
        what = trouble() or ""
        print(what, flush=True)
        self.history.append(f"{trouble.__name__.strip('_')} {what}".strip())

    def _kill(self) -> str:
        self._nemesis.strike()
        return self._nemesis.history[-1]

    def _pause(self, most: float = 1.0) -> None:
        time.sleep(self._random.uniform(0.1, most))

    def _next_hop_gone(self) -> None:
        self._site.flaky.stop()
        self._pause(2.0)
        self._site.flaky.start()

    def _full(self) -> None:
        """The device is full for a moment."""
        ballast = self._site.ekiden.home / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 20)):
                    pass
            except OSError:
                self._pause()
        ballast.unlink()

    def _reload(self) -> None:
        ekiden = self._site.ekiden
        ekiden.control("concurrencyremote", str(self._random.randrange(2, 40)))
        ekiden.control("concurrencylocal", str(self._random.randrange(1, 20)))
        ekiden.control("recipientspertransaction", str(self._random.choice([4, 50])))
        ekiden.command("reload", check=False)

    def _storm(self) -> None:
        self._signal(signal.SIGALRM, signal.SIGCHLD)

    def _hang_up(self) -> None:
        self._signal(signal.SIGALRM, signal.SIGCHLD, signal.SIGHUP)

    def _signal(self, *numbers: signal.Signals) -> None:
        supervisor = self._site.ekiden.supervisor()
        for _ in range(10 if supervisor else 0):
            kill(supervisor, self._random.choice(numbers))
            time.sleep(0.01)
        self._pause()

    def _hold(self) -> None:
        command = self._site.ekiden.command
        command("queue", "hold", "--recipient", "*@flaky.example", check=False)
        self._pause()
        command("queue", "requeue", "--recipient", "somebody@*", check=False)
        command("queue", "release", "--all", check=False)
