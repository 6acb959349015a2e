"""sendmail.mc: the m4 macros that administrators write (cf/README of sendmail), read without m4.

Quotes are `` `...' ``; ``dnl`` and ``#`` hide the rest of a line, ``divert(-1)`` all up to the next ``divert``.
Conditions are not followed: what stands in them is reported as not understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ekiden.migration.facts import Facts
from ekiden.migration.finding import Place, Report, Said

_NEXT = re.compile(r"dnl\b[^\n]*|#[^\n]*|([A-Za-z_]\w*)(\()?|`[^']*(?:'|\Z)|\n")

SILENT = frozenset(
    ("VERSIONID", "OSTYPE", "include", "divert", "undefine", "LOCAL_CONFIG", "LOCAL_RULESETS", "LOCAL_NET_CONFIG")
)
"""Macros that need no counterpart."""

MAILERS = frozenset({"local", "smtp", "procmail"})
FEATURES = frozenset(
    {
        "use_cw_file",
        "redirect",
        "nouucp",
        "nocanonify",
        "always_add_domain",
        "accept_unresolvable_domains",
        "accept_unqualified_senders",
        "delay_checks",
        "use_ct_file",
        "blacklist_recipients",
        "blocklist_recipients",
        "relay_hosts_only",
        "nullclient",
        "relay_entire_domain",
        "local_lmtp",
        "no_default_msa",
        "smrsh",
        "access_db",
        "virtusertable",
        "mailertable",
        "genericstable",
        "local_procmail",
    }
)
"""Features that are carried over or that need no counterpart; each that changes something is looked at elsewhere."""

OPTIONS = {
    "confMAX_MESSAGE_SIZE": "MaxMessageSize",
    "confTO_QUEUERETURN": "Timeout.queuereturn",
    "confTO_QUEUEWARN": "Timeout.queuewarn",
    "confMAX_HOP": "MaxHopCount",
    "confMAX_RCPTS_PER_MESSAGE": "MaxRecipientsPerMessage",
    "confPRIVACY_FLAGS": "PrivacyOptions",
    "confMAX_DAEMON_CHILDREN": "MaxDaemonChildren",
    "confSMTP_LOGIN_MSG": "SmtpGreetingMessage",
    "confDOUBLE_BOUNCE_ADDRESS": "DoubleBounceAddress",
    "ALIAS_FILE": "AliasFile",
    "QUEUE_DIR": "QueueDirectory",
    "confCW_FILE": "Fw",
}
"""What ``define`` sets, by its name in sendmail.cf."""


class Call(NamedTuple):
    """A macro with its arguments, quotes taken away."""

    name: str
    arguments: list[str]
    place: Place


def calls(text: str, file: str) -> Iterator[Call]:
    """The macro calls in a text, in order."""
    position, hidden, line, counted = 0, False, 1, 0
    while match := _NEXT.search(text, position):
        line += text.count("\n", counted, match.start())
        counted, position = match.start(), match.end()
        if not match[1]:
            continue
        arguments: list[str] = []
        if match[2]:
            arguments, position = _arguments(text, position)
        if match[1] == "divert":
            hidden = bool(arguments and arguments[0].startswith("-"))
        elif not hidden and (match[2] or match[1].startswith("LOCAL_")):
            yield Call(match[1], arguments, Place(file, line))


def _arguments(text: str, position: int) -> tuple[list[str], int]:
    """The arguments behind an opening parenthesis, and where they end."""
    arguments, current, quotes, depth = [], "", 0, 0
    while position < len(text):
        octet = text[position]
        position += 1
        if octet == "`":
            quotes += 1
            current += octet if quotes > 1 else ""
        elif octet == "'" and quotes:
            quotes -= 1
            current += octet if quotes else ""
        elif quotes:
            current += octet
        elif octet == ")" and not depth:
            break
        elif octet == "," and not depth:
            arguments.append(current.strip())
            current = ""
        else:
            depth += {"(": 1, ")": -1}.get(octet, 0)
            current += octet
    return [*arguments, current.strip()], position


def read_macros(text: str, file: str, report: Report) -> Facts:
    """What a sendmail.mc says; what is not understood is reported."""
    facts = Facts()
    for call in calls(text, file):
        arguments = [*call.arguments, "", ""]
        if call.name in _MEANINGS:
            _MEANINGS[call.name](facts, Said(arguments[0], call.place))
        elif call.name == "define":
            _define(facts, arguments[0], Said(arguments[1], call.place), report)
        elif call.name == "FEATURE":
            _feature(facts, arguments[0], Said(arguments[1], call.place), report)
        elif call.name == "MAILER" and arguments[0] not in MAILERS:
            remedy = "see docs/routing.md for routes, docs/dot-qmail.md for programs"
            report.left(call.place, f"the mailer {arguments[0]} has no counterpart", remedy)
        elif call.name not in SILENT and call.name != "MAILER":
            report.left(call.place, f"{call.name}({', '.join(call.arguments)}) is not understood")
    return facts


def _define(facts: Facts, name: str, said: Said, report: Report) -> None:
    if name in _DEFINITIONS:
        _DEFINITIONS[name](facts, said)
    elif name in ("RELAY_MAILER_ARGS", "ESMTP_MAILER_ARGS", "SMTP_MAILER_ARGS"):
        port = said.value.split()[-1:]
        if port and re.fullmatch("[0-9]{1,5}", port[0]) and name == "RELAY_MAILER_ARGS":
            facts.smart_port = int(port[0])
        else:
            report.left(said.place, f"{name} is not carried over", "a port is written into control/smtproutes")
    elif name in OPTIONS:
        facts.options[OPTIONS[name]] = said
    elif not name.startswith("_"):
        report.left(said.place, f"{name} has no counterpart here")


def _feature(facts: Facts, name: str, said: Said, report: Report) -> None:
    facts.features[name] = said
    table = name.removesuffix("_db")
    if table in ("access", "virtusertable", "mailertable", "genericstable"):
        facts.tables[table] = said if said.value else Said(f"/etc/mail/{table}", said.place)
    if name == "nullclient":
        facts.hub = said
    if name in ("dnsbl", "enhdnsbl"):
        remedy = f"put rblsmtpd -r {said.value or 'LIST'} before qmail-smtpd (docs/rblsmtpd.md)"
        report.left(said.place, "clients in a block list are not refused", remedy)
    elif name not in FEATURES:
        report.left(said.place, f"FEATURE({name}) has no counterpart here")


def _words(said: Said) -> list[Said]:
    return [Said(word.lower(), said.place) for word in said.value.split()]


_DEFINITIONS: dict[str, Callable[[Facts, Said], None]] = {
    "SMART_HOST": lambda facts, said: setattr(facts, "smart_host", said),
    "LUSER_RELAY": lambda facts, said: setattr(facts, "unknown_users", said),
    "MAIL_HUB": lambda facts, said: setattr(facts, "hub", said),
    "confDOMAIN_NAME": lambda facts, said: setattr(facts, "name", said),
}

_MEANINGS: dict[str, Callable[[Facts, Said], None]] = {
    "MASQUERADE_AS": lambda facts, said: setattr(facts, "masquerade", said),
    "DAEMON_OPTIONS": lambda facts, said: facts.listeners.append(said),
    "LOCAL_DOMAIN": lambda facts, said: facts.hosts.extend(_words(said)),
    "RELAY_DOMAIN": lambda facts, said: facts.relays.extend(_words(said)),
    "RELAY_DOMAIN_FILE": lambda facts, said: facts.relay_files.append(said),
    "VIRTUSER_DOMAIN": lambda facts, said: facts.virtual.extend(_words(said)),
    "VIRTUSER_DOMAIN_FILE": lambda facts, said: facts.virtual_files.append(said),
    "GENERICS_DOMAIN": lambda facts, said: facts.generics.extend(_words(said)),
    "GENERICS_DOMAIN_FILE": lambda facts, said: facts.generics_files.append(said),
}
