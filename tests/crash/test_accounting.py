"""The oracle itself: each kind of fault is seen, and nothing else is."""

from __future__ import annotations

from tests.peers.accounting import Ledger, balance


def ledger_of(count: int) -> Ledger:
    """A ledger with ``count`` acknowledged messages."""
    ledger = Ledger()
    for number in range(count):
        identity, _ = ledger.compose(number)
        ledger.acknowledged.add(identity)
    return ledger


def test_all_arrived() -> None:
    ledger = ledger_of(3)
    assert balance(ledger, ledger.sent.items())


def test_acknowledged_and_gone_is_lost() -> None:
    ledger = ledger_of(3)
    arrived = [(identity, hash) for identity, hash in ledger.sent.items() if not identity.startswith("1@")]
    assert balance(ledger, arrived).lost == {"1@load.example"}


def test_bounced_is_not_lost() -> None:
    ledger = ledger_of(1)
    assert balance(ledger, [], ["0@load.example"])


def test_unacknowledged_may_be_gone_or_arrive() -> None:
    ledger = ledger_of(1)
    identity, _ = ledger.compose(7)
    assert balance(ledger, [("0@load.example", ledger.sent["0@load.example"])])
    assert balance(ledger, [*ledger.sent.items()])
    assert identity not in ledger.acknowledged


def test_other_content_is_torn() -> None:
    assert balance(ledger_of(1), [("0@load.example", "something else")]).torn == {"0@load.example"}


def test_never_sent_is_phantom() -> None:
    assert balance(Ledger(), [("9@load.example", "x")]).phantom == {"9@load.example"}


def test_twice_is_counted_and_allowed() -> None:
    ledger = ledger_of(2)
    account = balance(ledger, [*ledger.sent.items()] * 2)
    assert account
    assert account.duplicates == 2
