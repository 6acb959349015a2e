"""What the queue role believes of those who inject."""

from __future__ import annotations

import msgspec
import pytest

from ekiden.base.envelope import Envelope, Recipient
from ekiden.runtime.queue_intake import is_plausible

GOOD = Envelope(b"s@x", [Recipient(b"r@x")])


def test_what_qmail_queue_would_take_is_plausible() -> None:
    assert is_plausible(GOOD)
    assert is_plausible(Envelope(b"", [Recipient(b"r" * 1002, 15, b"rfc822;r")], 2, True, b"HDRS", b"x"))


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": b"s" * 1003},
        {"sender": b"s\0@x"},
        {"recipients": [Recipient(b"." * 1003)]},
        {"recipients": [Recipient(b"r"), Recipient(b"r\0")]},
        {"recipients": [Recipient(b"r", 16)]},
        {"recipients": [Recipient(b"r", 0, b"rfc822;a b")]},
        {"body": 3},
        {"ret": b"ALL"},
        {"envid": b"a\nb"},
    ],
)
def test_what_no_envelope_may_say(changes: dict[str, object]) -> None:
    assert not is_plausible(msgspec.structs.replace(GOOD, **changes))
