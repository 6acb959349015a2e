"""One SMTP session on descriptors, for qmail-smtpd: a ``Reception`` without an event loop.

The engine, the policy and the trace fields are the daemon's; messages go where ``deposit_blocking`` says.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, cast

from ekiden.base.reply import Reply
from ekiden.policy.acceptance import Acceptance
from ekiden.policy.tcprules import Verdict
from ekiden.runtime.classic.deposit_blocking import Deposits
from ekiden.runtime.classic.descriptors import Descriptors
from ekiden.runtime.classic.submission import mark
from ekiden.runtime.classic.tcp_environment import TcpEnvironment
from ekiden.runtime.deposit import Deposit
from ekiden.runtime.log import Log
from ekiden.runtime.reception import Client, Desk, Reception
from ekiden.runtime.smtp_profile import make_profile
from ekiden.settings.schema import Settings
from ekiden.wire.smtp.profile import Profile

if TYPE_CHECKING:
    from ekiden.runtime.intake import Intake

_TIMEOUT = Reply(451, "4.4.2", "timeout")
_TOO_LONG = Reply(421, "4.4.2", "session lasts too long")
_FAULT = Reply(421, "4.3.0", "internal error, try again later")
_NO_TLS = Reply(454, "4.7.0", "TLS is not available now")
_READY_FOR_TLS = b"220 2.0.0 ready for TLS\r\n"

_FAILED = 1
"""Exit code of qmail-smtpd when the client is silent, or gone without QUIT."""


def serve(settings: Settings, home: str, connection: Descriptors, environment: TcpEnvironment) -> int:
    """Hold the session of a client that is greeted; qmail-smtpd's exit code. OSError if the client is gone."""
    session: Session | None = None
    try:
        session = Session(settings, home, connection, environment)
        return session.run()
    except OSError:
        # The client is gone, or does not take its replies.
        return _FAILED
    except Exception:
        # Standard error may be the connection: a fault of ours must not be told there but in SMTP.
        connection.write(_FAULT.encode())
        return _FAILED
    finally:
        if session is not None:
            session.close()


class Session:
    """A session's transport; see ``reception.Shell``."""

    def __init__(self, settings: Settings, home: str, connection: Descriptors, environment: TcpEnvironment) -> None:
        self._settings = settings
        self._connection = connection
        self._began = self._stirred = time.monotonic()
        self._securing = self._ended = False
        self._code = 0
        acceptance = Acceptance(settings)
        policy = acceptance.client(environment.address, Verdict(True, environment.rule))
        profile = _profile(settings, policy.databytes)
        client = Client(environment.address, policy, profile, environment.name, environment.info)
        deposits = Deposits(home, settings.inlinebytes)
        self._reception = _WaitingReception(_desk(settings, acceptance, environment), client, self, deposits)

    def run(self) -> int:
        """See ``serve``."""
        server = self._reception.server
        while True:
            self._reception.proceed()
            if self._securing:
                if not self._secure():
                    return _FAILED
                continue
            self._connection.write(server.output())
            if self._ended:
                self._connection.finish()
                return self._code
            if not server.halfway:
                self._stirred = time.monotonic()
            try:
                data = self._connection.read(self._patience())
            except TimeoutError:
                self._dismiss()
                continue
            if not data:
                return _FAILED
            server.receive(data)

    def close(self) -> None:
        """Drop what is not queued."""
        self._reception.drop()

    def ready(self) -> None:
        """Nothing: whoever is answered reads on by himself."""

    def start_tls(self) -> None:
        """Make the handshake next."""
        self._securing = True

    def ended(self) -> None:
        """The engine has said its last words."""
        self._ended = True

    def _patience(self) -> float:
        """How long the next octets may take."""
        longest = self._settings.sessionseconds
        end = self._stirred + self._connection.seconds
        end = min(end, self._began + longest) if longest else end
        return max(0.0, end - time.monotonic())

    def _dismiss(self) -> None:
        """The client was silent for too long, or is here for too long."""
        longest = self._settings.sessionseconds
        reply = _TOO_LONG if 0 < longest <= time.monotonic() - self._began else _TIMEOUT
        self._code = _FAILED
        self._reception.server.farewell(reply, reply.text)

    def _secure(self) -> bool:
        """Answer STARTTLS and make the handshake; whether that was possible."""
        from ekiden.runtime.tls import CannotSecure, server_context

        self._securing = False
        server, output = self._reception.server, self._reception.server.output()
        try:
            context = server_context(self._settings.servercert, self._settings.serverkey)
        except CannotSecure:
            # The engine waits for a handshake already: there is no way back but a new connection.
            self._connection.write(output.removesuffix(_READY_FOR_TLS) + _NO_TLS.encode())
            return False
        self._connection.write(output)
        self._connection.secure(context)
        server.secured()
        return True


class _WaitingReception(Reception):
    """Its content goes into deposits of its own."""

    def __init__(self, desk: Desk, client: Client, shell: Session, deposits: Deposits) -> None:
        super().__init__(desk, client, shell)
        self._deposits = deposits

    def _put(self, chunk: bytes) -> Deposit:
        if self._deposit is None:
            # It has all that a reception needs of one.
            self._deposit = cast(Deposit, self._deposits.open(self._shell.ready))
            self._deposit.write(self._trace())
        if chunk:
            self._deposit.write(chunk)
        return self._deposit

    def _receipt(self, message: int) -> bytes:
        return b"qp %d" % message

    def _mark(self, now: float) -> bytes:
        """qmail-queue's field, unless another one writes it."""
        return b"" if self._deposits.foreign else mark(self._desk.pid) + b"\r\n"


class _AlwaysThere:
    """Stands for the connection to the queue, which is made when there is a message."""

    connected = True


def _desk(settings: Settings, acceptance: Acceptance, environment: TcpEnvironment) -> Desk:
    """What is refused is not logged: standard error may be the connection, or the administrator's terminal."""
    silence = Log("smtpd", os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
    desk = Desk(settings, acceptance, cast("Intake", _AlwaysThere()), silence)
    if environment.local:
        desk.by = environment.local
    return desk


def _profile(settings: Settings, databytes: int) -> Profile:
    readable = all(os.access(path, os.R_OK) for path in (settings.servercert, settings.serverkey) if path)
    return make_profile(settings, databytes, starttls=bool(settings.servercert) and readable)
