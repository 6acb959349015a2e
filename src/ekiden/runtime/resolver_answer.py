"""What the asynchronous and the blocking resolver share: dnspython's world in routing.mx's words.

Servers come from the setting resolvers, else from /etc/resolv.conf. Without either every look-up fails for now.
"""

from __future__ import annotations

import contextlib
import heapq
import ipaddress
import time
from collections.abc import Callable
from itertools import islice

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdtypes.ANY.MX
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.resolver
import msgspec

from ekiden.routing.mx import Answer, Answered, Question, Surroundings
from ekiden.settings.addresses import own_addresses
from ekiden.settings.schema import Settings

PER_SERVER = 5.0
"""Seconds until the next server, or the same one again, is asked."""

CHAIN = 8
"""CNAMEs followed by ourselves, where the server did not."""

RECORDS = 100
"""Records of an answer that are looked at and remembered; a message has room for thousands."""

NEGATIVE_SECONDS = 60.0
LONGEST_SECONDS = 3600.0
INTERFACES_SECONDS = 60.0

_FAILED = Answer(Answered.FAILED)


class Found(msgspec.Struct, frozen=True):
    """An answer, how many seconds it holds, and the name to ask next if a CNAME was left unfollowed."""

    answer: Answer
    seconds: float
    follow: bytes | None = None


FAILED = Found(_FAILED, 0.0)


def configure(resolver: dns.resolver.BaseResolver, settings: Settings) -> None:
    """Set servers and timeouts. ``resolver`` is made with ``configure=False``.

    Raises dns.exception.DNSException or OSError if there are no servers to ask.
    """
    if settings.resolvers:
        resolver.nameservers = [_nameserver(entry) for entry in settings.resolvers]
    else:
        resolver.read_resolv_conf("/etc/resolv.conf")
    resolver.lifetime = float(settings.timeoutdns)
    resolver.timeout = PER_SERVER
    resolver.cache = None


def _nameserver(entry: str) -> dns.nameserver.Nameserver:
    host, port = entry, 53
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        port = int(rest.removeprefix(":") or 53)
    elif entry.count(":") == 1:
        host, _, text = entry.partition(":")
        port = int(text)
    return dns.nameserver.Do53Nameserver(host, port)


def wire_name(name: bytes) -> dns.name.Name | None:
    """The name as the DNS has it, internationalised ones in their ASCII form; None if no such name can exist."""
    try:
        return dns.name.from_text(name.decode("utf-8"))
    except (dns.exception.DNSException, UnicodeError):
        return None


def translate(question: Question, found: dns.resolver.Answer) -> Found:
    """An answer from the server."""
    if found.response.flags & dns.flags.TC:
        return FAILED  # cut short by TCP too: what is missing may be all that matters
    records = found.rrset
    canonical = found.canonical_name
    if records is None:
        follow = None if canonical == found.qname else canonical.to_text(omit_final_dot=True).encode()
        return Found(Answer(Answered.NOTHING), NEGATIVE_SECONDS, follow)
    seconds = min(float(found.chaining_result.minimum_ttl), LONGEST_SECONDS)
    if question.kind == "MX":
        best = heapq.nsmallest(RECORDS, records, key=lambda record: record.preference)
        entries = [(int(record.preference), _text(record.exchange)) for record in best]
        return Found(Answer(Answered.FOUND, exchangers=tuple(entries)), seconds)
    addresses = tuple(record.address for record in islice(records, RECORDS))
    return Found(Answer(Answered.FOUND, addresses=addresses), seconds)


def _text(name: dns.name.Name) -> bytes:
    """Lower-case, without the final dot; the root is empty."""
    return name.to_text(omit_final_dot=True).encode().lower() if name != dns.name.root else b""


def failure(error: Exception) -> Found:
    """What an exception of dnspython's means."""
    if isinstance(error, dns.resolver.NXDOMAIN):
        return Found(Answer(Answered.NO_NAME), NEGATIVE_SECONDS)
    return FAILED


def surroundings(settings: Settings) -> Surroundings:
    """This host as routing.mx must know it, so that no MX record leads mail back to it.

    Next hops at a port that we do not listen at cannot be us, whatever their address.
    """
    ports = {25} | {listener.port for listener in settings.listen if listener.service == "smtp"}
    if settings.remoteport not in ports:
        return Surroundings(lambda address: False, frozenset(), settings.ipv6)
    names = settings.locals | {settings.me.lower(), settings.localiphost.lower()}
    return Surroundings(_own_address(), names, settings.ipv6)


def _own_address() -> Callable[[str], bool]:
    """A test for addresses of this host; the interfaces are looked at again every minute."""
    known: frozenset[str] = frozenset()
    until = 0.0

    def is_own(address: str) -> bool:
        nonlocal known, until
        now = time.monotonic()
        if now >= until:
            # Without the kernel's list only loopback is known to be us, which is better than sending nothing.
            with contextlib.suppress(OSError):
                known = own_addresses()
            until = now + INTERFACES_SECONDS
        parsed = ipaddress.ip_address(address)
        # An AAAA record may hold an IPv4 address, which is what is called then.
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return str(parsed) in known or parsed.is_loopback or parsed.is_unspecified

    return is_own
