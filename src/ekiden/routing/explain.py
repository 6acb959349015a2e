"""Why a recipient goes where it goes: the router's steps in words, with the file and line that decided each.

Only people ask this, so it reads the control files again rather than have the router carry line numbers about.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ekiden.routing.destination import Destination, parse_destination
from ekiden.routing.rewrite import domain_of, percent_expansions, route_entry, virtual_entry
from ekiden.settings.lines import entries, load

if TYPE_CHECKING:
    from ekiden.routing.route import Router


class Reason(msgspec.Struct, frozen=True, gc=False):
    """One step of a decision. ``file`` is the control file's name, empty if none decided; ``line`` counts from 1,
    0 if the file is absent or nothing in it matched."""

    text: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        if not self.file:
            return self.text
        return f"{self.text} (control/{self.file}{f', line {self.line}' if self.line else ''})"


def find_line(control: Path | None, name: str, key: bytes, keyed: bool = False) -> int:
    """The number of the line that says ``key`` in a control file, from 1; 0 if there is none or no such file.

    ``key`` is lower-case. ``keyed``: lines are ``key:value``. The last such line counts, as it does for qmail.
    Raises OSError if the file is there and cannot be read.
    """
    raw = load(control / name) if control is not None else None
    found = 0
    for number, entry in entries(raw or b""):
        said = entry.lower()
        if said.startswith(key + b":") if keyed else said == key:
            found = number
    return found


def explain(router: Router, recipient: bytes, control: Path | None) -> list[Reason]:
    """The steps that lead to ``router.route(recipient)``, in order; at least one."""
    reasons = []
    if b"@" not in recipient:
        recipient = router.complete(recipient)
        file = "envnoathost" if control is not None and (control / "envnoathost").exists() else "me"
        line = 1 if control is not None and (control / file).exists() else 0
        reasons.append(Reason(f"{_show(recipient)}: a domain is put to an address without @", file, line))
    for expanded in percent_expansions(recipient, router.percenthack):
        key = domain_of(recipient).lower()
        text = f"{_show(recipient)} becomes {_show(expanded)}: the percent hack applies to {_show(key)}"
        reasons.append(Reason(text, "percenthack", find_line(control, "percenthack", key)))
        recipient = expanded
    return reasons + _explain_channel(router, recipient, control)


def _explain_channel(router: Router, recipient: bytes, control: Path | None) -> list[Reason]:
    domain = domain_of(recipient).lower()
    if domain in router.locals:
        line = find_line(control, "locals", domain)
        file = "me" if control is not None and not (control / "locals").exists() else "locals"
        return [Reason(f"{_show(recipient)} is local: {_name(domain)} is in locals", file, line or int(file == "me"))]
    entry = virtual_entry(recipient, router.virtualdomains)
    reasons = []
    if entry is not None:
        key, prepend = entry
        line = find_line(control, "virtualdomains", key, keyed=True)
        if prepend:
            rewritten = prepend + b"-" + recipient
            text = f"{_show(recipient)} becomes {_show(rewritten)} and is local: {_name(key)} is virtual"
            return [Reason(text, "virtualdomains", line)]
        reasons.append(Reason(f"{_name(key)} is an exception: not virtual", "virtualdomains", line))
    reasons.append(_explain_route(router, recipient, domain, control))
    return reasons


def _explain_route(router: Router, recipient: bytes, domain: bytes, control: Path | None) -> Reason:
    hop = parse_destination(router.route(recipient).destination, router.port)
    entry = route_entry(domain, router.smtproutes)
    if entry is None:
        return Reason(f"{_show(recipient)} is remote: {_hop(hop)}")
    line = find_line(control, "smtproutes", entry[0], keyed=True)
    return Reason(f"{_show(recipient)} is remote: {_name(entry[0])} goes to {_hop(hop)}", "smtproutes", line)


def _hop(hop: Destination) -> str:
    if hop.use_mx:
        return f"the mail exchangers of {_name(hop.host)}"
    host = _show(hop.host)
    protocol = " by LMTP" if hop.lmtp else ""
    if not hop.port:
        return f"the unix socket {host}{protocol}"
    return f"{f'[{host}]' if hop.is_literal else host} port {hop.port}{protocol}"


def _name(key: bytes) -> str:
    return _show(key) or "every other domain"


def _show(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
