"""Options of sendmail.mc and sendmail.cf as control files: limits, times, names, listeners."""

from __future__ import annotations

import re
from collections.abc import Callable

from ekiden.migration.facts import Facts
from ekiden.migration.finding import Report, Said
from ekiden.migration.hosts import is_domain
from ekiden.migration.plan import Plan
from ekiden.settings.listeners import parse_listener

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PORTS = {
    "smtp": "smtp",
    "25": "smtp",
    "submission": "submission",
    "587": "submission",
    "smtps": "smtps",
    "465": "smtps",
}


def seconds(text: str, unit: str = "m") -> int:
    """An interval as sendmail writes it (op.me, section 5.6): ``5d``, ``1h30m``; a bare number is in ``unit``."""
    if not re.fullmatch(r"(?=\d)(?:\d{1,15}[smhdw])*+(?:\d{1,15})?", text):
        raise ValueError(f"{text!r} is not an interval")
    return sum(int(number) * _UNITS[letter or unit] for number, letter in re.findall(r"(\d+)([smhdw]?)", text))


def octets(text: str) -> int:
    """A size: a number."""
    if not text.isdigit():
        raise ValueError(f"{text!r} is not a number")
    return int(text)


_OPTIONS: dict[str, tuple[str, Callable[[str], int], int]] = {
    "MaxMessageSize": ("databytes", octets, 0),
    "Timeout.queuereturn": ("queuelifetime", lambda text: seconds(text, "d"), 0),
    "Timeout.queuewarn": ("delaynotice", lambda text: seconds(text, "h"), 0),
    "MaxHopCount": ("hopsmax", octets, 1),
    "MaxRecipientsPerMessage": ("recipientsmax", octets, 100),
}
"""The control file, how a value is read, and the smallest one that is allowed here."""

_NEEDLESS = {
    "PrivacyOptions": "VRFY and EXPN tell nothing to anybody",
    "SmtpGreetingMessage": "the greeting names the host and no version",
}


def options(facts: Facts, plan: Plan, report: Report) -> None:
    """Put the options into the plan."""
    for name, said in facts.options.items():
        if name in _NEEDLESS:
            report.carried(said.place, f"{name}: {_NEEDLESS[name]}")
        elif name == "DoubleBounceAddress":
            plan.add("control/doublebounceto", said.value.partition("@")[0])
            report.carried(said.place, f"double bounces go to {said.value}: control/doublebounceto")
        elif name == "MaxDaemonChildren":
            report.left(said.place, "there is no process for each client", "see control/connectionsmax")
        elif name in _OPTIONS:
            _number(name, said, plan, report)


def _number(name: str, said: Said, plan: Plan, report: Report) -> None:
    file, read, least = _OPTIONS[name]
    try:
        value = read(said.value.strip().strip('"'))
    except ValueError as error:
        report.left(said.place, f"{name}: {error}")
        return
    if value < least:
        report.changed(said.place, f"{name} {value} becomes {least}, the smallest there is: control/{file}")
        value = least
    else:
        report.carried(said.place, f"{name} is {value}: control/{file}")
    plan.files[f"control/{file}"] = [str(value)]


def masquerade(facts: Facts, plan: Plan, report: Report) -> None:
    """MASQUERADE_AS: the host of addresses without one, which here is that of recipients as well."""
    said = facts.masquerade
    if said is None or not is_domain(said.value.lower()):
        return
    domain = said.value.lower()
    if domain in plan.files["control/locals"]:
        plan.add("control/defaulthost", domain)
        text = f"addresses without a host get {domain} (control/defaulthost); those with one stay as they are"
        report.changed(said.place, text, "have programs write user without a host")
    else:
        text = f"senders do not become {domain}: with it as defaulthost, mail to root would leave for {domain}"
        report.left(said.place, text, f"QMAILHOST={domain} in the environment of those who send")


def listeners(facts: Facts, plan: Plan, report: Report) -> None:
    """DAEMON_OPTIONS: control/listen."""
    for said in facts.listeners:
        pairs = dict(_pair(part) for part in said.value.split(",") if "=" in part)
        service = _PORTS.get(pairs.get("port", "smtp").lower())
        if service == "smtp" and "s" in pairs.get("m", ""):
            service = "smtps"
        if service is None and not pairs["port"].isdigit():
            report.left(said.place, f"the port {pairs['port']} is not known", "write a line into control/listen")
            continue
        number = {"submission": "587", "smtps": "465", "smtp": "25"}.get(service or "", pairs.get("port", "25"))
        address = pairs.get("addr", "*").removeprefix("IPv6:")
        address = f"[{address}]" if ":" in address else address
        if address == "*" and pairs.get("family", "") == "inet6":
            address = "[::]"
        line = f"{service or 'smtp'} {address}:{number}"
        if not _is_listener(line):
            report.left(said.place, f"{said.value} is no place to listen at", "write a line into control/listen")
            continue
        plan.add("control/listen", line)
        report.carried(said.place, f"{service or 'smtp'} at {address}:{number}: control/listen")
    _without_doubles(plan)


def _is_listener(line: str) -> bool:
    """Whether control/listen may have this line."""
    try:
        parse_listener(line)
    except ValueError:
        return False
    return line.isascii() and line.isprintable()


def _without_doubles(plan: Plan) -> None:
    """All addresses of IPv4 and IPv6 are one listener."""
    lines = plan.files.get("control/listen", [])
    for line in [line for line in lines if "[::]" in line and line.replace("[::]", "*") in lines]:
        lines.remove(line)


def _pair(part: str) -> tuple[str, str]:
    """``Port=smtp``: sendmail looks at the first letter only."""
    key, _, value = part.strip().partition("=")
    names = {"P": "port", "A": "addr", "F": "family", "M": "m", "N": "name"}
    return names.get(key[:1].upper(), key.lower()), value.strip()
