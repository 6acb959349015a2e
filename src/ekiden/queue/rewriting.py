"""A recipient under the address that routing gives it, and back, for one that is to be routed anew."""

from __future__ import annotations

from ekiden.base.envelope import Recipient
from ekiden.routing.route import Router
from ekiden.wire.smtp.syntax import decode_xtext, encode_xtext

_RFC822 = b"rfc822;"


def rewritten(recipient: Recipient, address: bytes) -> Recipient:
    """The recipient under its new address; the old one is kept as ORCPT, for notices to name."""
    orcpt = recipient.orcpt or _RFC822 + encode_xtext(recipient.address)
    return Recipient(address, recipient.notify, orcpt)


def as_given(recipient: Recipient, router: Router) -> Recipient:
    """A local recipient as it was before virtualdomains put a prefix to it: else it would get a second one.

    The address that it had tells, or the prefix itself if it is still the one that virtualdomains has.
    """
    address = recipient.address
    before = _original(recipient.orcpt, router)
    if before and address.endswith(b"-" + before):
        return Recipient(before, recipient.notify, recipient.orcpt)
    again = router.route(address).recipient
    prefix = again.removesuffix(address)
    if prefix not in (b"", again) and address.startswith(prefix):
        return Recipient(address[len(prefix) :], recipient.notify, recipient.orcpt)
    return recipient


def _original(orcpt: bytes, router: Router) -> bytes:
    if not orcpt.startswith(_RFC822):
        return b""
    try:
        return router.complete(decode_xtext(orcpt[len(_RFC822) :]))
    except ValueError:
        return b""
