"""TLS towards next hops (RFC 3207), over octets instead of sockets, so that daemon and qmail-remote share it.

Encryption is opportunistic: certificates are not verified, because a next hop without TLS would be used as well.
Where a password is to be said they are, by the system's authorities and the name or address that smtproutes has.
Sessions are resumed per host, which saves the costly half of the handshake.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from ekiden.settings.schema import Settings

Peer = tuple[str, str, bool]
"""Name, address, and whether its certificate is verified."""

SESSIONS = 1000
"""Hosts whose last TLS session is kept."""

_READ = 256 * 1024
_LOOKS = 2


class TlsConnection:
    """One connection's TLS. All methods raise ssl.SSLError if the peer does not speak TLS with us."""

    def __init__(self, client: TlsClient, host: str, address: str, verify: bool) -> None:
        self.established = False
        self._client = client
        self._peer = (host, address, verify)
        self._looks = _LOOKS
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = client.wrap(self._incoming, self._outgoing, self._peer)

    def start(self) -> bytes:
        """What begins the handshake."""
        self._shake_hands()
        return self._outgoing.read()

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Take octets from the connection: the plain ones in them, and what must be sent in answer."""
        self._incoming.write(data)
        if not self.established:
            self._shake_hands()
        plain = self._read() if self.established else b""
        return plain, self._outgoing.read()

    def send(self, data: bytes) -> bytes:
        """The octets on the connection that carry ``data``."""
        self._ssl.write(data)
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.established = True

    def _read(self) -> bytes:
        pieces = []
        while True:
            try:
                piece = self._ssl.read(_READ)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                break
            if not piece:
                break
            pieces.append(piece)
        if pieces and self._looks:
            # TLS 1.3 hands out its tickets after the handshake: the first answers are the time to look.
            self._looks -= 1
            self._client.remember(self._peer, self._ssl.session)
        return b"".join(pieces)


class TlsClient:
    """Makes connections as the settings clientcert and clientkey say; ``home`` is where their paths begin.

    Raises ssl.SSLError or OSError if a certificate is set and cannot be used.
    """

    def __init__(self, settings: Settings, home: Path) -> None:
        self._context = self._make_context(settings, home)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._verifying: ssl.SSLContext | None = None
        if settings.remoteauth and settings.remoteauthtls == "verify":
            # Now: later the authorities' files may be out of reach.
            self._verifying = self._make_context(settings, home)
            self._verifying.load_default_certs()
        self._sessions: dict[Peer, ssl.SSLSession] = {}

    @staticmethod
    def _make_context(settings: Settings, home: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if settings.clientcert:
            key = home / settings.clientkey if settings.clientkey else None
            context.load_cert_chain(home / settings.clientcert, key)
        return context

    def connection(self, host: str, address: str, verify: bool = False) -> TlsConnection:
        """TLS with the host of this name at this address; a bare address has an empty name and gets no SNI."""
        return TlsConnection(self, _server_name(host), address, verify)

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, peer: Peer) -> ssl.SSLObject:
        """An SSLObject that resumes the last session with the peer, if there is one."""
        host, address, verify = peer
        context = self._verifying if verify else self._context
        assert context is not None, "whoever verifies has said so in the settings"
        return context.wrap_bio(
            incoming, outgoing, False, host or (address if verify else None), self._sessions.get(peer)
        )

    def remember(self, peer: Peer, session: ssl.SSLSession | None) -> None:
        """Keep a session for the next connection to the peer."""
        if session is None:
            return
        if len(self._sessions) >= SESSIONS and peer not in self._sessions:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[peer] = session


def _server_name(host: str) -> str:
    """A name as SNI and certificates have it (RFC 6066 section 3); empty for what the DNS knows and they cannot."""
    try:
        return host.removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError:
        return ""
