"""A queue engine on a real store, its next hop played here; and the books that must balance after a crash.

What the outside learns (a client that its message is accepted, the next hop a message, an administrator that it is
done) is told in lines, at the moment at which it is learnt. After a crash ``settle`` does what the world would do:
starts anew, has unanswered clients send again, delivers all, and sets what was told against what has arrived.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers.accounting import Ledger, balance
from tests.peers.sink import body_hash, header_field

from ekiden.base.envelope import Envelope, Origin, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.base.reply import Reply
from ekiden.queue.audit import audit
from ekiden.queue.engine import Engine
from ekiden.queue.intake import Arrival, Foreign
from ekiden.queue.lane import Part
from ekiden.queue.sqlite import SQLiteStore
from ekiden.runtime.injection.direct import SILENCE
from ekiden.settings.schema import Settings

SMTP = Origin("smtp", 77, 2, "192.0.2.1", b"client")
SMALL, MIDDLE, LARGE = 2000, 60_000, 300_000
"""Octets; the second go into a segment, the third are beyond ``inlinebytes``."""
FIRST, AGAIN = b"a@example.com", b"again@example.com"
"""Whom new messages are for, and whom when their client sends them once more."""
START = 1_000_000.0
OK = Outcome(Verdict.DELIVERED, "2.0.0", "192.0.2.9 accepted message.\n")
LATER = Outcome(Verdict.DEFERRED, "4.2.0", "192.0.2.9 does not like recipient.\n")
NEVER = Outcome(Verdict.FAILED, "5.1.1", "192.0.2.9 does not like recipient.\n")

_NAMED = re.compile(rb"^Message-ID: *<([^>]+)>", re.MULTILINE | re.IGNORECASE)

Tell = Callable[[str], None]


def size_of(number: int) -> int:
    """How large a message with this number is; its first digit tells."""
    return {"9": LARGE, "5": MIDDLE}.get(str(number)[0], SMALL)


class Desk:
    """The queue in ``directory``, recovered. Recipients ``no@`` are refused; ``later@`` while ``deferring``."""

    def __init__(
        self, directory: Path, tell: Tell, now: float = START, pages: int = 4000, segment_octets: int = 0
    ) -> None:
        self.tell, self.now, self.deferring = tell, now, True
        self._directory = directory
        self.store = SQLiteStore(directory, pages, segment_octets=segment_octets)
        self.store.recover()
        self._attempts: list[tuple[Part, Envelope, bytes]] = []
        settings = Settings(me=b"me", smtproutes={b"": b"192.0.2.9"}, bouncefrom=b"MAILER-DAEMON")
        self.engine = Engine(settings, self.store, SILENCE, self)
        self.engine.recover(now)

    def channels(self) -> list[str]:
        return ["remote", "local"]

    def send(self, part: Part, envelope: Envelope) -> bool:
        spool = part.message.spool
        if spool and spool not in os.listdir(self._directory / "spool"):
            return False
        content = b"" if spool else self.engine.content(part.message)
        if content is None:
            return False
        self._attempts.append((part, envelope, content))
        return True

    def inject(self, number: int, *recipients: Recipient, size: int = SMALL, foreign: str = "") -> None:
        """What intake does with a message; answered with the next commit."""
        identity, content = Ledger().compose(number, size)
        spool = ""
        if size == LARGE:
            spool, content = self._spool(content), b""
        envelope = Envelope(b"s@example.org", list(recipients))

        def answer(reply: int | Reply) -> None:
            self.tell(f"acknowledged {identity}" if isinstance(reply, int) else f"refused {identity}")

        if foreign:
            arrival = Arrival(envelope, SMTP, content, "", size)
            self.engine.take_over(Foreign(foreign.encode(), self.now), arrival, answer)
        else:
            length = self.store.spool_size(spool) if spool else len(content)
            self.engine.accept(Arrival(envelope, SMTP, content, spool, length), self.now, answer)

    def _spool(self, content: bytes) -> str:
        name = os.urandom(6).hex()
        descriptor = self.store.create_spool(name)
        for start in range(0, len(content), 65536):
            os.write(descriptor, content[start : start + 65536])
        os.fsync(descriptor)
        os.close(descriptor)
        return name

    def commit(self) -> bool:
        """False if the device was full."""
        return self.engine.commit()

    def round(self) -> None:
        """Commit, and have what is started come to its result, which is committed too."""
        self.engine.turn(self.now)
        attempts, self._attempts = self._attempts, []
        for part, envelope, content in attempts:
            outcomes = [self._attempt(part, envelope, content, recipient) for recipient in part.recipients]
            self.engine.report(part, outcomes, False, self.now)
        self.commit()

    def _attempt(self, part: Part, envelope: Envelope, content: bytes, recipient: Recipient) -> Outcome:
        if recipient.address.startswith(b"no@"):
            return NEVER
        if recipient.address.startswith(b"later@") and self.deferring:
            return LATER
        if part.message.spool:
            with open(self.store.open_spool(part.message.spool), "rb") as file:
                content = file.read()
        if envelope.sender:
            identity = header_field(content, b"message-id").strip("<>") or "nobody's"
            self.tell(f"delivered {identity} {body_hash(content)} {recipient.address.decode()}")
        else:
            # A notice of delay is no end.
            word = "delayed" if b"Action: delayed" in content else "bounced"
            for named in _NAMED.findall(content.replace(b"\r\n", b"\n")):
                if named.endswith(b"@load.example"):
                    self.tell(f"{word} {named.decode()}")
        return OK

    def drain(self) -> int:
        """Release what is held and deliver all; how many messages are stuck."""
        self.deferring = False
        for row in self.store.messages(0, 1000):
            self.store.release(row.id, self.now)
        for _ in range(12):
            self.engine.tick(self.now)
            self.round()
            if not self.engine.turn(self.now) and not self._attempts and not self.store.messages(0, 1):
                return 0
            self.now += 20_000
        return len(self.store.messages(0, 1000))


@dataclass
class Books:
    """How one crash ended; true if nothing is wrong. ``duplicates`` by their reason."""

    wrong: list[str] = field(default_factory=list)
    duplicates: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return not self.wrong


def settle(
    directory: Path,
    told: Iterable[str],
    ledger: Ledger,
    check: Callable[[Desk, list[str]], str] | None = None,
    foreign: str = "",
    now: float | None = None,
    size: int = 0,
) -> Books:
    """Start on what the crash left, and balance. ``told``: the lines until the crash; ``ledger``: what was sent.

    ``check`` says what is wrong with the queue as it was found, given what was told; "" if nothing is. ``foreign``:
    the message is another queue's, and taken over by this key once more. ``now``: seconds of the epoch, if it is not
    the time of the tests. ``size``: of messages sent once more, if it is not told by their number.
    """
    lines = list(told)
    if now is None:
        now = START + (700_000 if "expired" in lines else 100)
    desk = Desk(directory, lines.append, now)
    books = Books([f"found: {fault}"] if check and (fault := check(desk, lines)) else [])
    ledger.acknowledged |= {line.split()[1] for line in lines if line.startswith("acknowledged")}
    again = sorted(ledger.sent.keys() - ledger.acknowledged)
    for identity in again:
        # The client that was not answered sends once more; so everything must arrive in the end.
        number = int(identity.partition("@")[0])
        desk.inject(number, Recipient(AGAIN), size=size or size_of(number), foreign=foreign)
    stuck = desk.drain()
    if stuck:
        books.wrong.append(f"{stuck} stuck")
    ledger.acknowledged |= set(again)
    _balance(books, lines, ledger, set(again))
    books.wrong += [f"audit: {number}: {problem}" for number, problem in audit(desk.store, 0, 1000).problems]
    if left := os.listdir(directory / "spool"):
        books.wrong.append(f"{len(left)} spool files left over")
    desk.store.close()
    if left := os.listdir(directory / "segments"):
        books.wrong.append(f"{len(left)} segments left over")
    return books


def _balance(books: Books, lines: list[str], ledger: Ledger, again: set[str]) -> None:
    words = [line.split() for line in lines]
    arrivals = [(word[1], word[2]) for word in words if word[0] == "delivered"]
    ended = [word[1] for word in words if word[0] in ("bounced", "deleted")]
    account = balance(ledger, arrivals, ended)
    if not account:
        books.wrong.append(str(account))
    copies = Counter((word[1], word[3]) for word in words if word[0] == "delivered")
    for (identity, recipient), count in copies.items():
        if identity in again and recipient == AGAIN.decode() and copies[identity, FIRST.decode()]:
            books.duplicates["the answer to the client was lost"] += 1
        books.duplicates["a result was not recorded yet"] += count - 1
    notices = Counter(word[1] for word in words if word[0] == "bounced")
    books.duplicates["a notice's result was not recorded yet"] += sum(count - 1 for count in notices.values())
    books.duplicates += Counter()
