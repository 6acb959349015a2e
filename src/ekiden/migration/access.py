"""sendmail's access table (cf/README, "Anti-spam configuration control") as tcp rules, rcpthosts, bad senders and
bad recipients.

A key may have a tag; without one it means clients and senders. What qmail's tables say only for single hosts and
addresses, sendmail says for whole domains with all below them: where the difference matters it is reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ekiden.migration.finding import Report
from ekiden.migration.hosts import NO_NAMES, RELAYCLIENT, is_domain, relay_key, relay_to
from ekiden.migration.plan import Plan
from ekiden.migration.source import Row

_REFUSAL = re.compile(r"(?i)reject|discard|\"?error:.*|\"?[45]\d\d\b.*|quarantine:.*")
_OTHER_TAGS = {
    "authinfo": "no passwords are sent to other servers",
    "clientrate": "clients' rates are not limited; see connectionsperclient",
    "greetpause": "there is no pause before the greeting",
    "spam": "checks have no friends or haters",
    "srv_features": "TLS and AUTH are not offered per client",
    "tls_clt": "TLS is not required per client",
    "tls_srv": "see control/tlsremote",
    "try_tls": "see control/tlsremote",
}


class Context(NamedTuple):
    """What the meaning of a row depends on. ``exact``: FEATURE(relay_hosts_only)."""

    plan: Plan
    report: Report
    local: list[str]
    exact: bool = False
    recipients: bool = False
    """FEATURE(blocklist_recipients): untagged keys count for recipients too."""


def access(rows: list[Row], context: Context) -> None:
    """Put a table's rows into the plan and the report."""
    for row in rows:
        tag, colon, key = row.key.partition(":")
        if colon and tag == "ipv6":
            tag, key = "", row.key
        if tag in _TAGS and colon:
            _TAGS[tag](key, row, context)
        elif tag in _OTHER_TAGS and colon:
            context.report.left(row.place, f"{row.key}: {_OTHER_TAGS[tag]}")
        elif tag == "clientconn" and colon:
            _connections(key, row, context)
        elif colon and tag:
            context.report.left(row.place, f"the tag {tag}: is not known")
        else:
            _untagged(row.key, row, context)


def _action(row: Row) -> str:
    """``relay``, ``ok``, ``refuse``, or empty."""
    word = row.value.split(":")[0].lower()
    if word in ("relay", "ok", "skip"):
        return word
    return "refuse" if _REFUSAL.fullmatch(row.value) else ""


def _told(row: Row, context: Context, text: str) -> None:
    """Report a refusal that is carried over, in as far as it means the same."""
    word = row.value.lower()
    if word == "discard" or word.startswith("quarantine:"):
        context.report.changed(row.place, f"{text}, where it was {word.partition(':')[0]}ed in silence")
    elif word == "reject":
        context.report.carried(row.place, text)
    else:
        context.report.changed(row.place, f"{text}, with another text than {row.value}")


def _untagged(key: str, row: Row, context: Context) -> None:
    action = _action(row)
    if relay_key(key):
        _client(key, row, context)
    elif action in ("relay", "ok") and key in context.local:
        context.report.carried(row.place, f"{key} is this host")
    elif action == "relay" and is_domain(key):
        relay_to(context.plan, key, context.exact)
        remedy = f"add the addresses of {key} to control/tcp.smtp if its hosts send through this one"
        context.report.changed(row.place, f"mail to {key} is accepted (control/rcpthosts), but {NO_NAMES}", remedy)
    else:
        _sender(key, row, context)
        if action == "refuse" and context.recipients:
            _recipient(key, row, context)


def _client(key: str, row: Row, context: Context) -> None:
    address = relay_key(key)
    action = _action(row)
    if not address:
        context.report.left(
            row.place, f"{row.key}: {NO_NAMES}", f"write the addresses of {key} into control/tcp.smtp"
        )
    elif action == "refuse":
        context.plan.add("control/tcp.smtp", f"{address}:deny")
        _told(row, context, f"connections from {key} are refused: control/tcp.smtp")
    elif action in ("relay", "ok"):
        context.plan.add("control/tcp.smtp", f"{address}:allow{RELAYCLIENT if action == 'relay' else ''}")
        context.report.carried(
            row.place, f"{key} may {'relay' if action == 'relay' else 'connect'}: control/tcp.smtp"
        )
    else:
        _unknown(row, context)


def _sender(key: str, row: Row, context: Context) -> None:
    action = _action(row)
    if action in ("ok", "skip"):
        context.report.left(row.place, f"{row.key}: there are no exceptions from control/badmailfrom")
    elif action == "relay":
        context.report.left(
            row.place, f"{row.key}: nobody relays by a sender's name, which anybody can claim", "use control/tcp.smtp"
        )
    elif action != "refuse":
        _unknown(row, context)
    elif key.endswith("@") or not _is_address_or_domain(key):
        context.report.left(row.place, f"{row.key}: control/badmailfrom has user@host and @host only")
    elif "@" in key:
        context.plan.add("control/badmailfrom", key)
        _told(row, context, f"mail from {key} is refused: control/badmailfrom")
    else:
        context.plan.add("control/badmailfrom", f"@{key}")
        text = f"mail from @{key} is refused: control/badmailfrom; not from hosts below {key}"
        clients = "" if row.key.startswith("from:") else ", and its addresses with deny in control/tcp.smtp"
        context.report.changed(row.place, text, f"list them as well{clients}")


def _recipient(key: str, row: Row, context: Context) -> None:
    action = _action(row)
    if action == "relay" and is_domain(key):
        relay_to(context.plan, key, context.exact)
        context.report.carried(row.place, f"mail to {key} is accepted: control/rcpthosts")
    elif action in ("relay", "ok", "skip"):
        context.report.left(row.place, f"{row.key}: control/rcpthosts has hosts, and there are no exceptions from it")
    elif action != "refuse":
        _unknown(row, context)
    elif key.endswith("@"):
        context.plan.add("control/badrcptto", *(f"{key}{host}" for host in context.local))
        _told(row, context, f"mail to {key} at every name of this host is refused: control/badrcptto")
    elif _is_address_or_domain(key):
        context.plan.add("control/badrcptto", key if "@" in key else f"@{key}")
        _told(row, context, f"mail to {key} is refused: control/badrcptto")
    else:
        context.report.left(row.place, f"{row.key}: control/badrcptto has user@host and @host only")


def _connections(key: str, row: Row, context: Context) -> None:
    if key or not row.value.isdigit():
        context.report.left(row.place, f"{row.key}: one number counts for all clients: control/connectionsperclient")
        return
    context.plan.add("control/connectionsperclient", row.value)
    context.report.carried(row.place, f"{row.value} connections a client: control/connectionsperclient")


def _unknown(row: Row, context: Context) -> None:
    context.report.left(row.place, f"{row.value!r} is not understood")


def _is_address_or_domain(key: str) -> bool:
    return is_domain(key.rpartition("@")[2]) and not key.startswith(("@", "."))


_TAGS: dict[str, Callable[[str, Row, Context], None]] = {"connect": _client, "from": _sender, "to": _recipient}
