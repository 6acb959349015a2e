"""RFC 3461 section 5.2.7: what forwards take over of the wishes about notices."""

from __future__ import annotations

import pytest

from ekiden.base.envelope import Envelope, Notify, Recipient
from ekiden.delivery.handing_on import NOWHERE, Beyond, hand_on
from ekiden.delivery.local import Forward

ORCPT = b"rfc822;root@x.org"
EVERY = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY


def came(notify: int, sender: bytes = b"s@b.org") -> Envelope:
    return Envelope(sender, [Recipient(b"root@x.org", notify, ORCPT)], 1, True, b"HDRS", b"QQ1")


@pytest.mark.parametrize("notify", [Notify.DEFAULT, Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, EVERY])
def test_a_single_recipient_alias_hands_on_all(notify: Notify) -> None:
    envelope, beyond = hand_on(Forward(b"s@b.org", [b"a@c.org"], True), came(notify))
    assert envelope == Envelope(b"s@b.org", [Recipient(b"a@c.org", notify, ORCPT)], 1, True, b"HDRS", b"QQ1")
    assert beyond.taken, "RFC 3461 section 5.2.7.2: nothing is told by this host"


@pytest.mark.parametrize(
    ("notify", "left"),
    [
        (Notify.DEFAULT, Notify.DEFAULT),
        (Notify.NEVER, Notify.NEVER),
        (Notify.SUCCESS, Notify.NEVER),
        (Notify.SUCCESS | Notify.FAILURE, Notify.FAILURE),
        (Notify.DELAY | Notify.TOLD, Notify.DELAY),
        (EVERY, Notify.FAILURE | Notify.DELAY),
    ],
)
@pytest.mark.parametrize(
    ("step", "beyond"),
    [
        (Forward(b"s@b.org", [b"a@c.org", b"d@e.org"], True), Beyond("expanded")),
        (Forward(b"s@b.org", [b"a@c.org"], False), NOWHERE),
    ],
)
def test_of_several_none_tells_of_success(notify: Notify, left: Notify, step: Forward, beyond: Beyond) -> None:
    envelope, told = hand_on(step, came(notify))
    assert envelope.recipients == [Recipient(address, left, ORCPT) for address in step.recipients]
    assert (envelope.ret, envelope.envid, told) == (b"HDRS", b"QQ1", beyond)


def test_a_mailing_list_is_where_the_message_arrives() -> None:
    step = Forward(b"list-owner@x.org", [b"a@c.org", b"d@e.org"], True)
    envelope, beyond = hand_on(step, came(EVERY))
    assert envelope == Envelope(b"list-owner@x.org", [Recipient(b"a@c.org"), Recipient(b"d@e.org")], 1, True)
    assert beyond == NOWHERE


def test_the_mark_of_a_told_delay_stays_here() -> None:
    envelope, _ = hand_on(Forward(b"s@b.org", [b"a@c.org"], True), came(Notify.DELAY | Notify.TOLD))
    assert envelope.recipients[0].notify == Notify.DELAY
