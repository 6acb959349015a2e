"""qmail-remote: send the message on descriptor 0 to recipients at a host by SMTP (qmail-remote.8).

Usage: qmail-remote host sender recip ... The reports go to descriptor 1, each ended by a zero octet: one for each
recipient (r accepted, h refused, s refused for now), then one for the message (K, Z, D). The exit code is always 0.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ekiden.base.envelope import Envelope, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.delivery.remote import NO_RESOURCES, UNREADABLE, Job
from ekiden.delivery.remote_blocking import deliver
from ekiden.delivery.remote_limits import must_verify
from ekiden.delivery.remote_logins import Logins
from ekiden.routing.destination import RouteError, mx_destination, parse_destination, relay_destination
from ekiden.routing.mx import Host
from ekiden.routing.rewrite import route_entry
from ekiden.runtime.classic.resolver_blocking import hosts_for
from ekiden.runtime.host_table import SharedHosts
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError
from ekiden.settings.schema import Settings
from ekiden.wire.smtp.client import Done

if TYPE_CHECKING:
    from ekiden.runtime.tls_client import TlsClient, TlsConnection

_READ = 1 << 20
_LINE_END = re.compile(rb"\r\n?|\n")
_MESSAGE = {Verdict.DELIVERED: "K", Verdict.DEFERRED: "Z", Verdict.FAILED: "D"}

IMPROPER = Outcome(Verdict.FAILED, "5.3.5", "I (qmail-remote) was invoked improperly. (#5.3.5)\n")
NO_HOME = Outcome(Verdict.DEFERRED, "4.3.0", "Unable to switch to home directory. (#4.3.0)\n")
NO_CONTROL = Outcome(Verdict.DEFERRED, "4.3.0", "Unable to read control files. (#4.3.0)\n")
NO_MEMORY = Outcome(Verdict.DEFERRED, "4.3.0", "Out of memory. (#4.3.0)\n")
PARTIAL = Outcome(Verdict.FAILED, "5.6.2", "SMTP cannot transfer messages with partial final lines. (#5.6.2)\n")


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is the host, the sender and the recipients."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        result = _send([os.fsencode(word) for word in argv], home)
    except MemoryError:
        result = NO_MEMORY
    except OSError:
        result = NO_RESOURCES
    report = memoryview("".join(_reports(result)).encode("utf-8", "replace"))
    try:
        while report:
            report = report[os.write(1, report) :]
    except OSError:
        return 0  # nobody is listening
    return 0


def _send(words: Sequence[bytes], home: str) -> Done | Outcome:
    if len(words) < 3:
        return IMPROPER
    if not os.path.isdir(home):
        return NO_HOME
    try:
        settings = read(Path(home, "control"))
        next_hop = _next_hop(words[0], settings)
        destination = parse_destination(next_hop, settings.remoteport)
    except (SettingsError, RouteError):
        return NO_CONTROL
    addresses = SharedHosts(Path(home, "queue"), settings)
    logins = Logins(settings)
    unknown = logins.why_not(next_hop)
    if unknown is not None:
        return unknown
    hosts = hosts_for(destination, settings)
    if isinstance(hosts, Outcome):
        return hosts
    content = _content()
    if isinstance(content, Outcome):
        return content
    envelope = Envelope(words[1], [Recipient(word) for word in words[2:]])
    job = Job(None, 0, words[0], envelope, content, len(content))
    verify = must_verify(settings, says_password=logins.find(next_hop) is not None)
    make_tls = _tls_maker(settings, home, verify)
    return deliver(job, hosts, settings, make_tls, lambda: logins.find(next_hop), addresses)


def _content() -> bytes | Outcome:
    """The message on descriptor 0 in wire form, or why it is not sent."""
    try:
        message = _read()
    except OSError:
        return UNREADABLE
    if message[-1:] not in (b"", b"\n", b"\r"):
        return PARTIAL
    return message.replace(b"\n", b"\r\n") if b"\r" not in message else _LINE_END.sub(b"\r\n", message)


def _tls_maker(settings: Settings, home: str, verify: bool) -> Callable[[Host], TlsConnection]:
    """Makes TLS for a next hop; what all of them need is loaded for the first."""
    client: TlsClient | None = None

    def make(host: Host) -> TlsConnection:
        nonlocal client
        if client is None:
            from ekiden.runtime.tls_client import TlsClient

            client = TlsClient(settings, Path(home))
        return client.connection(host.name.decode("utf-8", "replace"), host.address, verify)

    return make


def _next_hop(host: bytes, settings: Settings) -> bytes:
    entry = route_entry(host.lower(), settings.smtproutes)
    if entry is not None and entry[1]:
        return relay_destination(entry[1], settings.remoteport)
    return mx_destination(host)


def _read() -> bytes:
    pieces = []
    while piece := os.read(0, _READ):
        pieces.append(piece)
    return b"".join(pieces)


def _reports(result: Done | Outcome) -> list[str]:
    """The reports as the manual page has them."""
    if isinstance(result, Outcome):
        return [f"{_MESSAGE[Verdict(result.verdict)]}{result.text}\0"]
    reports = []
    for place in range(len(result.outcomes)):
        refused = result.refused.get(place)
        if refused is not None:
            reports.append(f"{'h' if refused.verdict == Verdict.FAILED else 's'}{refused.text}\0")
        elif place < result.heard:
            reports.append("r\0")
    verdict = Verdict(result.message.verdict)
    if len(result.refused) == len(result.outcomes):
        verdict = Verdict.FAILED  # the recipients' own reports say whether for now or for good
    reports.append(f"{_MESSAGE[verdict]}{result.message.text}\0")
    return reports
