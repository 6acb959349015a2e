"""Mailboxes and xtext as SMTP writes them: quoting put on and taken off, for the server and the client alike.

Inside ekiden an address is plain octets (see base.envelope); this module is the only place where the quoting of
RFC 5321 section 4.1.2 appears. The last ``@`` of an unquoted address divides local part and domain. Reading is a
little more generous than the grammar where generations of clients are (dots at odd places in the local part, an
underscore in a domain), and strict where generosity opens a relay: one ``@`` outside quotes, no control characters.
"""

from __future__ import annotations

import re

ADDRESS_OCTETS = 900
"""Longest address taken; RFC 5321 section 4.5.3.1.3 asks for 256, addr-parsers of qmail's family stop at 900."""

_ATEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\xff"
_DOMAIN = rb"(?:[A-Za-z0-9_\x80-\xff-]++(?:\.[A-Za-z0-9_\x80-\xff-]++)*+|\[[A-Za-z0-9:.\-]++\])"
_LOCAL = rb"(?:[." + _ATEXT + rb']++|"(?:[^"\\\x00-\x1f\x7f]++|\\[^\x00-\x1f\x7f])*+"|\\[^\x00-\x1f\x7f])++'
_ROUTE = rb"(?:@" + _DOMAIN + rb"(?:,@" + _DOMAIN + rb")*+:)?"

_DOT_ATOM = re.compile(rb"[" + _ATEXT + rb"]++(?:\.[" + _ATEXT + rb"]++)*+")
_WIRE_DOMAIN = re.compile(rb"[^\x00-\x20\x7f<>\"\\@]+")
_MAILBOX = re.compile(rb"(" + _LOCAL + rb")(@" + _DOMAIN + rb")?")
_BRACKETED = re.compile(rb" *+<" + _ROUTE + rb"(" + _LOCAL + rb")(@" + _DOMAIN + rb")?>")
_BARE = re.compile(rb" *+(" + _LOCAL + rb")(@" + _DOMAIN + rb")?(?= |$)")
_PLAIN = re.compile(rb"<([." + _ATEXT + rb"]++@[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)*+)>")
_NULL = re.compile(rb" *+<>")

_UNESCAPE = re.compile(rb'\\(.)|"', re.DOTALL)
_ESCAPE = re.compile(rb'(["\\])')
_UNSPEAKABLE = re.compile(rb"[\x00-\x1f\x7f]")

_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_XTEXT_BYTE = re.compile(rb"[^!-*,-<>-~]")
_XTEXT_HEX = re.compile(rb"\+([0-9A-F]{2})")


def quote(address: bytes) -> bytes:
    """The address as it stands between angle brackets on the wire; the empty address stays empty.

    Raises ValueError for an address that cannot be said: control characters in the local part, or a domain that
    holds anything which would end the path (RFC 5321 section 4.1.2).
    """
    local, at, domain = address.rpartition(b"@")
    if not at:
        local, domain = domain, b""
    elif not _WIRE_DOMAIN.fullmatch(domain):
        raise ValueError(f"no domain can be {domain!r}")
    if _DOT_ATOM.fullmatch(local) or not address:
        return address
    if _UNSPEAKABLE.search(local):
        raise ValueError(f"control character in local part {local!r}")
    return b'"' + _ESCAPE.sub(rb"\\\1", local) + b'"' + at + domain


def unquote(mailbox: bytes) -> bytes:
    """The inverse of ``quote``: plain octets of a mailbox as it stands between angle brackets.

    Raises ValueError if it is no mailbox.
    """
    if not mailbox:
        return b""
    match = _MAILBOX.fullmatch(mailbox)
    if match is None:
        raise ValueError(f"no mailbox: {mailbox!r}")
    return _plain(match)


def parse_path(text: bytes) -> tuple[bytes, bytes]:
    """Take a reverse-path or forward-path off the front of ``text``: the address, and what follows the path.

    Source routes are dropped (RFC 5321 appendix C). Spaces before the path, and a path without angle brackets, are
    accepted, as qmail-smtpd does. ``<>`` gives the empty address. Raises ValueError if there is no path.
    """
    match = _PLAIN.match(text)
    if match is not None:
        address = match.group(1)
    else:
        match = _NULL.match(text)
        if match is not None:
            return b"", text[match.end() :]
        match = _BRACKETED.match(text) or _BARE.match(text)
        if match is None:
            raise ValueError("no path")
        address = _plain(match)
    if len(address) > ADDRESS_OCTETS:
        raise ValueError("address too long")
    return address, text[match.end() :]


def _plain(match: re.Match[bytes]) -> bytes:
    local, domain = match.groups()
    if b'"' in local or b"\\" in local:
        local = _UNESCAPE.sub(lambda found: found.group(1) or b"", local)
        if domain is None and b"@" in local:
            # Unquoted it would name another mailbox: the old trick of "victim@elsewhere" in quotes.
            raise ValueError("quoted @ without a domain")
    return local + domain if domain else local


def is_xtext(value: bytes) -> bool:
    """Whether ``value`` is xtext (RFC 3461 section 4)."""
    return _XTEXT.fullmatch(value) is not None


def encode_xtext(value: bytes) -> bytes:
    """Octets as xtext (RFC 3461 section 4)."""
    return _XTEXT_BYTE.sub(lambda found: b"+%02X" % found.group()[0], value)


def decode_xtext(value: bytes) -> bytes:
    """The octets that xtext stands for; ValueError if it is none."""
    if not is_xtext(value):
        raise ValueError(f"no xtext: {value!r}")
    return _XTEXT_HEX.sub(lambda found: bytes([int(found.group(1), 16)]), value)
