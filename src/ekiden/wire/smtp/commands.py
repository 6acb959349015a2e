"""MAIL and RCPT with their parameters, read into typed events.

Extensions: SIZE (RFC 1870), 8BITMIME (RFC 6152), BINARYMIME (RFC 3030), SMTPUTF8 (RFC 6531), DSN (RFC 3461). A
parameter that is not known answers 555, one that is malformed or given twice 501 (RFC 5321 section 4.1.1.11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ekiden.base.envelope import Body, Envelope, Notify, Recipient
from ekiden.base.reply import Refused
from ekiden.base.sender import DOUBLE_BOUNCE
from ekiden.wire.smtp.events import Mail, Rcpt
from ekiden.wire.smtp.syntax import is_xtext, parse_path

_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")
_DIGITS = re.compile(rb"[0-9]{1,20}")
_ORCPT_TYPE = re.compile(rb"[A-Za-z0-9-]+")

_BODIES = {b"7BIT": Body.SEVENBIT, b"8BITMIME": Body.EIGHTBIT, b"BINARYMIME": Body.BINARY}
_NOTIFIES = {b"SUCCESS": Notify.SUCCESS, b"FAILURE": Notify.FAILURE, b"DELAY": Notify.DELAY}
_MAIL_KEYWORDS = frozenset({b"SIZE", b"BODY", b"SMTPUTF8", b"RET", b"ENVID"})
_MAIL_KEYWORDS_AND_AUTH = _MAIL_KEYWORDS | {b"AUTH"}
"""RFC 4954 section 5 has AUTH taken from everybody; nothing follows from it, as from a client that is not trusted."""
_RCPT_KEYWORDS = frozenset({b"NOTIFY", b"ORCPT"})
_ENVID_OCTETS = 100
_ORCPT_OCTETS = 500

_DOUBLE_BOUNCE = re.compile(rb" *<(" + re.escape(DOUBLE_BOUNCE) + rb")>")
"""qmail and ekiden send it on, though it is no mailbox."""


def parse_mail(argument: bytes, auth: bool = False) -> Mail:
    """The argument of MAIL; ``auth`` if AUTH is offered, and its parameter taken. Raises Refused."""
    if argument[:5].upper() != b"FROM:":
        raise Refused(501, "5.5.4", "syntax: MAIL FROM:<address>")
    try:
        sender, rest = parse_path(argument[5:])
    except ValueError:
        found = _DOUBLE_BOUNCE.match(argument, 5)
        if found is None:
            raise Refused(501, "5.1.7", "sender address has a syntax error") from None
        sender, rest = found.group(1), argument[found.end() :]
    if not rest:
        if not sender.isascii():
            _check_address(sender, False)
        return Mail(Envelope(sender, []), 0)
    given = _parameters(rest, _MAIL_KEYWORDS_AND_AUTH if auth else _MAIL_KEYWORDS)
    if b"AUTH" in given and given[b"AUTH"] != b"<>" and not (given[b"AUTH"] and is_xtext(given[b"AUTH"])):
        raise _malformed("AUTH")
    smtputf8 = b"SMTPUTF8" in given
    if given.get(b"SMTPUTF8"):
        raise _malformed("SMTPUTF8")
    _check_address(sender, smtputf8)
    ret = given.get(b"RET", b"").upper()
    if ret not in (b"", b"FULL", b"HDRS") or given.get(b"RET") == b"":
        raise _malformed("RET")
    envelope = Envelope(sender, [], _body(given), smtputf8, ret, _envid(given))
    return Mail(envelope, _size(given))


def parse_rcpt(argument: bytes, smtputf8: bool) -> Rcpt:
    """The argument of RCPT; ``smtputf8`` if MAIL bore SMTPUTF8. Raises Refused."""
    if argument[:3].upper() != b"TO:":
        raise Refused(501, "5.5.4", "syntax: RCPT TO:<address>")
    try:
        address, rest = parse_path(argument[3:])
    except ValueError:
        address = b""
    if not address:
        raise Refused(501, "5.1.3", "recipient address has a syntax error")
    if not address.isascii():
        _check_address(address, smtputf8)
    if not rest:
        return Rcpt(Recipient(address))
    given = _parameters(rest, _RCPT_KEYWORDS)
    return Rcpt(Recipient(address, _notify(given), _orcpt(given, smtputf8)))


def said_path(argument: bytes) -> bytes:
    """What the argument of MAIL or RCPT has in the place of the address, be it one or not: for the log."""
    said = argument.partition(b":")[2].strip()
    return said[1:].partition(b">")[0] if said.startswith(b"<") else said.partition(b" ")[0]


def _parameters(rest: bytes, known: frozenset[bytes]) -> Mapping[bytes, bytes]:
    """Keywords, in upper case, and their values, empty if there is none."""
    if not rest.startswith(b" "):
        raise Refused(501, "5.5.4", "syntax error after the address")
    given: dict[bytes, bytes] = {}
    for word in rest.split(b" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise Refused(501, "5.5.4", "syntax error in a parameter")
        keyword = match.group(1).upper()
        if keyword not in known:
            raise Refused(555, "5.5.4", f"parameter {keyword.decode()} is not supported")
        if keyword in given:
            raise _malformed(keyword.decode())
        given[keyword] = match.group(2) or b""
    return given


def _check_address(address: bytes, smtputf8: bool) -> None:
    """RFC 6531 section 3.4: octets beyond ASCII need SMTPUTF8, and must be UTF-8."""
    if address.isascii():
        return
    if not smtputf8:
        raise Refused(553, "5.6.7", "an address beyond ASCII needs SMTPUTF8")
    try:
        address.decode()
    except UnicodeDecodeError:
        raise Refused(553, "5.6.7", "address is not UTF-8") from None


def _body(given: Mapping[bytes, bytes]) -> int:
    if b"BODY" not in given:
        return Body.SEVENBIT
    body = _BODIES.get(given[b"BODY"].upper())
    if body is None:
        raise _malformed("BODY")
    return body


def _size(given: Mapping[bytes, bytes]) -> int:
    if b"SIZE" not in given:
        return 0
    if not _DIGITS.fullmatch(given[b"SIZE"]):
        raise _malformed("SIZE")
    return int(given[b"SIZE"])


def _envid(given: Mapping[bytes, bytes]) -> bytes:
    if b"ENVID" not in given:
        return b""
    envid = given[b"ENVID"]
    if not envid or len(envid) > _ENVID_OCTETS or not is_xtext(envid):
        raise _malformed("ENVID")
    return envid


def _notify(given: Mapping[bytes, bytes]) -> int:
    """RFC 3461 section 4.1: NEVER alone, or a list of the others."""
    if b"NOTIFY" not in given:
        return Notify.DEFAULT
    value = given[b"NOTIFY"].upper()
    if value == b"NEVER":
        return Notify.NEVER
    notify = 0
    for word in value.split(b","):
        if word not in _NOTIFIES:
            raise _malformed("NOTIFY")
        notify |= _NOTIFIES[word]
    return notify


def _orcpt(given: Mapping[bytes, bytes], smtputf8: bool) -> bytes:
    """RFC 3461 section 4.2; with SMTPUTF8 the address may be UTF-8 (RFC 6533 section 3)."""
    if b"ORCPT" not in given:
        return b""
    orcpt = given[b"ORCPT"]
    kind, semicolon, address = orcpt.partition(b";")
    good = bool(semicolon and address) and len(orcpt) <= _ORCPT_OCTETS and _ORCPT_TYPE.fullmatch(kind)
    unicode = smtputf8 and kind.lower() == b"utf-8"
    if not good or not (unicode or is_xtext(address)):
        raise _malformed("ORCPT")
    if unicode:
        _check_address(address, True)
    return orcpt


def _malformed(keyword: str) -> Refused:
    return Refused(501, "5.5.4", f"parameter {keyword} has a syntax error or is given twice")
