"""Names of this host (class w) and hosts that may relay (class R, relay-domains)."""

from __future__ import annotations

import ipaddress
import re

from ekiden.migration.facts import Facts
from ekiden.migration.finding import Place, Said
from ekiden.migration.plan import Plan
from ekiden.migration.source import Source

RELAYCLIENT = ',RELAYCLIENT=""'
NO_NAMES = "clients are known by address, not by name"

_DOMAIN = re.compile(r"\.?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){0,3}\.?")


def class_members(source: Source, said: list[Said], files: list[Said], default: str) -> list[Said]:
    """A class's members: those that the configuration names, then those in its files, else in the usual file."""
    found = list(said)
    paths = [source.find(file.value) for file in files] if files else [source.find(default)]
    for path, file in zip(paths, files or [Said(default, Place(default))], strict=True):
        if path is not None:
            found += source.words(path)
        elif files and "-o" not in file.value:
            source.report.left(file.place, f"{file.value} is not there")
    return found


def is_domain(name: str) -> bool:
    """Whether a word can be a domain, perhaps with a dot in front."""
    return bool(_DOMAIN.fullmatch(name)) and not _IPV4.fullmatch(name)


def local_hosts(source: Source, facts: Facts) -> list[Said]:
    """Class w, with localhost, which sendmail knows without being told."""
    if source.find("local-host-names") is None and not facts.host_files:
        # The name that the file had before version 8.10.
        files = [Said("sendmail.cw", Place("sendmail.cw"))] if source.find("sendmail.cw") else []
    else:
        files = facts.host_files
    if "Fw" in facts.options:
        files = [facts.options["Fw"]]
    named = [facts.name] if facts.name and is_domain(facts.name.value.lower()) else []
    found = [Said(said.value.lower(), said.place) for said in named]
    found += class_members(source, facts.hosts, files, "local-host-names")
    good = []
    for said in found:
        if said.value.startswith("[") and said.value.endswith("]"):
            source.report.changed(said.place, f"{said.value}: this host's addresses are known without being listed")
        elif not is_domain(said.value):
            source.report.left(said.place, f"{said.value!r} is not a host name")
        else:
            good.append(said)
    return good


def relay_key(word: str) -> str:
    """The address of a tcp rule for an address or network as sendmail writes it; empty if it is neither.

    ``192.168`` is every address that begins so, ``ipv6:2001:db8`` likewise.
    """
    if word.startswith("ipv6:"):
        groups = word[5:].rstrip(":").split(":")
        try:
            if "::" in word[5:-1] or len(groups) == 8:
                return str(ipaddress.IPv6Address(word[5:]))
            network = ":".join(groups) + "::"
            return str(ipaddress.IPv6Network(f"{network}/{16 * len(groups)}"))
        except ValueError:
            return ""
    if not _IPV4.fullmatch(word) or any(int(part) > 255 for part in word.rstrip(".").split(".")):
        return ""
    parts = word.rstrip(".").split(".")
    return word if len(parts) == 4 else ".".join(parts) + "."


def relay_domains(source: Source, facts: Facts, plan: Plan) -> None:
    """Class R: domains are taken mail for, addresses may send it anywhere."""
    report = source.report
    exact = "relay_hosts_only" in facts.features
    for said in class_members(source, facts.relays, facts.relay_files, "relay-domains"):
        key = relay_key(said.value)
        if key:
            plan.add("control/tcp.smtp", f"{key}:allow{RELAYCLIENT}")
            report.carried(said.place, f"{said.value} may relay: control/tcp.smtp")
        elif is_domain(said.value):
            relay_to(plan, said.value, exact)
            remedy = f"add the addresses of {said.value} to control/tcp.smtp if its hosts send through this one"
            report.changed(
                said.place, f"mail to {said.value} is accepted (control/rcpthosts), but {NO_NAMES}", remedy
            )
        else:
            report.left(said.place, f"{said.value!r} is neither a domain nor an address")


def relay_to(plan: Plan, domain: str, exact: bool = False) -> None:
    """Accept mail for a domain, and unless ``exact`` for what is below it."""
    name = domain.lstrip(".")
    if exact:
        plan.add("control/rcpthosts", name)
    else:
        plan.add("control/rcpthosts", *([] if domain.startswith(".") else [name]), f".{name}")
