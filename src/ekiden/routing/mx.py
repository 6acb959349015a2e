"""Which hosts take a domain's mail: the rules of RFC 5321 section 5.1 and RFC 7505, without a resolver.

``find_hosts`` is a generator: it yields batches of questions, is sent the answers in the same order, and returns the
hosts in the order in which they are to be tried, or the outcome for all recipients if there are none. So the same
rules serve the daemon, which asks a whole batch at once, and qmail-remote, which asks one after the other.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Container, Generator, Sequence
from itertools import chain, zip_longest

import msgspec

from ekiden.base.outcome import Outcome, Verdict
from ekiden.routing.destination import Destination, parse_literal

HOSTS = 30
"""Mail exchangers looked at; more are not a mail system's but an attack's."""

LOOPBACK = ("::1", "127.0.0.1")


class Question(msgspec.Struct, frozen=True):
    """``kind`` is ``MX``, ``A`` or ``AAAA``."""

    name: bytes
    kind: str


class Answered(enum.Enum):
    """FOUND; NOTHING: the name exists without such records; NO_NAME: NXDOMAIN; FAILED: ask again later."""

    FOUND = enum.auto()
    NOTHING = enum.auto()
    NO_NAME = enum.auto()
    FAILED = enum.auto()


class Answer(msgspec.Struct, frozen=True):
    """``exchangers`` are (preference, name without final dot) for MX, ``addresses`` are text for A and AAAA.

    CNAME chains are already followed (RFC 1034 section 3.6.2).
    """

    result: Answered
    exchangers: tuple[tuple[int, bytes], ...] = ()
    addresses: tuple[str, ...] = ()


class Host(msgspec.Struct, frozen=True):
    """An address to try, or a unix socket's path, with the name that led there (empty for a literal)."""

    address: str
    port: int
    name: bytes = b""
    preference: int = 0
    lmtp: bool = False

    @property
    def remote(self) -> str:
        """How reports name it (RFC 3464 Remote-MTA)."""
        if self.name or self.address.startswith("/"):
            return self.name.decode("ascii", "replace") or self.address
        return f"[{self.address}]"


class Surroundings(msgspec.Struct, frozen=True):
    """``is_own_address`` and ``own_names`` find MX records that point to this host; ``ipv6``: use IPv6 addresses."""

    is_own_address: Callable[[str], bool]
    own_names: Container[bytes] = frozenset()
    ipv6: bool = True
    port: int = 25


Search = Generator[list[Question], Sequence[Answer], list[Host] | Outcome]


LOOKUP_FAILED = Outcome(Verdict.DEFERRED, "4.4.3", "CNAME lookup failed temporarily. (#4.4.3)\n")
NO_EXCHANGER = Outcome(Verdict.FAILED, "5.4.4", "Sorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n")
BEST_IS_ME = Outcome(
    Verdict.FAILED,
    "5.4.6",
    "Sorry. Although I'm listed as a best-preference MX or A for that host,\n"
    "control/locals does not make it mine, and sending it on would be a loop. (#5.4.6)\n",
)


def find_hosts(destination: Destination, here: Surroundings, chance: random.Random | None = None) -> Search:
    """The hosts for a destination, by preference, equal ones shuffled, IPv6 and IPv4 in turn within a host."""
    hosts = yield from _find(destination, here, chance)
    if destination.lmtp and not isinstance(hosts, Outcome):
        return [msgspec.structs.replace(host, lmtp=True) for host in hosts]
    return hosts


def _find(destination: Destination, here: Surroundings, chance: random.Random | None) -> Search:
    if destination.is_literal:
        return [Host(destination.host.decode("utf-8", "surrogateescape"), destination.port)]
    literal = parse_literal(destination.host)
    if literal is not None:
        return [Host(literal.decode(), destination.port)]
    if _is_localhost(destination.host):
        hosts = [Host(address, destination.port, destination.host) for address in LOOPBACK[0 if here.ipv6 else 1 :]]
        return hosts if not destination.use_mx else (before_me(hosts, here) or BEST_IS_ME)
    if not destination.use_mx:
        hosts, doubtful = yield from _hosts_of([(0, destination.host)], destination.port, here)
        return hosts or (LOOKUP_FAILED if doubtful else _no_relay(destination.host))
    return (yield from _search_exchangers(destination, here, chance or random.Random()))


def _is_localhost(name: bytes) -> bool:
    """A name that is this machine's whatever the DNS says or whether there is one (RFC 6761 section 6.3)."""
    return (b"." + name.removesuffix(b".")).endswith(b".localhost")


def _search_exchangers(destination: Destination, here: Surroundings, chance: random.Random) -> Search:
    (answer,) = yield [Question(destination.host, "MX")]
    if answer.result is Answered.FAILED:
        return LOOKUP_FAILED
    if answer.result is Answered.NO_NAME:
        return _no_host(destination.host)
    exchangers = order([entry for entry in answer.exchangers if entry[1]], chance)
    if answer.exchangers and not exchangers:
        return _null_mx(destination.host)
    nothing = NO_EXCHANGER if exchangers else _no_host(destination.host)
    exchangers = exchangers or [(0, destination.host)]
    before = _before_my_name(exchangers, here)
    if not before:
        return BEST_IS_ME
    hosts, doubtful = yield from _hosts_of(before[:HOSTS], destination.port, here)
    better = before_me(hosts, here)
    if better:
        return better
    # Nobody is known who is better than this host, but a look-up that failed may hide one.
    if any(not hosts or preference < hosts[0].preference for preference in doubtful):
        return LOOKUP_FAILED
    return BEST_IS_ME if hosts or len(before) < len(exchangers) else nothing


def order(exchangers: Sequence[tuple[int, bytes]], chance: random.Random) -> list[tuple[int, bytes]]:
    """Lowest preference first; equal ones at random, so that they share the load."""
    return sorted(exchangers, key=lambda entry: (entry[0], chance.random()))


def _before_my_name(exchangers: list[tuple[int, bytes]], here: Surroundings) -> list[tuple[int, bytes]]:
    """Those preferred to this host's own name, whether or not that has an address just now."""
    mine = min((preference for preference, name in exchangers if name in here.own_names), default=None)
    return [entry for entry in exchangers if mine is None or entry[0] < mine]


def before_me(hosts: Sequence[Host], here: Surroundings) -> list[Host]:
    """The hosts that are preferred to this one, if it is among them (RFC 5321 section 5.1: no loops)."""
    mine = [host.preference for host in hosts if here.is_own_address(host.address)]
    return [host for host in hosts if not mine or host.preference < min(mine)]


def _hosts_of(
    names: Sequence[tuple[int, bytes]], port: int, here: Surroundings
) -> Generator[list[Question], Sequence[Answer], tuple[list[Host], list[int]]]:
    """All names' addresses in order; and the preferences of names for which a look-up has failed."""
    kinds = ("AAAA", "A") if here.ipv6 else ("A",)
    answers = yield [Question(name, kind) for _, name in names for kind in kinds]
    hosts: list[Host] = []
    doubtful: list[int] = []
    for place, (preference, name) in enumerate(names):
        found = answers[place * len(kinds) : (place + 1) * len(kinds)]
        mixed = chain.from_iterable(zip_longest(*(answer.addresses for answer in found)))
        hosts += [Host(address, port, name, preference) for address in mixed if address is not None]
        if any(answer.result is Answered.FAILED for answer in found):
            doubtful.append(preference)
    return hosts, doubtful


def _no_host(name: bytes) -> Outcome:
    return Outcome(Verdict.FAILED, "5.1.2", f"Sorry, I couldn't find any host named {_shown(name)}. (#5.1.2)\n")


def _no_relay(name: bytes) -> Outcome:
    """For now: what the administrator wrote is wrong, or the DNS that knows it, and not the sender's address."""
    text = f"Sorry, I couldn't find any host named {_shown(name)}, the relay that smtproutes names. (#4.3.5)\n"
    return Outcome(Verdict.DEFERRED, "4.3.5", text)


def _shown(name: bytes) -> str:
    return "".join(chr(octet) if 33 <= octet <= 126 else "?" for octet in name)


def _null_mx(name: bytes) -> Outcome:
    shown = name.decode("ascii", "replace")
    text = f"Sorry, {shown} says in the DNS that it takes no mail (null MX). (#5.1.10)\n"
    return Outcome(Verdict.FAILED, "5.1.10", text)
