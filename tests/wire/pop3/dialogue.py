"""Reading and playing the transcripts ``pop3d-*.txt`` in tests/dialogues.

Lines: ``C: `` what the client says, ended by CRLF; ``C= `` octets as they are, with Python's escapes; ``S: `` a line
of the server; ``T: `` TLS is made; ``# `` a remark; ``% name=value`` a field of the profile; ``% steps``: meaningless
if said all at once; ``% removed=1,3``: the messages that the session removes, at its end.

The user of these tests is ``jiro``, his password ``secret word``; ``busy``'s mailbox is in use. The mailbox has the
three messages below.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ekiden.wire import sasl
from ekiden.wire.pop3.content import END, octets, pieces, top, whole
from ekiden.wire.pop3.events import (
    Apop,
    Ended,
    Event,
    Listing,
    Login,
    Proven,
    Retrieve,
    ScramBegins,
    ScramProof,
    StartTls,
    Stat,
    Update,
)
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.server import Server

DIALOGUES = Path(__file__).resolve().parents[2] / "dialogues"

PASSWORD = b"secret word"
TIMESTAMP = b"<1896.697170952@mx.example>"
KEYS = sasl.scram_keys(PASSWORD, b"salt of test", 4096)
NONCE = b"servernonce"
MESSAGES = {
    1: b"Subject: one\n\nfirst\n.\n..dots\nlast\n",
    2: b"Subject: two\r\n\r\ncrlf\r\nno end",
    3: b"Subject: three\n\n",
}


@dataclass
class Step:
    """What the client says at once, and what it is told."""

    said: bytes = b""
    expected: bytes = b""
    tls: bool = False


@dataclass
class Dialogue:
    """One transcript."""

    steps: list[Step] = field(default_factory=lambda: [Step()])
    profile: dict[str, Any] = field(default_factory=dict)
    only_steps: bool = False
    removed: frozenset[int] = frozenset()


class Player:
    """A shell that answers by the rules above."""

    def __init__(self, profile: Profile, secured: bool = False) -> None:
        self.server = Server(profile, secured)
        self.events: list[Event] = []
        self.removed: frozenset[int] = frozenset()
        self.output = b""
        self.ended = False
        self.server.greet()
        self.output += self.server.output()

    def say(self, data: bytes) -> None:
        """Octets from the client; every question is answered at once."""
        self.server.receive(data)
        while (event := self.server.next_event()) is not None:
            self.events.append(event)
            self._answer(event)
        self.output += self.server.output()

    def secure(self) -> None:
        self.server.secured()
        self.say(b"")

    def _answer(self, event: Event) -> None:
        assert not self.ended, event
        server = self.server
        match event:
            case Login(user=user, password=password):
                self._enter(user, password == PASSWORD)
            case Apop(user=user, digest=digest):
                right = hashlib.md5(TIMESTAMP + PASSWORD).hexdigest().encode()
                self._enter(user, digest == right)
            case ScramBegins():
                server.offer(KEYS.salt, KEYS.iterations, NONCE)
            case ScramProof(user=user, signed=signed, proof=proof):
                signature = sasl.scram_signature(KEYS, signed, proof)
                if signature is None or user != b"jiro":
                    server.refuse("authentication failed", "AUTH")
                else:
                    server.sign(signature)
            case Proven(user=user):
                self._enter(user, True)
            case StartTls():
                server.answer()
            case Stat():
                left = [octets(text) for number, text in MESSAGES.items() if number not in server.deleted]
                server.answer(b"+OK %d %d\r\n" % (len(left), sum(left)))
            case Listing():
                self._list(event)
            case Retrieve(number=number, lines=lines):
                text = MESSAGES[number]
                sent = whole(text) if lines < 0 else b"".join(pieces(top([text], lines)))
                server.answer(b"+OK\r\n" + sent + END)
            case Update(deleted=deleted):
                self.removed = deleted
                server.answer()
            case Ended():
                self.ended = True
            case _:
                raise AssertionError(event)

    def _enter(self, user: bytes, right: bool) -> None:
        if user == b"busy":
            self.server.refuse("mailbox is in use", "IN-USE")
        elif right and user == b"jiro":
            self.server.open(len(MESSAGES))
        else:
            self.server.refuse("authentication failed", "AUTH")

    def _list(self, event: Listing) -> None:
        def line(number: int) -> bytes:
            value = b"uid-%d" % number if event.unique else b"%d" % octets(MESSAGES[number])
            return b"%d %b\r\n" % (number, value)

        if event.number:
            self.server.answer(b"+OK " + line(event.number))
        else:
            lines = (line(number) for number in MESSAGES if number not in self.server.deleted)
            self.server.answer(b"+OK\r\n" + b"".join(lines) + b".\r\n")


def read(path: Path) -> Dialogue:
    """A transcript; ValueError for a line that is none of the above."""
    dialogue = Dialogue()
    for line in path.read_text().splitlines():
        step = dialogue.steps[-1]
        mark, text = line[:3], line[3:]
        if mark in ("C: ", "C= ", "T: ") and step.expected:
            step = Step()
            dialogue.steps.append(step)
        if mark == "C: " or line == "C:":
            step.said += text.encode() + b"\r\n"
        elif mark == "C= ":
            step.said += text.encode().decode("unicode_escape").encode("latin-1")
        elif mark == "S: " or line == "S:":
            step.expected += text.encode() + b"\r\n"
        elif mark == "T: ":
            step.tls = True
        elif line.startswith("% "):
            _configure(dialogue, line[2:])
        elif line and not line.startswith("#"):
            raise ValueError(f"{path.name}: {line}")
    return dialogue


def _configure(dialogue: Dialogue, text: str) -> None:
    name, _, value = text.partition("=")
    if name == "steps":
        dialogue.only_steps = True
    elif name == "removed":
        dialogue.removed = frozenset(map(int, value.split(",")))
    elif name == "timestamp":
        dialogue.profile[name] = TIMESTAMP
    elif value in ("yes", "no"):
        dialogue.profile[name] = value == "yes"
    else:
        dialogue.profile[name] = int(value)
