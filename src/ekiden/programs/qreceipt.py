"""qreceipt ADDRESS: a success notice to those who ask for one, from a .qmail file (qreceipt(1)).

The message on descriptor 0 asks by naming ADDRESS in Notice-Requested-Upon-Delivery-To; the notice goes to SENDER,
never to an empty one. Exit code 0, also where there is nothing to do; 100 for wrong use, a field that cannot be read,
or refusal for good; 111 for trouble that may pass.
"""

from __future__ import annotations

import os
import sys

from ekiden.base.header_body import HeaderBody, field_name
from ekiden.base.mailbox import Malformed, Token, quote, unquote
from ekiden.base.mailbox_list import rewrite_field
from ekiden.base.sender import UNANSWERED
from ekiden.runtime.classic.submission import submit
from ekiden.runtime.injection.door import Letter, NotQueued

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_READ = 262_144


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the address at which this mailbox is known."""
    sender = os.environb.get(b"SENDER")
    if not argv or sender is None:
        print("qreceipt: usage: qreceipt deliveryaddress", file=sys.stderr)
        return 100
    target = os.fsencode(argv[0])
    try:
        asked, message_id = _read(target)
        if asked and sender not in UNANSWERED:
            submit(home, Letter(b"", [sender]), [_notice(target, sender, message_id)])
    except Malformed as error:
        print(f"qreceipt: fatal: unable to parse this: {error}", file=sys.stderr)
        return 100
    except NotQueued as error:
        print(f"qreceipt: fatal: {error}", file=sys.stderr)
        return 100 if error.permanent else 111
    except OSError as error:
        print(f"qreceipt: fatal: read error: {error.strerror}", file=sys.stderr)
        return 111
    return 0


def _read(target: bytes) -> tuple[bool, bytes]:
    """Whether ``target`` is asked to tell, and the Message-ID field."""
    found: list[bytes] = []
    message_id = b""

    def note(address: list[Token]) -> list[Token]:
        found.append(unquote(address))
        return address

    with open(0, "rb", buffering=_READ, closefd=False) as message:
        for field in HeaderBody(message).fields():
            name = field_name(field)
            if name == b"message-id":
                message_id = field
            elif name == b"notice-requested-upon-delivery-to":
                try:
                    rewrite_field(field, note)
                except Malformed:
                    raise Malformed(os.fsdecode(field).rstrip()) from None
    return target in found, message_id


def _notice(target: bytes, sender: bytes, message_id: bytes) -> bytes:
    # No line of the header may end within an address.
    address = quote(sender.replace(b"\n", b"_"))
    return (
        b"From: DELIVERY NOTICE SYSTEM <%b>\nTo: <%b>\nSubject: success notice\n\n"
        b"This is the qreceipt program. Your message has been delivered to the address\n%b,\n"
        b"as you asked to be told.\n" % (address, address, target) + (b"Your " + message_id if message_id else b"")
    )
