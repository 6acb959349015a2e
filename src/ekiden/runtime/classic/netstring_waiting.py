"""One QMTP or QMQP session on descriptors, for qmail-qmtpd and qmail-qmqpd: a reception without an event loop.

Exit codes: 0 at the end, 100 for what is no QMTP or QMQP, 111 for trouble that may pass, also when the session takes
longer than an hour.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from ekiden.base.reply import Reply
from ekiden.policy.acceptance import Acceptance
from ekiden.policy.tcprules import Verdict
from ekiden.runtime.classic.deposit_blocking import Deposits
from ekiden.runtime.classic.descriptors import Descriptors
from ekiden.runtime.classic.submission import mark
from ekiden.runtime.classic.tcp_environment import TcpEnvironment
from ekiden.runtime.netstring_reception import Desk, NetstringReception
from ekiden.runtime.receiving import Caller
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError
from ekiden.settings.schema import Settings
from ekiden.wire import qmqp, qmtp
from ekiden.wire.netstring import Oversized
from ekiden.wire.netstring_session import NetstringSession

SECONDS = 3600.0
"""Longest session."""

_BAD_PROTOCOL, _TROUBLE = 100, 111


def serve(protocol: str, home: str) -> int:
    """Serve the client on descriptors 0 and 1 in ``QMTP`` or ``QMQP``; the program's exit code."""
    try:
        settings = read(Path(home, "control"))
        session = _Session(protocol, settings, home, TcpEnvironment())
        return session.run(Descriptors(SECONDS))
    except (SettingsError, TimeoutError):
        return _TROUBLE
    except OSError:
        # The client is gone.
        return 0
    except Exception:
        # Standard error may be the connection.
        return _TROUBLE


class _Session:
    """A session's transport; see ``netstring_reception.Shell``."""

    def __init__(self, protocol: str, settings: Settings, home: str, environment: TcpEnvironment) -> None:
        acceptance = Acceptance(settings)
        policy = acceptance.client(environment.address, Verdict(True, environment.rule))
        caller = Caller(environment.address, policy, environment.name, environment.info)
        server: NetstringSession = qmqp.Session()
        if protocol == "QMTP":
            server = qmtp.Session(policy.databytes, settings.recipientsmax)
        desk = _desk(protocol, settings, home, environment, acceptance if protocol == "QMTP" else None)
        self._reception = NetstringReception(desk, caller, self, server)
        self._ended = False

    def run(self, connection: Descriptors) -> int:
        """Until the client has nothing more to say."""
        server = self._reception.server
        deadline = time.monotonic() + SECONDS
        try:
            while not self._ended:
                data = connection.read(max(0.0, deadline - time.monotonic()))
                if not data:
                    return 0
                server.receive(data)
                self._reception.proceed()
                connection.write(server.output())
        finally:
            self._reception.drop()
        fault = self._reception.fault
        if fault is None:
            return 0
        return _TROUBLE if isinstance(fault, Oversized) else _BAD_PROTOCOL

    def ready(self) -> None:
        """Nothing: whoever is answered reads on by himself."""

    def ended(self) -> None:
        """The engine has said its last words."""
        self._ended = True


def _desk(
    protocol: str, settings: Settings, home: str, environment: TcpEnvironment, acceptance: Acceptance | None
) -> Desk:
    deposits = Deposits(home, settings.inlinebytes)
    pid = os.getpid()

    def marked() -> bytes:
        return b"" if deposits.foreign else mark(pid) + b"\r\n"

    def refused(_client: str, _reply: Reply, _sender: bytes, _recipient: bytes) -> None:
        """Not logged: standard error may be the connection."""

    by = environment.local or settings.me
    return Desk(protocol, acceptance, deposits.open, settings.hopsmax, by, pid, os.getuid(), marked, refused)
