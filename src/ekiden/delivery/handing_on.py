"""What a forward takes over of what the sender asked for about notices (RFC 3461 section 5.2.7), and what is left.

A .qmail file is an alias, unless an ``-owner`` file gives its forwards another sender: then it is a mailing list, for
which the message has reached its end, and whose subscribers the sender asked nothing about. A forward to one address
and nowhere else takes over all. In several, nobody may tell of success but this host.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ekiden.base.envelope import Envelope, Notify, Recipient
from ekiden.delivery.local import Forward


class Beyond(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a recipient's success is told if it was asked for: ``action`` as base.outcome.Outcome has it; ``taken``
    if whoever gets the forward tells of it instead."""

    action: Literal["", "expanded"] = ""
    taken: bool = False


NOWHERE = Beyond()


def hand_on(step: Forward, came: Envelope) -> tuple[Envelope, Beyond]:
    """The forward's envelope. ``came`` is the envelope of the delivery, with its one recipient."""
    if step.sender != came.sender:
        recipients = [Recipient(address) for address in step.recipients]
        return Envelope(step.sender, recipients, came.body, came.smtputf8), NOWHERE
    whose = came.recipients[0]
    alone = step.only and len(step.recipients) == 1
    notify = whose.notify & ~Notify.TOLD if alone else _without_success(whose.notify)
    recipients = [Recipient(address, notify, whose.orcpt) for address in step.recipients]
    envelope = Envelope(came.sender, recipients, came.body, came.smtputf8, came.ret, came.envid)
    return envelope, Beyond("expanded" if step.only else "", alone)


def _without_success(notify: int) -> int:
    """A wish for news of success only becomes a wish for none, not the default."""
    left = notify & ~(Notify.TOLD | Notify.SUCCESS)
    return left if left or not notify else Notify.NEVER
