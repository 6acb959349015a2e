"""The client's commands, and what the server's EHLO answer lets them carry.

Sources: RFC 1870 (SIZE), 2920 (PIPELINING), 3030 (CHUNKING, BINARYMIME), 3207 (STARTTLS), 3461 (DSN), 6152
(8BITMIME), 6531 (SMTPUTF8).
"""

from __future__ import annotations

import re

import msgspec

from ekiden.base.envelope import Body, Envelope, Notify, Recipient
from ekiden.wire.smtp.syntax import quote

_BODY = {Body.SEVENBIT: b"", Body.EIGHTBIT: b" BODY=8BITMIME", Body.BINARY: b" BODY=BINARYMIME"}
_UNWRITABLE = re.compile(rb"[\x00-\x20\x7f]")
"""What no parameter may hold (RFC 5321 section 4.1.2, esmtp-value): spaces and lines would begin something new."""

_NOTIFY = ((Notify.SUCCESS, b"SUCCESS"), (Notify.FAILURE, b"FAILURE"), (Notify.DELAY, b"DELAY"))


class Extensions(msgspec.Struct):
    """What the server offers. ``size_limit`` in octets, 0 if it names none."""

    pipelining: bool = False
    size: bool = False
    size_limit: int = 0
    eightbitmime: bool = False
    smtputf8: bool = False
    dsn: bool = False
    starttls: bool = False
    chunking: bool = False
    binarymime: bool = False
    auth: tuple[bytes, ...] = ()


def read_extensions(reply: bytes) -> Extensions:
    """The extensions in an EHLO or LHLO reply (RFC 5321 section 4.1.1.1); the first line is the server's name."""
    offered = Extensions()
    for line in reply.split(b"\n")[1:]:
        words = line[4:].upper().split()
        if not words:
            continue
        name = words[0].decode("ascii", "replace")
        if name == "SIZE":
            offered.size = True
            if len(words) > 1 and words[1].isdigit() and len(words[1]) <= 20:
                offered.size_limit = int(words[1])
        elif name == "AUTH":
            offered.auth = tuple(words[1:])
        elif name in _FLAGS:
            setattr(offered, _FLAGS[name], True)
    return offered


_FLAGS = {
    "PIPELINING": "pipelining",
    "8BITMIME": "eightbitmime",
    "SMTPUTF8": "smtputf8",
    "DSN": "dsn",
    "STARTTLS": "starttls",
    "CHUNKING": "chunking",
    "BINARYMIME": "binarymime",
}


def mail_command(envelope: Envelope, size: int, body: int, utf8: bool, offered: Extensions) -> bytes:
    """MAIL with every parameter that the envelope has and the server offers.

    ``size`` is the content's octets, ``body`` what it really holds, ``utf8`` whether SMTPUTF8 is needed. Raises
    ValueError for a sender that cannot be written.
    """
    command = b"MAIL FROM:<" + quote(envelope.sender) + b">"
    if offered.size:
        command += b" SIZE=%d" % size
    if body and (offered.binarymime if body == Body.BINARY else offered.eightbitmime):
        command += _BODY[Body(body)]
    if utf8 and offered.smtputf8:
        command += b" SMTPUTF8"
    if offered.dsn:
        if envelope.ret:
            command += b" RET=" + _word(envelope.ret)
        if envelope.envid:
            command += b" ENVID=" + _word(envelope.envid)
    return _line(command)


def rcpt_command(recipient: Recipient, offered: Extensions) -> bytes:
    """RCPT with NOTIFY and ORCPT if given and offered. Raises ValueError for an address that cannot be written."""
    if not offered.dsn or not (recipient.notify or recipient.orcpt):
        return _line(b"RCPT TO:<" + quote(recipient.address) + b">")
    command = b"RCPT TO:<" + quote(recipient.address) + b">"
    if recipient.notify & Notify.NEVER:
        command += b" NOTIFY=NEVER"
    elif recipient.notify:
        command += b" NOTIFY=" + b",".join(word for flag, word in _NOTIFY if recipient.notify & flag)
    if recipient.orcpt:
        orcpt = recipient.orcpt if offered.smtputf8 or recipient.orcpt.isascii() else _escaped(recipient.orcpt)
        command += b" ORCPT=" + _word(orcpt)
    return _line(command)


def _escaped(orcpt: bytes) -> bytes:
    """A UTF-8 address as servers without SMTPUTF8 take it (RFC 6533 section 3, utf-8-addr-xtext)."""
    return "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in orcpt.decode()).encode()


def hello_command(verb: bytes, name: bytes) -> bytes:
    """EHLO, HELO or LHLO. Raises ValueError for a name that would be more than one word."""
    return _line(verb + b" " + _word(name))


def _word(value: bytes) -> bytes:
    if _UNWRITABLE.search(value):
        raise ValueError(f"{value[:100]!r} is not one word")
    return value


def _line(command: bytes) -> bytes:
    """The command with its end, whoever made it and of whatever: never two commands, nor a part of one."""
    if b"\r" in command or b"\n" in command or b"\0" in command:
        raise ValueError("it holds an end of line or a null")
    return command + b"\r\n"
