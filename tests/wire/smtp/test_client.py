"""Dialogues of the SMTP client, each run with the server's octets whole, one by one, and with more behind them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ekiden.base.envelope import Body, Envelope, Notify, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.wire.smtp.client import Client, Done, Lost, Ready, StartTls, State, WantContent

PEER = "192.0.2.25"
CONTENT = b"Subject: a\r\n\r\n.dot\r\n"


@dataclass
class Case:
    """``script``: what the server says (S) and the client must say (C), line by line."""

    name: str
    script: str
    verdicts: list[tuple[int, str, str]]
    state: State = State.READY
    options: dict[str, object] = field(default_factory=dict)
    envelope: Envelope = field(default_factory=lambda: envelope(b"jiro@nix.example"))
    content: bytes | None = CONTENT
    body: int = Body.SEVENBIT
    utf8: bool = False


def envelope(*recipients: bytes | Recipient, **more: object) -> Envelope:
    given = [entry if isinstance(entry, Recipient) else Recipient(entry) for entry in recipients]
    return Envelope(b"haruo@nix.example", given, **more)  # type: ignore[arg-type]


GREETING = """
S: 220 mx.example ESMTP
C: EHLO me.example
"""
PLAIN = GREETING + "S: 250 mx.example\n"
PIPELINING = GREETING + "S: 250-mx.example\nS: 250-SIZE 1000\nS: 250 PIPELINING\n"
EVERYTHING = GREETING + "".join(
    f"S: 250-{word}\n"
    for word in ("mx.example", "pipelining", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME")
).replace("250-BINARYMIME", "250 BINARYMIME")
BODY = """
C: Subject: a
C:
C: ..dot
C: .
"""
OK = (Verdict.DELIVERED, "2.0.0", f"{PEER} accepted message.\nRemote host said: 250 2.0.0 queued\n")

CASES = [
    Case(
        "plain",
        PLAIN
        + """
C: MAIL FROM:<haruo@nix.example>
S: 250 ok
C: RCPT TO:<jiro@nix.example>
S: 250 ok
C: DATA
S: 354 go ahead
"""
        + BODY
        + "S: 250 2.0.0 queued",
        [OK],
    ),
    Case(
        "pipelined",
        PIPELINING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20
C: RCPT TO:<jiro@nix.example>
C: RCPT TO:<"a b"@nix.example>
C: DATA
S: 250 ok
S: 250-yes
S: 250 yes
S: 250 ok
S: 354 go ahead
"""
        + BODY
        + "S: 250 2.0.0 queued",
        [OK, OK],
        envelope=envelope(b"jiro@nix.example", b"a b@nix.example"),
    ),
    Case(
        "HELO when EHLO is unknown",
        GREETING
        + """
S: 502 what
C: HELO me.example
S: 250 mx.example
C: MAIL FROM:<haruo@nix.example>
S: 250 ok
C: RCPT TO:<jiro@nix.example>
S: 250 ok
C: DATA
S: 354
"""
        + BODY
        + "S: 250 2.0.0 queued",
        [OK],
    ),
    Case(
        "one recipient refused, one deferred, the last goes on",
        PIPELINING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20
C: RCPT TO:<a@x.example>
C: RCPT TO:<b@x.example>
C: RCPT TO:<c@x.example>
C: DATA
S: 250 ok
S: 550 5.1.1 unknown
S: 450 busy
S: 250 ok
S: 354 go ahead
"""
        + BODY
        + "S: 250 2.0.0 queued",
        [
            (
                Verdict.FAILED,
                "5.1.1",
                f"{PEER} does not like recipient.\nRemote host said: 550 5.1.1 unknown\nGiving up on {PEER}.\n",
            ),
            (
                Verdict.DEFERRED,
                "4.0.0",
                f"{PEER} does not like recipient.\nRemote host said: 450 busy\nGiving up on {PEER}.\n",
            ),
            OK,
        ],
        envelope=envelope(b"a@x.example", b"b@x.example", b"c@x.example"),
    ),
    Case(
        "no recipient valid, DATA refused",
        PIPELINING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20
C: RCPT TO:<jiro@nix.example>
C: DATA
S: 250 ok
S: 551 5.7.1 no
S: 503 no recipients
""",
        [
            (
                Verdict.FAILED,
                "5.7.1",
                f"{PEER} does not like recipient.\nRemote host said: 551 5.7.1 no\nGiving up on {PEER}.\n",
            )
        ],
    ),
    Case(
        "no recipient valid, DATA accepted: a lone dot",
        PIPELINING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20
C: RCPT TO:<jiro@nix.example>
C: DATA
S: 250 ok
S: 450 no
S: 354 go
C: .
S: 554 nobody
""",
        [
            (
                Verdict.DEFERRED,
                "4.0.0",
                f"{PEER} does not like recipient.\nRemote host said: 450 no\nGiving up on {PEER}.\n",
            )
        ],
    ),
    Case(
        "sender rejected without pipelining",
        PLAIN
        + """
C: MAIL FROM:<haruo@nix.example>
S: 553 5.1.8 who?
""",
        [
            (
                Verdict.FAILED,
                "5.1.8",
                f"Connected to {PEER} but sender was rejected.\nRemote host said: 553 5.1.8 who?\n",
            )
        ],
    ),
    Case(
        "sender rejected with pipelining: the answers to the rest are read",
        PIPELINING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20
C: RCPT TO:<jiro@nix.example>
C: DATA
S: 451 later
S: 503 no
S: 503 no
""",
        [
            (
                Verdict.DEFERRED,
                "4.0.0",
                f"Connected to {PEER} but sender was rejected.\nRemote host said: 451 later\n",
            )
        ],
    ),
    Case(
        "DATA refused",
        PIPELINING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20
C: RCPT TO:<jiro@nix.example>
C: DATA
S: 250 ok
S: 250 ok
S: 452 4.3.1 full
""",
        [(Verdict.DEFERRED, "4.3.1", f"{PEER} failed on DATA command.\nRemote host said: 452 4.3.1 full\n")],
    ),
    Case(
        "refused after the dot",
        PIPELINING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20
C: RCPT TO:<jiro@nix.example>
C: DATA
S: 250 ok
S: 250 ok
S: 354 ok
"""
        + BODY
        + "S: 554-5.6.0 I do not\nS: 554 5.6.0 like this",
        [
            (
                Verdict.FAILED,
                "5.6.0",
                f"{PEER} failed after I sent the message.\n"
                "Remote host said: 554-5.6.0 I do not\n554 5.6.0 like this\n",
            )
        ],
    ),
    Case(
        "every parameter of the envelope",
        EVERYTHING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By
C: RCPT TO:<jiro@nix.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;j@nix.example
C: RCPT TO:<saburo@nix.example> NOTIFY=NEVER
C: DATA
S: 250 ok
S: 250 ok
S: 250 ok
S: 354 ok
"""
        + BODY
        + "S: 250 2.0.0 queued",
        [OK, OK],
        envelope=envelope(
            Recipient(b"jiro@nix.example", Notify.SUCCESS | Notify.DELAY, b"rfc822;j@nix.example"),
            Recipient(b"saburo@nix.example", Notify.NEVER),
            ret=b"HDRS",
            envid=b"x+2By",
        ),
        body=Body.EIGHTBIT,
        utf8=True,
    ),
    Case(
        "BDAT for binary content",
        EVERYTHING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20 BODY=BINARYMIME
C: RCPT TO:<jiro@nix.example>
S: 250 ok
S: 250 ok
C: BDAT 20 LAST
C: Subject: a
C:
C: .dot
S: 250 2.0.0 queued
""",
        [OK],
        body=Body.BINARY,
    ),
    Case(
        "LMTP: one answer per valid recipient",
        """
S: 220 store LMTP
C: LHLO me.example
S: 250-store
S: 250 PIPELINING
C: MAIL FROM:<haruo@nix.example>
C: RCPT TO:<a@x.example>
C: RCPT TO:<b@x.example>
C: RCPT TO:<c@x.example>
C: DATA
S: 250 ok
S: 250 ok
S: 550 no
S: 250 ok
S: 354 ok
"""
        + BODY
        + "S: 250 2.0.0 queued\nS: 452 4.2.2 full",
        [
            OK,
            (
                Verdict.FAILED,
                "5.0.0",
                f"{PEER} does not like recipient.\nRemote host said: 550 no\nGiving up on {PEER}.\n",
            ),
            (
                Verdict.DEFERRED,
                "4.2.2",
                f"{PEER} failed after I sent the message.\nRemote host said: 452 4.2.2 full\n",
            ),
        ],
        options={"lmtp": True},
        envelope=envelope(b"a@x.example", b"b@x.example", b"c@x.example"),
    ),
    Case(
        "streamed content",
        PLAIN
        + """
C: MAIL FROM:<haruo@nix.example>
S: 250 ok
C: RCPT TO:<jiro@nix.example>
S: 250 ok
C: DATA
S: 354 go ahead
"""
        + BODY
        + "S: 250 2.0.0 queued",
        [OK],
        content=None,
    ),
    Case(
        "421 in mid-transaction: what is undecided is deferred",
        PIPELINING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20
C: RCPT TO:<a@x.example>
C: RCPT TO:<b@x.example>
C: DATA
S: 250 ok
S: 550 no
S: 421 4.3.2 bye
""",
        [
            (
                Verdict.FAILED,
                "5.0.0",
                f"{PEER} does not like recipient.\nRemote host said: 550 no\nGiving up on {PEER}.\n",
            ),
            (
                Verdict.DEFERRED,
                "4.4.2",
                f"Connected to {PEER} but connection died. (#4.4.2)\nRemote host said: 421 4.3.2 bye\n",
            ),
        ],
        State.CLOSED,
        envelope=envelope(b"a@x.example", b"b@x.example"),
    ),
    Case(
        "addresses that would break the line never leave",
        PIPELINING
        + """
C: MAIL FROM:<haruo@nix.example> SIZE=20
C: RCPT TO:<jiro@nix.example>
C: DATA
S: 250 ok
S: 250 ok
S: 354 ok
"""
        + BODY
        + "S: 250 2.0.0 queued",
        [
            (
                Verdict.FAILED,
                "5.1.3",
                "Recipient cannot be written in SMTP: control character in local part b'a\\r\\nDATA'. (#5.1.3)\n"
                f"Giving up on {PEER}.\n",
            ),
            OK,
        ],
        envelope=envelope(b"a\r\nDATA@x.example", b"jiro@nix.example"),
    ),
]


class Player:
    """Plays a case: feeds the server's lines in pieces, collects what the client says, and serves its events."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.client = Client(PEER, b"me.example", "mx.example", **case.options)  # type: ignore[arg-type]
        self.said = b""
        self.done: Done | None = None
        self.lost: Lost | None = None

    def serve(self) -> None:
        client, case = self.client, self.case
        while (event := client.next_event()) is not None:
            if isinstance(event, Ready):
                client.send(case.envelope, case.content, len(CONTENT), case.body, case.utf8)
            elif isinstance(event, WantContent):
                for octet in CONTENT:
                    client.content(bytes([octet]))
                client.content_end()
            elif isinstance(event, StartTls):
                client.tls_established()
            elif isinstance(event, Done):
                assert self.done is None
                self.done = event
            else:
                self.lost = event
        self.said += client.output()

    def play(self, size: int, trailing: bytes = b"") -> None:
        blocks: list[tuple[str, bytes]] = []
        for line in self.case.script.strip().splitlines():
            if not line.strip():
                continue
            side, text = line[0], line[3:].encode() + b"\r\n"
            if blocks and blocks[-1][0] == side:
                blocks[-1] = (side, blocks[-1][1] + text)
            else:
                blocks.append((side, text))
        for number, (side, text) in enumerate(blocks):
            if side == "C":
                assert self.said == text
                self.said = b""
                continue
            assert self.said == b""
            data = text + (trailing if number == len(blocks) - 1 else b"")
            for start in range(0, len(data), size):
                self.client.receive(data[start : start + size])
                self.serve()
        assert self.said == b""


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_dialogue(case: Case, size: int) -> None:
    player = Player(case)
    player.play(size)
    assert player.done is not None
    assert [(o.verdict, o.status, o.text) for o in player.done.outcomes] == case.verdicts
    assert player.client.state is case.state


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("trailing", [b"250 and another\r\n", b"2", b"garbage", b"\0" * 100_000])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_words_too_many_end_the_session_but_change_no_outcome(case: Case, trailing: bytes, size: int) -> None:
    player = Player(case)
    player.play(size, trailing)
    assert player.done is not None
    assert [(o.verdict, o.status, o.text) for o in player.done.outcomes] == case.verdicts
    client = player.client
    if client.state is State.READY:
        client.send(case.envelope, case.content, 0)
    assert client.state is State.CLOSED


@dataclass
class Ending:
    """A session that ends badly: what the server says after the client's words, in turn, and what is reported."""

    name: str
    said: list[bytes]
    expected: str
    kind: type = Lost
    starttls: str = "never"
    ends: bool = False
    lmtp: bool = False


EHLO = b"250-mx.example\r\n250 PIPELINING\r\n"
TLS_EHLO = b"250-mx.example\r\n250 STARTTLS\r\n"
DIED = f"Connected to {PEER} but connection died. (#4.4.2)\n"
DUPLICATE = f"Connected to {PEER} but connection died. Possible duplicate! (#4.4.2)\n"
ODD = "Its answer does not fit what was asked.\nRemote host said: "
UNREADABLE = DIED + "Connection ended because its reply is unreadable.\n"

ENDINGS = [
    Ending(
        "greeting 4xx",
        [b"421 busy\r\n"],
        f"Connected to {PEER} but greeting failed.\nRemote host said: 421 busy\n",
    ),
    Ending(
        "greeting 450",
        [b"450 4.3.2 later\r\n"],
        f"Connected to {PEER} but greeting failed.\nRemote host said: 450 4.3.2 later\n",
    ),
    Ending(
        "greeting 5xx",
        [b"554 go away\r\n"],
        f"Connected to {PEER} but greeting failed.\nRemote host said: 554 go away\n",
    ),
    Ending("garbage", [b"SSH-2.0-OpenSSH_9.2\r\n"], UNREADABLE),
    Ending("garbage without end", [b"x"], UNREADABLE),
    Ending("garbage within a reply", [b"220-hello\r\n250 there\r\n"], UNREADABLE),
    Ending("no such class", [b"120 wait\r\n"], UNREADABLE),
    Ending(
        "a reply without end",
        [b"220-" + b"x" * 20000],
        DIED + "Connection ended because its reply is too long.\n",
    ),
    Ending(
        "a reply of too many lines",
        [b"220-x\r\n" * 5000 + b"220 x\r\n"],
        DIED + "Connection ended because its reply is too long.\n",
    ),
    Ending("silence at the greeting", [], DIED, ends=True),
    Ending("closed before EHLO's answer", [b"220 x\r\n"], DIED, ends=True),
    Ending("closed before MAIL's answer", [b"220 x\r\n", EHLO], DIED, ends=True),
    Ending("closed before RCPT's answer", [b"220 x\r\n", EHLO, b"250 ok\r\n"], DIED, Done, ends=True),
    Ending("closed before the end", [b"220 x\r\n", EHLO, b"250\r\n250\r\n"], DIED, Done, ends=True),
    Ending("closed after the dot", [b"220 x\r\n", EHLO, b"250\r\n250\r\n354\r\n"], DUPLICATE, Done, ends=True),
    Ending(
        "unreadable after the dot",
        [b"220 x\r\n", EHLO, b"250\r\n250\r\n354\r\n", b"ok\r\n"],
        DUPLICATE + "Connection ended because its reply is unreadable.\n",
        Done,
    ),
    Ending(
        "354 after the dot",
        [b"220 x\r\n", EHLO, b"250\r\n250\r\n354\r\n", b"354 more\r\n"],
        DUPLICATE + ODD + "354 more\n",
        Done,
    ),
    Ending("250 to DATA", [b"220 x\r\n", EHLO, b"250\r\n250\r\n250 hm\r\n"], DIED + ODD + "250 hm\n", Done),
    Ending("354 to MAIL", [b"220 x\r\n", EHLO, b"354 hm\r\n"], DIED + ODD + "354 hm\n"),
    Ending(
        "name rejected for now",
        [b"220 x\r\n", b"450 who\r\n"],
        f"Connected to {PEER} but my name was rejected.\nRemote host said: 450 who\n",
    ),
    Ending(
        "name rejected by HELO too",
        [b"220 x\r\n", b"500 what\r\n", b"550 no\r\n"],
        f"Connected to {PEER} but my name was rejected.\nRemote host said: 550 no\n",
    ),
    Ending(
        "LHLO rejected",
        [b"220 x\r\n", b"500 what\r\n"],
        f"Connected to {PEER} but my name was rejected.\nRemote host said: 500 what\n",
        lmtp=True,
    ),
    Ending(
        "TLS required and not offered",
        [b"220 x\r\n", EHLO],
        f"Connected to {PEER} but it does not speak TLS, which is required here. (#4.7.0)\n",
        starttls="always",
    ),
    Ending(
        "TLS required and refused",
        [b"220 x\r\n", TLS_EHLO, b"454 no\r\n"],
        f"Connected to {PEER} but it does not speak TLS, which is required here. (#4.7.0)\n"
        "Remote host said: 454 no\n",
        starttls="always",
    ),
    Ending(
        "words in the clear behind the answer to STARTTLS",
        [b"220 x\r\n", TLS_EHLO, b"220 go\r\n250 ok\r\n"],
        DIED + "It went on in the clear after agreeing to TLS.\n",
        starttls="may",
    ),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
def test_bad_endings_are_deferred(ending: Ending) -> None:
    case = Case("", "", [], options={"starttls": ending.starttls, "lmtp": ending.lmtp})
    player = Player(case)
    for words in ending.said:
        player.client.receive(words)
        player.serve()
    if ending.ends:
        player.client.lost()
        player.serve()
    assert player.client.state is State.CLOSED
    outcome = player.lost.outcome if player.lost else player.done.outcomes[0] if player.done else None
    assert isinstance(player.lost or player.done, ending.kind)
    assert outcome is not None
    assert (outcome.verdict, outcome.text) == (Verdict.DEFERRED, ending.expected)
    player.client.lost()
    assert player.client.next_event() is None


GO = [b"220 x\r\n", TLS_EHLO, b"220 go\r\n"]


@pytest.mark.parametrize(
    ("said", "over_tls"),
    [
        ([b"220 x\r\n"], False),
        ([b"220 x\r\n", TLS_EHLO], True),
        ([b"220 x\r\n", TLS_EHLO, b"421 no TLS today\r\n"], True),
        ([b"220 x\r\n", TLS_EHLO, b"what\r\n"], True),
        (GO, True),
        ([*GO, b"500 what\r\n"], True),
        ([*GO, EHLO], False),
        ([b"220 x\r\n", TLS_EHLO, b"220 go\r\n250 ok\r\n"], False),
    ],
)
def test_what_breaks_over_tls_is_known_for_it(said: list[bytes], over_tls: bool) -> None:
    player = Player(Case("", "", [], options={"starttls": "may"}))
    for words in said:
        player.client.receive(words)
        player.serve()
    player.client.lost()
    player.serve()
    assert player.lost is not None
    assert player.lost.over_tls is over_tls


@pytest.mark.parametrize("starttls", ["may", "always"])
def test_tls_forgets_what_was_said_before(starttls: str) -> None:
    player = Player(Case("", "", [], options={"starttls": starttls}))
    client = player.client
    client.receive(b"220 x\r\n")
    client.receive(b"250-x\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
    assert client.output() == b"EHLO me.example\r\nSTARTTLS\r\n"
    client.receive(b"220 go\r\n")
    assert isinstance(client.next_event(), StartTls)
    client.tls_established()
    assert client.output() == b"EHLO me.example\r\n"
    client.receive(b"250 x\r\n")
    player.serve()
    assert client.secure
    assert player.said == b"MAIL FROM:<haruo@nix.example>\r\n"


def test_tls_refused_goes_on_in_the_clear_if_it_may() -> None:
    player = Player(Case("", "", [], options={"starttls": "may"}))
    for words in (b"220 x\r\n", TLS_EHLO, b"454 no\r\n"):
        player.client.receive(words)
        player.serve()
    assert player.said.endswith(b"STARTTLS\r\nMAIL FROM:<haruo@nix.example>\r\n")


@pytest.mark.parametrize(
    ("opening", "verdict"),
    [([b"220 x\r\n", TLS_EHLO, b"454 no\r\n"], Verdict.DEFERRED), ([b"220 x\r\n", EHLO], Verdict.FAILED)],
)
def test_whoever_demands_tls_that_failed_just_now_is_tried_again(opening: list[bytes], verdict: Verdict) -> None:
    player = Player(Case("", "", [], options={"starttls": "may"}))
    for words in (*opening, b"530 5.7.0 must issue STARTTLS first\r\n" + b"503 no\r\n" * (opening[1] == EHLO) * 2):
        player.client.receive(words)
        player.serve()
    assert player.done is not None
    assert player.done.outcomes[0].verdict == verdict


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_transaction_left_open_is_reset_before_the_next(pipelining: bool) -> None:
    player = Player(Case("", "", []))
    client = player.client
    client.receive(b"220 x\r\n")
    client.receive(EHLO if pipelining else b"250 x\r\n")
    player.serve()
    for words in (b"250\r\n", b"550 no\r\n", b"503 no\r\n") if pipelining else (b"250\r\n", b"550 no\r\n"):
        client.receive(words)
        player.serve()
    assert player.done is not None
    player.said, player.done = b"", None
    client.send(player.case.envelope, CONTENT, len(CONTENT))
    player.serve()
    assert player.said.startswith(b"RSET\r\n")
    answers = [b"250 reset\r\n", b"250\r\n", b"250\r\n", b"354\r\n", b"250 2.0.0 queued\r\n"]
    for words in answers:
        client.receive(words)
        player.serve()
    assert player.done is not None
    assert player.done.outcomes[0].verdict == Verdict.DELIVERED
    assert player.said.count(b"RSET") == 1


def test_a_second_message_needs_no_greeting() -> None:
    player = Player(CASES[1])
    player.play(100_000)
    player.done, player.said = None, b""
    player.client.send(player.case.envelope, CONTENT, len(CONTENT))
    player.serve()
    assert player.said.startswith(b"MAIL FROM:")


def test_unasked_words_on_an_idle_connection_end_it() -> None:
    player = Player(CASES[0])
    player.play(100_000)
    player.client.receive(b"421 idle for too long\r\n")
    player.serve()
    assert player.lost is not None
    assert player.client.state is State.CLOSED


def test_content_that_cannot_be_read_ends_the_session_without_a_dot() -> None:
    player = Player(Case("", "", [], content=None))
    client = player.client
    client.receive(b"220 x\r\n")
    client.receive(EHLO)
    player.serve()
    client.receive(b"250\r\n250\r\n354\r\n")
    assert isinstance(client.next_event(), WantContent)
    client.content(b"half")
    unreadable = Outcome(Verdict.DEFERRED, "4.3.0", "Unable to read message. (#4.3.0)\n")
    client.give_up(unreadable)
    player.said = b""
    player.serve()
    assert player.said == b"half"
    assert player.done is not None
    assert player.done.outcomes == [unreadable]
    assert client.state is State.CLOSED
