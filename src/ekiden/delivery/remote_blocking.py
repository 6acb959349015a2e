"""One message to one next hop over a blocking connection: what qmail-remote does, with the daemon's engine."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ekiden.base.outcome import Outcome
from ekiden.delivery.remote import NO_CONNECTION, Job, Tls, prepare
from ekiden.delivery.remote_limits import ADDRESSES, session_timeouts, source, wish_for_tls
from ekiden.routing.mx import Host
from ekiden.settings.schema import Settings
from ekiden.wire.smtp.client import Client, Done, Event, Lost, Ready, StartTls, State, Wish

if TYPE_CHECKING:
    from ekiden.wire.sasl_client import Credentials

_READ = 65536

MakeTls = Callable[[Host], Tls]


class Addresses(Protocol):
    """What is known of addresses that time out, see runtime.host_table."""

    def is_dead(self, address: str) -> bool: ...

    def timed_out(self, address: str) -> None: ...

    def answered(self, address: str) -> None: ...


def deliver(
    job: Job,
    hosts: Sequence[Host],
    settings: Settings,
    make_tls: MakeTls,
    credentials: Callable[[], Credentials | None],
    addresses: Addresses,
) -> Done | Outcome:
    """Try the hosts in turn until one takes part in a transaction; an Outcome for the message if none does."""
    outcome = NO_CONNECTION
    for host in [host for host in hosts if not addresses.is_dead(host.address)][:ADDRESSES]:
        login = credentials()
        wish = wish_for_tls(settings, says_password=login is not None)
        result = _try(job, host, settings, make_tls, wish, login, addresses)
        if isinstance(result, Done):
            return result
        if result is not None:
            outcome = result
    return outcome


def _try(
    job: Job,
    host: Host,
    settings: Settings,
    make_tls: MakeTls,
    wish: Wish,
    login: Credentials | None,
    addresses: Addresses,
) -> Done | Outcome | None:
    try:
        connection = _connect(host, settings)
    except TimeoutError:
        addresses.timed_out(host.address)
        return None
    except OSError:
        return None
    addresses.answered(host.address)
    with connection:
        connection.setblocking(False)
        client = Client(host.address, settings.helohost, host.remote, wish, host.lmtp, login)
        call = _Call(connection, client, job, session_timeouts(settings), lambda: make_tls(host))
        result = call.run()
    if call.tls_failed and wish == "may":
        return _try(job, host, settings, make_tls, "never", login, addresses)
    return result


def _connect(host: Host, settings: Settings) -> socket.socket:
    if host.address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(settings.timeoutconnect)
        try:
            connection.connect(host.address)
        except BaseException:
            connection.close()
            raise
        return connection
    where = host.address, host.port
    connection = socket.create_connection(where, settings.timeoutconnect, source(settings, host.address))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class _Call:
    """A connection in use; ``run`` goes from the greeting to QUIT."""

    def __init__(
        self,
        connection: socket.socket,
        client: Client,
        job: Job,
        timeouts: tuple[float, ...],
        make_tls: Callable[[], Tls],
    ) -> None:
        self._connection = connection
        self._client = client
        self._job = job
        self._timeouts = timeouts
        self._make_tls = make_tls
        self._tls: Tls | None = None
        self._outgoing = bytearray()
        self._poll = select.poll()
        self._sent = 0
        self._progress: tuple[State, int, int] | None = None
        self._deadline = 0.0
        self.tls_failed = False

    def run(self) -> Done | Outcome:
        """What came of it; an Outcome if the server decided nothing about the message."""
        while True:
            event = self._client.next_event()
            if event is None:
                self._exchange()
                continue
            result = self._serve(event)
            if result is not None:
                self._leave()
                return result

    def _leave(self) -> None:
        """Say QUIT, also to a server that refused (RFC 5321 section 4.1.1.10); who is gone need not hear it."""
        if self._client.state is State.READY:
            self._client.quit()
        with contextlib.suppress(OSError):
            self._write()

    def _serve(self, event: Event) -> Done | Outcome | None:
        client, job = self._client, self._job
        if isinstance(event, Done):
            return event
        if isinstance(event, Lost):
            self.tls_failed = event.over_tls
            return event.outcome
        if isinstance(event, Ready):
            impossible = prepare(job, client.extensions)
            if impossible is not None:
                return impossible
            client.send(job.envelope, job.content, job.size, job.body, job.utf8)
        elif isinstance(event, StartTls):
            self._write()
            self._tls = self._make_tls()
            self._outgoing += self._tls.start()
        return None

    def _exchange(self) -> None:
        """Send what is to be sent and read what has come, whichever is possible first."""
        self._collect()
        events = select.POLLIN | (select.POLLOUT if self._outgoing else 0)
        self._poll.register(self._connection, events)
        if not self._poll.poll(self._patience() * 1000):
            self._client.lost(f"No answer within {self._timeouts[self._client.state]:.0f} seconds.")
            return
        try:
            self._write()
            self._read()
        except BlockingIOError:
            pass
        except OSError as error:
            self._break_off(error)

    def _patience(self) -> float:
        """Seconds left: a limit starts anew with each reply and whenever octets could be sent, not by pieces read."""
        now = time.monotonic()
        progress = self._client.state, self._client.replies, self._sent
        if progress != self._progress:
            self._progress = progress
            self._deadline = now + self._timeouts[self._client.state]
        return max(self._deadline - now, 0.0)

    def _break_off(self, error: OSError) -> None:
        if self._tls is not None:
            # Loaded already by who made it; without TLS it need not be.
            from ssl import SSLError

            if isinstance(error, SSLError):
                self._client.lost(f"TLS failed: {error.reason or error}.")
                return
        self._client.lost(f"{error.strerror}.")

    def _collect(self) -> None:
        output = self._client.output()
        if output:
            self._outgoing += output if self._tls is None or not self._tls.established else self._tls.send(output)

    def _write(self) -> None:
        self._collect()
        if self._outgoing:
            try:
                sent = self._connection.send(self._outgoing)
            except BlockingIOError:
                return
            del self._outgoing[:sent]
            self._sent += sent

    def _read(self) -> None:
        data = self._connection.recv(_READ)
        if not data:
            self._client.lost()
            return
        if self._tls is not None:
            handshaking = not self._tls.established
            data, answer = self._tls.receive(data)
            self._outgoing += answer
            if handshaking and self._tls.established:
                self._client.tls_established()
        if data:
            self._client.receive(data)
