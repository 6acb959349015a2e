"""Acceptance at the door: which clients may relay, which senders are refused, which recipients are taken.

As qmail-smtpd(8) has it, with two rules more, so that no address taken for a host of ours leads elsewhere: the
percent hack is followed here as the router will follow it, and an address that names a further host in its local
part is refused. Both are for clients without RELAYCLIENT, and only while there is a control/rcpthosts: without one
this is an open relay by its administrator's wish.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from ekiden.base.reply import Refused
from ekiden.routing.destination import parse_literal
from ekiden.routing.rewrite import domain_of, percent_expansions
from ekiden.settings.addresses import own_addresses
from ekiden.tables.replacedcdb import ReplacedCdb
from ekiden.tables.table import TableError
from ekiden.tables.text import HostList

if TYPE_CHECKING:
    from ekiden.policy.tcprules import Verdict
    from ekiden.settings.schema import Settings

BAD_SENDER = "sorry, your envelope sender is in my badmailfrom list (#5.7.1)"
NOT_YOURS = "sorry, %s may not send as that address (#5.7.1)"
BAD_RECIPIENT = "sorry, that recipient is in my badrcptto list (#5.7.1)"
NOT_LISTED = "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"
ROUTED = "sorry, I don't relay by %, ! or @ within an address (#5.7.1)"
NO_TABLE = "unable to read controls (#4.3.0)"

_ROUTED_LOCAL_PART = re.compile(rb"@|[%!].", re.DOTALL)
_ROUTED_DOMAIN = re.compile(rb"[%!,\x00-\x20]")
_KNOWN_DOMAINS = 4096


class ClientPolicy(msgspec.Struct, frozen=True, gc=False):
    """What a client may do. ``suffix`` is RELAYCLIENT's value, put to every recipient if ``relay``; ``databytes`` is
    the largest message in octets as stored, 0 for no limit. ``login``: as whom it has logged in, if it has."""

    relay: bool = False
    suffix: bytes = b""
    databytes: int = 0
    login: bytes = b""


class Acceptance:
    """Decides by badmailfrom, senderlogins, badrcptto, rcpthosts, morercpthosts, percenthack, localiphost, databytes.

    ``own`` gives this host's IP addresses in text.
    """

    def __init__(self, settings: Settings, own: Callable[[], Iterable[str]] = own_addresses) -> None:
        self._own = own
        self._databytes = settings.databytes
        self._localiphost = settings.localiphost
        self._envnoathost = settings.envnoathost
        self._badmailfrom = settings.badmailfrom
        self._senderlogins = settings.senderlogins
        self._badrcptto = settings.badrcptto
        self._percenthack = settings.percenthack
        self._open = settings.rcpthosts is None
        self._hosts = HostList((settings.rcpthosts or frozenset()) | settings.morercpthosts)
        more = settings.morercpthosts_cdb
        self._more_hosts = HostList((), ReplacedCdb(more)) if more else None
        self._plain: set[bytes] = set()

    def client(self, address: str, verdict: Verdict) -> ClientPolicy:
        """The policy for a client whose connection the rules allow. ``address`` is its IP address in text.

        The rules' variables count as qmail-smtpd's environment does: RELAYCLIENT, if set at all, and DATABYTES, of
        which the leading digits count.
        """
        environment = verdict.environment
        suffix = environment.get(b"RELAYCLIENT")
        limit = environment.get(b"DATABYTES")
        databytes = self._databytes if limit is None else _leading_number(limit)
        return ClientPolicy(suffix is not None, suffix or b"", databytes)

    def sender(self, address: bytes, login: bytes = b"") -> bytes:
        """The reverse-path as it shall be kept. Raises Refused if it or its host is in badmailfrom.

        Also if it is not among those that senderlogins lets ``login`` use; the null reverse-path is everybody's.
        """
        if b"@[" in address:
            address = self._with_own_name(address)
        if self._badmailfrom and _listed(address, self._badmailfrom):
            raise Refused(553, "5.7.1", BAD_SENDER)
        if login and address and self._senderlogins and not self._is_of(address.lower(), login):
            raise Refused(553, "5.7.1", NOT_YOURS % login.decode("ascii", "backslashreplace"))
        return address

    def _is_of(self, address: bytes, login: bytes) -> bool:
        """Whether a sender, in lower case, may be used by ``login``. An address counts before its host."""
        local, at, domain = address.rpartition(b"@")
        table = self._senderlogins
        logins = table.get(address, table.get(at + domain, b"")).split()
        return login in logins or (b"%u" in logins and login.lower() in (local, address))

    def recipient(self, address: bytes, client: ClientPolicy) -> bytes:
        """The forward-path as it shall be kept. Raises Refused if it is not accepted from this client."""
        at = address.rfind(b"@")
        if address[at + 1 :] not in self._plain:
            address = self._examine(address, client)
        elif not client.relay and _ROUTED_LOCAL_PART.search(address, 0, at):
            raise Refused(553, "5.7.1", ROUTED)
        if self._badrcptto and _listed(address, self._badrcptto):
            raise Refused(553, "5.7.1", BAD_RECIPIENT)
        return address + client.suffix

    def _examine(self, address: bytes, client: ClientPolicy) -> bytes:
        if b"@[" in address:
            address = self._with_own_name(address)
        complete = address if b"@" in address else address + b"@" + self._envnoathost
        final = complete
        for final in percent_expansions(complete, self._percenthack):  # noqa: B007
            pass
        if not client.relay and not self._open:
            self._check_hosts(address, complete, final)
        if final != address and _listed(final, self._badrcptto):
            raise Refused(553, "5.7.1", BAD_RECIPIENT)
        return address

    def _check_hosts(self, address: bytes, complete: bytes, final: bytes) -> None:
        """Refuse what is not for a host in rcpthosts, neither as it says nor where the percent hack takes it.

        An address without @ is taken whatever envnoathost is, as qmail-smtpd does.
        """
        domain = domain_of(final)
        if complete == address and not self._allows(domain_of(address)):
            raise Refused(553, "5.7.1", NOT_LISTED)
        if final != complete and not self._allows(domain):
            raise Refused(553, "5.7.1", NOT_LISTED)
        if _ROUTED_LOCAL_PART.search(final, 0, len(final) - len(domain) - 1) or _ROUTED_DOMAIN.search(domain):
            raise Refused(553, "5.7.1", ROUTED)
        if final == address and domain.lower() not in self._percenthack and self._hosts.matches(domain):
            self._learn(domain)

    def _learn(self, domain: bytes) -> None:
        """Remember a domain that needs no second look: only those that the settings, not a file, decide."""
        if len(self._plain) >= _KNOWN_DOMAINS:
            self._plain.clear()
        self._plain.add(domain)

    def _allows(self, domain: bytes) -> bool:
        if self._hosts.matches(domain):
            return True
        if self._more_hosts is None:
            return False
        try:
            return self._more_hosts.matches(domain)
        except TableError:
            raise Refused(451, "4.3.0", NO_TABLE) from None

    def _with_own_name(self, address: bytes) -> bytes:
        """``box@[d.d.d.d]`` at one of this host's addresses becomes ``box@localiphost``."""
        local, _, domain = address.rpartition(b"@")
        literal = parse_literal(domain) if domain.startswith(b"[") else None
        if literal is None or not self._localiphost:
            return address
        text = literal.decode()
        if text in ("0.0.0.0", "::", "::1") or text.startswith("127.") or text in self._own():
            return local + b"@" + self._localiphost
        return address


def _listed(address: bytes, entries: frozenset[bytes]) -> bool:
    """Whether the address, or ``@`` and its domain, is among the entries, which are in lower case."""
    address = address.lower()
    return address in entries or (b"@" in address and address[address.rfind(b"@") :] in entries)


def _leading_number(text: bytes) -> int:
    digits = re.match(rb"[0-9]{0,18}", text)
    return int((digits and digits[0]) or 0)
