"""virtusertable and mailertable: virtual domains with their .qmail files in alias/, and artificial routes."""

from __future__ import annotations

import re

from ekiden.migration.facts import Facts
from ekiden.migration.finding import Report, Said
from ekiden.migration.hosts import is_domain
from ekiden.migration.plan import Plan, dot_qmail
from ekiden.migration.source import Row
from ekiden.routing.destination import RouteError, relay_destination
from ekiden.settings.values import is_relay

NOBODY = "Sorry, no mailbox here by that name."

_ERROR = re.compile(r"error:(?:([45])\.(\d{1,3}\.\d{1,3}):?|(\w+))\s*\"?(.*?)\"?$", re.IGNORECASE)
_SMTP_CODE = re.compile(r"^[:\s]*\d{3}\s+")
_SMTP = frozenset({"smtp", "esmtp", "smtp8", "dsmtp", "relay"})
_QUOTED = str.maketrans({"'": "", "\n": " "})


def virtusers(rows: list[Row], hosts: list[Said], facts_virtual: list[Said], plan: Plan, report: Report) -> set[str]:
    """Put virtusertable into the plan; the domains that became virtual, which are no longer local.

    sendmail looks there first, for every domain in class w or VirtHost.
    """
    local = {host.value for host in hosts}
    served = local | {host.value for host in facts_virtual}
    taken: dict[str, bool] = {}
    for row in rows:
        user, at, domain = row.key.rpartition("@")
        if not at or not is_domain(domain):
            report.left(row.place, f"{row.key} is neither user@domain nor @domain")
        elif domain not in served:
            report.left(
                row.place, f"{domain} is no domain of this host, so that sendmail does not look here", "drop it"
            )
        elif "+" in user:
            report.left(row.place, f"{row.key}: extensions are parted by a dash here", "make a .qmail file for it")
        elif "/" in user or "\0" in user:
            report.left(row.place, f"{row.key}: no .qmail file can have that name")
        elif _file(domain, user) in plan.files:
            report.left(row.place, f"{row.key} is listed twice; the first one counts")
        elif command := _command(row, plan, report):
            plan.add(_file(domain, user), command)
            taken[domain] = taken.get(domain, False) or not user
            report.carried(row.place, f"{row.key} goes to {row.value}: {_file(domain, user)}")
            if user and command.startswith("|bouncesaying"):
                plan.add("control/badrcptto", row.key)
    for domain, catches_all in taken.items():
        plan.add("control/virtualdomains", f"{domain}:{_prefix(domain)}")
        plan.add("control/rcpthosts", domain)
        if not catches_all and domain in local:
            # Users of the host who are not in the table.
            plan.add(_file(domain, ""), f'|forward "$DEFAULT"@{plan.local}')
    return set(taken)


def _prefix(domain: str) -> str:
    return f"virtusertable-{domain.strip('.')}"


def _file(domain: str, user: str) -> str:
    return dot_qmail(f"{_prefix(domain)}-{user or 'default'}")


def _command(row: Row, plan: Plan, report: Report) -> str:
    """The line of a .qmail file for where a row leads; empty, with the reason reported, if there is none."""
    value = row.value
    if value.lower().startswith("error:"):
        return bounce(value)
    if "%" in value.replace("%1", "") or (value.count("%1") and not re.fullmatch(r"%1(@[\w.-]+)?", value)):
        report.left(row.place, f"{value}: only %1 at the beginning can be followed", "make a .qmail file for it")
        return ""
    if value.startswith("%1"):
        return f'|forward "$DEFAULT"@{value[3:] or plan.local}'
    if "," in value or " " in value or value.startswith(("|", "/", ":", "@")):
        report.left(row.place, f"{value} is not one address", "make an alias of it and name that")
        return ""
    return f"&{value if '@' in value else f'{value}@{plan.local}'}"


def bounce(value: str) -> str:
    """``error:code text`` as a line of a .qmail file; what sendmail says first becomes the status code."""
    match = _ERROR.fullmatch(value)
    said, status = value.partition(":")[2], "5.1.1"
    if match:
        said = match[4]
        status = f"{match[1]}.{match[2]}" if match[1] else {"tempfail": "4.3.0"}.get(match[3].lower(), "5.1.1")
    text = _SMTP_CODE.sub("", said).translate(_QUOTED).strip() or NOBODY
    text = text if "(#" in text else f"{text} (#{status})"
    return f"|bouncesaying '{text}'" if status.startswith("5") else f"|echo '{text}'; exit 111"


def mailers(rows: list[Row], local: set[str], plan: Plan, report: Report) -> None:
    """Put mailertable into the plan."""
    for row in rows:
        mailer, colon, host = row.value.partition(":")
        domain = "" if row.key == "." else row.key
        if domain and not is_domain(domain):
            report.left(row.place, f"{row.key!r} is not a domain")
        elif domain in local:
            report.left(row.place, f"{domain} is a name of this host, so that sendmail does not look here")
        elif not colon:
            report.left(row.place, f"{row.value!r} is not mailer:host")
        elif mailer.lower() in _SMTP:
            route(domain, Said(host, row.place), plan, report)
        elif mailer.lower() in ("local", "error", "discard"):
            _local(domain, row, plan, report)
        else:
            remedy = "lmtp:[ADDRESS]:PORT in control/smtproutes, or a virtual domain whose .qmail file runs a program"
            report.left(row.place, f"the mailer {mailer} has no counterpart", remedy)


def _local(domain: str, row: Row, plan: Plan, report: Report) -> None:
    """A domain that a user of this host gets as a whole, or that nobody gets."""
    mailer, _, user = row.value.partition(":")
    prefix = f"mailertable-{'sub-' if domain.startswith('.') else ''}{domain.strip('.')}"
    if not domain:
        report.left(row.place, f"every other domain as {row.value}: not carried over")
        return
    path = dot_qmail(f"{prefix}-default")
    if mailer.lower() == "error":
        plan.add(path, bounce(row.value))
    elif mailer.lower() == "discard":
        plan.add(path, "#")
    elif user:
        plan.add(path, f"&{user if '@' in user else f'{user}@{plan.local}'}")
    else:
        plan.add(path, f'|forward "$DEFAULT"@{plan.local}')
    plan.add("control/virtualdomains", f"{domain}:{prefix}")
    report.carried(row.place, f"{row.key} goes to {row.value}: control/virtualdomains, {path}")


def route(domain: str, relay: Said, plan: Plan, report: Report, port: int = 0) -> None:
    """An artificial route for a domain; an empty one is the smart host's.

    ``relay``: ``host``, ``[host]``, ``[a]:[b]``. smtproutes knows one host, and no MX look-up of it.
    """
    hosts = _hosts(relay.value)
    if not hosts or "%" in relay.value:
        report.left(relay.place, f"{relay.value!r} names no host")
        return
    first = hosts[0]
    inner = first.strip("[]").removeprefix("IPv6:")
    address = inner.replace(".", "").isdigit() or ":" in inner
    line = f"{domain}:{f'[{inner}]' if address else inner}{f':{port}' if port else ''}"
    said = line[len(domain) + 1 :].encode("utf-8", "surrogateescape")
    try:
        relay_destination(said)
    except RouteError as error:
        report.left(relay.place, str(error))
        return
    if not is_relay(said):
        report.left(relay.place, f"{relay.value!r} cannot stand in control/smtproutes")
        return
    plan.add("control/smtproutes", line)
    whose = domain or "every other domain"
    if len(hosts) > 1:
        remedy = f"give {inner} an address for each of them in the DNS"
        report.changed(relay.place, f"{whose} goes to {first} only: control/smtproutes knows one host", remedy)
    elif not first.startswith("[") and not address:
        text = f"{whose} goes to {inner} itself, not to its mail exchangers: control/smtproutes"
        report.changed(relay.place, text, f"name the exchanger of {inner} if it is another host")
    else:
        report.carried(relay.place, f"{whose} goes to {first}: control/smtproutes")


def _hosts(value: str) -> list[str]:
    """The hosts in ``mailer:[a]:b``, brackets kept."""
    mailer, colon, rest = value.partition(":")
    value = rest if colon and mailer.lower() in _SMTP else value
    return re.findall(r"\[[^\]]*\]|[^:\s]+", value)


def smart_host(facts: Facts, plan: Plan, report: Report) -> None:
    """SMART_HOST, MAIL_HUB and FEATURE(nullclient)."""
    if facts.smart_host is not None and facts.smart_host.value:
        route("", facts.smart_host, plan, report, facts.smart_port)
    hub = facts.hub
    if hub is None or not hub.value:
        return
    if "nullclient" in facts.features:
        route("", hub, plan, report)
        plan.files["control/locals"] = []
        report.carried(hub.place, "nothing is local: control/locals is empty")
    else:
        remedy = f"let control/locals be empty and route its names to {hub.value} in control/smtproutes"
        report.left(hub.place, "mail for local users is not sent to a hub", remedy)


def unknown_users(facts: Facts, plan: Plan, report: Report, aliases: bool) -> None:
    """LUSER_RELAY: what neither user nor alias takes goes on to another host or user."""
    said = facts.unknown_users
    if said is None or not said.value:
        return
    mailer, _, target = said.value.rpartition(":")
    if mailer.lower() == "local":
        line = f"&{target if '@' in target else f'{target}@{plan.local}'}"
    elif "error" in mailer.lower():
        return
    else:
        line = f'|forward "$DEFAULT"@{target}'
    plan.add("alias/.qmail-default", line)
    order = ", after the aliases" if aliases else ""
    report.changed(said.place, f"mail for nobody is sent on to user@{target}: alias/.qmail-default{order}")
