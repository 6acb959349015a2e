"""TLS towards next hops (RFC 3207), over octets instead of sockets, so that daemon and qmail-remote share it.

Encryption is opportunistic: certificates are not verified, because a next hop without TLS would be used as well.
Sessions are resumed per host, which saves the costly half of the handshake.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from ekiden.settings.schema import Settings

SESSIONS = 1000
"""Hosts whose last TLS session is kept."""

_READ = 256 * 1024
_LOOKS = 2


class TlsConnection:
    """One connection's TLS. All methods raise ssl.SSLError if the peer does not speak TLS with us."""

    def __init__(self, client: TlsClient, host: str, address: str) -> None:
        self.established = False
        self._client = client
        self._peer = (host, address)
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
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        if settings.clientcert:
            key = home / settings.clientkey if settings.clientkey else None
            self._context.load_cert_chain(home / settings.clientcert, key)
        self._sessions: dict[tuple[str, str], ssl.SSLSession] = {}

    def connection(self, host: str, address: str) -> TlsConnection:
        """TLS with the host of this name at this address; a bare address has an empty name and gets no SNI."""
        return TlsConnection(self, host, address)

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, peer: tuple[str, str]) -> ssl.SSLObject:
        """An SSLObject that resumes the last session with the peer (name and address), if there is one."""
        return self._context.wrap_bio(incoming, outgoing, False, peer[0] or None, self._sessions.get(peer))

    def remember(self, peer: tuple[str, str], session: ssl.SSLSession | None) -> None:
        """Keep a session for the next connection to the peer."""
        if session is None:
            return
        if len(self._sessions) >= SESSIONS and peer not in self._sessions:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[peer] = session
