"""Reports of an SMTP client: what a reply or its absence means, in the phrases that log analysers know.

The first line of each report is qmail-remote's (qmail-remote(8) leaves the words open; three decades of tools do
not). ``peer`` is the next hop's address as text, ``remote`` its name or bracketed address.
"""

from __future__ import annotations

from ekiden.base.outcome import Outcome, Verdict
from ekiden.wire.smtp.client_reply import reply_status, reply_text

_FAILING = ord("5")


def accepted(peer: str, remote: str, reply: bytes, relayed_dsn: bool) -> Outcome:
    """The server took the message over."""
    said = reply_text(reply)
    return Outcome(
        Verdict.DELIVERED,
        reply_status(reply),
        f"{peer} accepted message.\nRemote host said: {said}\n",
        remote,
        said,
        relayed_dsn,
    )


def refused(what: str, remote: str, reply: bytes, status: str = "0.0") -> Outcome:
    """A 4xx or 5xx reply to a command; ``what`` is the report's first line without its full stop."""
    said = reply_text(reply)
    verdict = Verdict.FAILED if reply[0] == _FAILING else Verdict.DEFERRED
    return Outcome(verdict, reply_status(reply, status), f"{what}.\nRemote host said: {said}\n", remote, said)


def deferred(what: str, remote: str, reply: bytes, status: str = "0.0") -> Outcome:
    """As ``refused``, but temporary whatever the reply's first digit: greeting and HELO, as qmail-remote has it."""
    said = reply_text(reply)
    code = reply_status(reply, status) if reply[0] != _FAILING else f"4.{status}"
    return Outcome(Verdict.DEFERRED, code, f"{what}.\nRemote host said: {said}\n", remote, said)


def died(peer: str, remote: str, why: str = "", duplicate: bool = False, said: str = "") -> Outcome:
    """The connection ended early, timed out (``why`` says so) or became unreadable."""
    warning = "Possible duplicate! " if duplicate else ""
    text = f"Connected to {peer} but connection died. {warning}(#4.4.2)\n"
    if why:
        text += f"{why}\n"
    if said:
        text += f"Remote host said: {said}\n"
    return Outcome(Verdict.DEFERRED, "4.4.2", text, remote, said)


def with_giving_up(outcome: Outcome, peer: str) -> Outcome:
    """A recipient's own refusal as the whole report of a delivery."""
    return Outcome(
        outcome.verdict, outcome.status, f"{outcome.text}Giving up on {peer}.\n", outcome.remote, outcome.reply
    )


def impossible(status: str, text: str, remote: str = "") -> Outcome:
    """Permanent, found out before the server was asked."""
    return Outcome(Verdict.FAILED, status, f"{text} (#{status})\n", remote)
