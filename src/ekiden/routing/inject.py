"""How injected addresses are completed, and what is said of a sender who says nothing.

Rules: qmail-inject(8), qmail-header(5).
Domains and environment are given, never looked up. ``Malformed`` is raised where a control file or a variable holds
what cannot be part of an address.
"""

from __future__ import annotations

from ekiden.base.mailbox import (
    AT,
    ATOM,
    COLON,
    COMMENT,
    LEFT,
    LITERAL,
    QUOTE,
    RIGHT,
    Token,
    needs_quote,
    parse,
    quote,
    unparse,
    unquote,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Defaults:
    """The three domains that complete addresses (qmail-inject(8), control files), and the one in Message-IDs."""

    def __init__(self, host: bytes, domain: bytes, plus: bytes, idhost: bytes) -> None:
        # What a newline is between words, it is to be in comments too.
        self._host, self._domain, self._plus = (
            parse(mark + text.replace(b"\n", b" ")) for mark, text in ((b"@", host), (b".", domain), (b".", plus))
        )
        self.idhost = _one_line(idhost)

    def complete(self, address: list[Token]) -> list[Token]:
        """An address with host and full domain and without source route; an empty one stays empty.

        ``foo@[]`` means that no bounce is wanted (addresses(5)) and stays as it is.
        """
        if not address or address[-2:] == [AT, (LITERAL, b"")]:
            return address
        address = _without_rubbish(_without_route(address))
        if not address:
            return address
        if AT not in address:
            address = address + self._host
        kind, text = address[-1]
        if kind == ATOM and text.endswith(b"+"):
            address = [*address[:-1], (ATOM, text[:-1]), *self._plus]
        if _is_short(address):
            address = address + self._domain
        return address

    def complete_address(self, address: bytes) -> bytes:
        """The same for an address as it stands in an envelope or on a command line."""
        return unquote(self.complete(parse(quote(address))))


def _without_route(address: list[Token]) -> list[Token]:
    if address[0] != AT:
        return address
    return address[address.index(COLON) + 1 :] if COLON in address else []


def _without_rubbish(address: list[Token]) -> list[Token]:
    """Without a dot, then an at, that ends the address."""
    for kind in (b".", b"@"):
        if address and address[-1][0] == kind:
            address = address[:-1]
    return address


def _is_short(address: list[Token]) -> bool:
    """Whether the host is one name without dots, and no literal."""
    for kind, _text in reversed(address):
        if kind == b"@":
            return True
        if kind == b"." or kind == LITERAL:
            return False
    return True


class Sender:
    """Who injects, as environment variables say (qmail-inject(8)), and the letters of QMAILINJECT."""

    def __init__(self, environment: Mapping[bytes, bytes]) -> None:
        first = _First(environment)
        self._name = first(b"QMAILNAME", b"MAILNAME", b"NAME")
        self._user = first(b"QMAILUSER", b"MAILUSER", b"USER", b"LOGNAME") or b"anonymous"
        self._host = first(b"QMAILHOST", b"MAILHOST")
        return_user, return_host = first(b"QMAILSUSER"), first(b"QMAILSHOST")
        self._return_user = self._user if return_user is None else return_user
        self._return_host = self._host if return_host is None else return_host
        letters = environment.get(b"QMAILINJECT", b"")
        self.ignores_return_path = b"s" in letters
        self.deletes_from = b"f" in letters
        self.deletes_message_id = b"i" in letters
        self.verp = b"r" in letters
        self._per_message = b"m" in letters
        self._as_comment = b"c" in letters

    def from_field(self) -> bytes:
        """``From: "Name" <user@host>`` or, with the letter c, ``From: user@host (Name)``; still to be completed."""
        name = _one_line(self._user)
        user = [(QUOTE if needs_quote(name) else ATOM, name), *_at(self._host and _one_line(self._host))]
        if self._name is None:
            written = user
        elif self._as_comment:
            written = [*user, (COMMENT, _one_line(self._name))]
        else:
            written = [(QUOTE, _one_line(self._name)), LEFT, *user, RIGHT]
        return unparse([(ATOM, b"From"), COLON, *written])

    def return_path(self, when: float, pid: int) -> list[Token]:
        """The default envelope sender, still to be completed.

        The letter m adds time (seconds of the epoch) and process, the letter r the place for the recipient.
        """
        user = self._return_user
        if self._per_message:
            user += b"-%d.%d" % (int(when), pid)
        if self.verp:
            user += b"-"
        return parse(unparse([(QUOTE, user), *_at(self._return_host)]))


def _one_line(text: bytes) -> bytes:
    """What stands in the environment, for a field: the end of a line would end that."""
    return text.replace(b"\n", b"_")


class _First:
    """The value of the first variable that is set; an empty value is a value."""

    def __init__(self, environment: Mapping[bytes, bytes]) -> None:
        self._environment = environment

    def __call__(self, *names: bytes) -> bytes | None:
        return next((self._environment[name] for name in names if name in self._environment), None)


def _at(host: bytes | None) -> list[Token]:
    return [] if host is None else [AT, (ATOM, host)]
