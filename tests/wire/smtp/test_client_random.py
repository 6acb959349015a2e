"""A server that says anything: every transaction ends, once, and only the right word means delivered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ekiden.base.envelope import Body, Envelope, Recipient
from ekiden.base.outcome import Verdict
from ekiden.wire.smtp.client import Client, Done, Lost, Ready, StartTls, State, WantContent

_REPLIES = [b"220 x\r\n", b"250 x\r\n", b"354 x\r\n", b"421 x\r\n", b"450 x\r\n", b"550 x\r\n", b"2", b"x\r\n"]
_REPLIES += [b"250-x\r\n250 PIPELINING\r\n", b"250-x\r\n250 STARTTLS\r\n"]
_REPLIES += [b"250-x\r\n250-CHUNKING\r\n250 BINARYMIME\r\n"]


@given(
    st.lists(st.sampled_from(_REPLIES), max_size=25),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([Body.SEVENBIT, Body.BINARY]),
)
def test_any_server(said: list[bytes], count: int, lmtp: bool, streamed: bool, body: Body) -> None:
    client = Client("192.0.2.1", b"me.example", "", "may", lmtp)
    envelope = Envelope(b"", [Recipient(b"r%d@x.example" % number) for number in range(count)])
    open_transactions, ended, positive_since_content = 0, 0, False

    def serve() -> None:
        nonlocal open_transactions, ended, positive_since_content
        while (event := client.next_event()) is not None:
            if isinstance(event, Ready):
                open_transactions += 1
                client.send(envelope, None if streamed else b"x\r\n", 3, body)
            elif isinstance(event, StartTls):
                client.tls_established()
            elif isinstance(event, WantContent):
                client.content(b"x\r\n")
                client.content_end()
            elif isinstance(event, Done):
                ended += 1
                assert len(event.outcomes) == count
                if any(outcome.verdict == Verdict.DELIVERED for outcome in event.outcomes):
                    assert positive_since_content
            elif isinstance(event, Lost):
                assert client.state is State.CLOSED
                assert event.outcome.verdict == Verdict.DEFERRED
        client.output()

    for words in said:
        before = client.state
        client.receive(words)
        if before is State.SENT and words.startswith(b"2"):
            positive_since_content = True
        serve()
    client.lost()
    serve()
    assert client.state is State.CLOSED
    assert ended <= open_transactions <= 1
