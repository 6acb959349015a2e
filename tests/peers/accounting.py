"""The oracle of reliability: what was sent, acknowledged and received, set against each other.

A message's identity is its Message-ID, its integrity the hash of its body. ``sent`` is noted before the client's
first octet of it, ``acknowledged`` after the reply to its end of data, so that a crash anywhere leaves the ledger
right. A bounce counts as received if it names the message: the sender has been told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.peers.sink import body_hash


@dataclass
class Ledger:
    """What the client has done: identities with their hashes, those that were acknowledged, and what went wrong."""

    sent: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    refused: int = 0
    broken: int = 0
    troubles: Counter[str] = field(default_factory=Counter)

    def compose(self, number: int, size: int = 2000) -> tuple[str, bytes]:
        """A new message: its identity, and its content with CRLF line ends; noted as sent."""
        identity = f"{number}@load.example"
        line = f"message {number} "
        text = (line * (70 // len(line) + 1))[:70] + "\r\n"
        body = "".join([text] * max(1, size // len(text)) + [f".end of {number}\r\n"])
        header = f"From: <sender@load.example>\r\nMessage-ID: <{identity}>\r\nSubject: load {number}\r\n"
        content = f"{header}\r\n{body}".encode()
        self.sent[identity] = body_hash(content)
        return identity, content


@dataclass(frozen=True)
class Account:
    """The result. All but ``duplicates`` must be empty; a crash may double what it interrupts, and nothing else."""

    lost: set[str]
    torn: set[str]
    phantom: set[str]
    duplicates: int

    def __bool__(self) -> bool:
        """Whether the books balance."""
        return not (self.lost or self.torn or self.phantom)

    def __str__(self) -> str:
        counts = f"{len(self.lost)} lost, {len(self.torn)} torn, {len(self.phantom)} phantom, "
        examples = sorted(self.lost | self.torn | self.phantom)[:5]
        return f"{counts}{self.duplicates} duplicated{' e.g. ' if examples else ''}{', '.join(examples)}"


def balance(ledger: Ledger, received: Iterable[tuple[str, str]], bounced: Iterable[str] = ()) -> Account:
    """Set the ledger against what arrived: (identity, hash) of each delivery, identities that bounces name."""
    arrivals = list(received)
    counts = Counter(identity for identity, _ in arrivals)
    told = counts.keys() | set(bounced)
    return Account(
        lost=ledger.acknowledged - told,
        torn={identity for identity, hash in arrivals if ledger.sent.get(identity, hash) != hash},
        phantom=told - ledger.sent.keys(),
        duplicates=sum(count - 1 for count in counts.values()),
    )
