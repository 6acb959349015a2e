"""The router: where a recipient goes, as qmail-send's rewriting and qmail-remote's smtproutes have it.

Built once from the settings, asked once per recipient. What depends on the domain alone is worked out the first
time a domain is seen and kept in a bounded table, so that a recipient costs one look-up and one small value.
Source: qmail-send(8), qmail-remote(8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ekiden.routing.destination import LOCAL, RouteError, mx_destination, relay_destination
from ekiden.routing.rewrite import domain_of, percent_expansions, route_entry, virtual_entry

if TYPE_CHECKING:
    from ekiden.settings.schema import Settings

KNOWN_DOMAINS = 4096
"""How many domains' plans are kept; beyond that all are forgotten, which costs a few microseconds each."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """Where one recipient goes.

    ``channel`` is ``local`` or ``remote``; ``recipient`` is the address as rewritten; ``destination`` is the
    scheduler's key, see ``routing.destination``.
    """

    channel: str
    recipient: bytes
    destination: bytes


class _Plan(msgspec.Struct, frozen=True, gc=False):
    """What a domain decides. ``singular``: single addresses or percent signs at this domain have their own rules."""

    channel: str
    prepend: bytes
    destination: bytes
    singular: bool


class Router:
    """Decides by the settings envnoathost, percenthack, locals, virtualdomains, smtproutes and remoteport.

    Raises RouteError if smtproutes holds a relay that cannot be connected to.
    """

    def __init__(self, settings: Settings) -> None:
        self._envnoathost = b"@" + settings.envnoathost
        self.percenthack = frozenset(map(bytes.lower, settings.percenthack))
        self.locals = frozenset(map(bytes.lower, settings.locals))
        self.virtualdomains = {key.lower(): value for key, value in settings.virtualdomains.items()}
        self.smtproutes = {key.lower(): value for key, value in settings.smtproutes.items()}
        self.port = settings.remoteport
        self._relays = {key: _relay(key, value, self.port) for key, value in self.smtproutes.items()}
        self._domains_with_users = frozenset(domain_of(key) for key in self.virtualdomains if b"@" in key)
        self._plans: dict[bytes, _Plan] = {}
        self._hops: dict[bytes, bytes] = {}

    def route(self, recipient: bytes) -> Decision:
        """Decide for one recipient; never fails. The address may lack an @."""
        at = recipient.rfind(b"@")
        if at < 0:
            at = len(recipient)
            recipient += self._envnoathost
        plan = self._plans.get(recipient[at + 1 :]) or self._learn(recipient[at + 1 :])
        if plan.singular:
            return self._route_singular(recipient)
        return Decision(plan.channel, plan.prepend + recipient, plan.destination)

    def next_hop(self, recipient: bytes) -> bytes:
        """The scheduler's key for a recipient that is remote already, by smtproutes alone (qmail-remote(8))."""
        domain = domain_of(recipient)
        hop = self._hops.get(domain)
        if hop is None:
            if len(self._hops) >= KNOWN_DOMAINS:
                self._hops.clear()
            hop = self._hops[domain] = self._next_hop(domain.lower())
        return hop

    def sends_as(self, other: Router) -> bool:
        """Whether remote recipients have the same next hops with both."""
        return self._relays == other._relays

    def complete(self, recipient: bytes) -> bytes:
        """The recipient with @envnoathost if it has no @."""
        return recipient if b"@" in recipient else recipient + self._envnoathost

    def _learn(self, domain: bytes) -> _Plan:
        if len(self._plans) >= KNOWN_DOMAINS:
            self._plans.clear()
        lowered = domain.lower()
        singular = lowered in self._domains_with_users or lowered in self.percenthack
        plan = self._plans[domain] = self._plan(b"@" + domain, singular)
        return plan

    def _route_singular(self, recipient: bytes) -> Decision:
        for expanded in percent_expansions(recipient, self.percenthack):
            recipient = expanded
        plan = self._plan(recipient, singular=False)
        return Decision(plan.channel, plan.prepend + recipient, plan.destination)

    def _plan(self, recipient: bytes, singular: bool) -> _Plan:
        domain = domain_of(recipient).lower()
        if domain in self.locals:
            return _Plan("local", b"", LOCAL, singular)
        entry = virtual_entry(recipient, self.virtualdomains)
        if entry is not None and entry[1]:
            return _Plan("local", entry[1] + b"-", LOCAL, singular)
        return _Plan("remote", b"", self._next_hop(domain), singular)

    def _next_hop(self, domain: bytes) -> bytes:
        entry = route_entry(domain, self._relays)
        return (entry and entry[1]) or mx_destination(domain)


def _relay(domain: bytes, relay: bytes, port: int) -> bytes:
    if not relay:
        return b""
    try:
        return relay_destination(relay, port)
    except RouteError as error:
        raise RouteError(f"smtproutes: {domain.decode('utf-8', 'backslashreplace')}:{error}") from None
