"""Reading and playing the transcripts in tests/dialogues.

Lines: ``C: `` what the client says, ended by CRLF; ``C= `` octets as they are, with Python's escapes; ``S: `` a reply
line; ``M: `` a message that the shell took, as ``sender > recipient recipient: content`` with escapes; ``T: `` TLS is
made; ``# `` a remark; ``% name=value`` a field of the profile, or ``% steps``: meaningless if said all at once. After
an ``S:`` the client waits for everything before it.

The shell of these tests refuses senders and recipients at ``refused.example`` (550) and ``later.example`` (451), and
messages that say ``REFUSE ME``. Its one user is jiro, whose password is ``secret word``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ekiden.base.envelope import Envelope
from ekiden.base.reply import Reply
from ekiden.wire import sasl
from ekiden.wire.smtp.events import (
    Content,
    DataBegins,
    Ended,
    EndOfMessage,
    Event,
    Hello,
    Login,
    Mail,
    Proven,
    Rcpt,
    Refusal,
    Reset,
    ScramBegins,
    ScramProof,
    StartTls,
)
from ekiden.wire.smtp.lmtp import LmtpServer
from ekiden.wire.smtp.profile import Profile
from ekiden.wire.smtp.server import Server

PASSWORD = b"secret word"
KEYS = sasl.scram_keys(PASSWORD, b"salt of test", 4096)
DIALOGUES = Path(__file__).resolve().parents[2] / "dialogues"


@dataclass
class Step:
    """What the client says at once, and the replies to it."""

    said: bytes = b""
    expected: bytes = b""
    tls: bool = False


@dataclass
class Dialogue:
    """One transcript."""

    steps: list[Step] = field(default_factory=lambda: [Step()])
    messages: list[bytes] = field(default_factory=list)
    profile: dict[str, int | bool | str | tuple[bytes, ...]] = field(default_factory=dict)
    only_steps: bool = False


class Player:
    """A shell that answers by the rules above and records what it took."""

    def __init__(self, profile: Profile) -> None:
        self.server = (LmtpServer if profile.lmtp else Server)(profile)
        self.messages: list[bytes] = []
        self.events: list[Event] = []
        self.output = b""
        self.ended = False
        self._envelope: Envelope | None = None
        self._content = b""
        self.server.greet()
        self._collect()

    def say(self, data: bytes) -> None:
        """Octets from the client; every question is answered at once."""
        self.server.receive(data)
        while (event := self.server.next_event()) is not None:
            self.events.append(event)
            self._answer(event)
        self._collect()

    def secure(self) -> None:
        """Finish the handshake."""
        self.server.secured()
        self.say(b"")

    def _collect(self) -> None:
        self.output += self.server.output()

    def _answer(self, event: Event) -> None:
        assert not self.ended, event
        match event:
            case Hello() | DataBegins() | StartTls():
                self.server.accept()
            case Mail(envelope=envelope):
                self._envelope = envelope
                self._judge(envelope.sender)
            case Rcpt(recipient=recipient):
                assert self._envelope is not None
                if self._judge(recipient.address):
                    self._envelope.recipients.append(recipient)
            case Login(user=user, password=password):
                self._say_whether(user == b"jiro" and password == PASSWORD)
            case ScramBegins():
                self.server.offer(KEYS.salt, KEYS.iterations, b"servernonce")
            case ScramProof(user=user, signed=signed, proof=proof):
                signature = sasl.scram_signature(KEYS, signed, proof)
                if signature is None or user != b"jiro":
                    self._say_whether(False)
                else:
                    self.server.sign(signature)
            case Proven():
                self._say_whether(True)
            case Content(chunk=chunk):
                assert chunk
                self._content += chunk
            case EndOfMessage(chunk=chunk):
                self._end(self._content + chunk)
            case Reset():
                self._content = b""
            case Refusal(transaction_over=over):
                if over:
                    self._content = b""
            case Ended():
                self.ended = True
            case _:
                raise AssertionError(event)

    def _say_whether(self, right: bool) -> None:
        if right:
            self.server.accept()
        else:
            self.server.reply(Reply(535, "5.7.8", "authentication failed"))

    def _judge(self, address: bytes) -> bool:
        if address.endswith(b"@refused.example"):
            self.server.reply(Reply(550, "5.1.1", "no"))
        elif address.endswith(b"@later.example"):
            self.server.reply(Reply(451, "4.3.0", "later"))
        else:
            self.server.accept()
            return True
        return False

    def _end(self, content: bytes) -> None:
        envelope = self._envelope
        assert envelope is not None and envelope.recipients
        self._content = b""
        if b"REFUSE ME" in content:
            self.server.reply(Reply(554, "5.6.0", "not this"))
            return
        recipients = b" ".join(recipient.address for recipient in envelope.recipients)
        self.messages.append(envelope.sender + b" > " + recipients + b": " + content)
        self.server.accept()


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
            step.said += _unescape(text)
        elif mark == "S: ":
            step.expected += text.encode() + b"\r\n"
        elif mark == "M: ":
            dialogue.messages.append(_unescape(text))
        elif mark == "T: ":
            step.tls = True
        elif line.startswith("% "):
            _configure(dialogue, line[2:])
        elif line and not line.startswith("#"):
            raise ValueError(f"{path.name}: {line}")
    return dialogue


def _unescape(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def _configure(dialogue: Dialogue, text: str) -> None:
    name, _, value = text.partition("=")
    if name == "steps":
        dialogue.only_steps = True
    elif name == "mechanisms":
        dialogue.profile[name] = tuple(value.encode().split(b","))
    elif value in ("yes", "no"):
        dialogue.profile[name] = value == "yes"
    else:
        dialogue.profile[name] = int(value)
