"""The server's certificate on its way from files that perhaps only root may read to the processes that show it.

The supervisor reads the files, looks once a second whether they have changed, and sends what they hold to every
process that speaks TLS with clients, over a socket that the process was born with. It understands none of it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

from ekiden.runtime.packets import latest
from ekiden.runtime.role import Context
from ekiden.runtime.tls import CannotSecure, ServerTLS, read_pem

LONGEST = 150_000
"""Octets of certificates and key together: one packet."""

Stamp = tuple[tuple[int, int, int] | None, ...]


class CertificateFiles:
    """The files, and what was last read of them; ``pem`` is empty if there are none or they cannot be read."""

    def __init__(self, certificate: str, key: str = "") -> None:
        self._paths = (certificate, key)
        self._read: Stamp = self._stamp()
        self._seen = self._read
        self.pem = b""
        self.problem = ""
        """Why ``pem`` is not what the files are meant to hold; for the administrator."""
        self._take()

    @property
    def present(self) -> bool:
        """Whether there is anything to look after."""
        return bool(self._paths[0])

    def changed(self) -> bool:
        """Look: whether there is something new to send. A change counts when nothing changes any more.

        Certificate and key are often written one after the other.
        """
        before, self._seen = self._seen, self._stamp()
        if self._seen == self._read or self._seen != before:
            return False
        self._read = self._seen
        old = self.pem
        self._take()
        return self.pem != old and not self.problem

    def _take(self) -> None:
        self.problem = ""
        if not self.present:
            return
        try:
            pem = read_pem(*self._paths)
        except CannotSecure as error:
            self.problem = str(error)
            return
        if len(pem) > LONGEST:
            self.problem = f"{self._paths[0]}: {len(pem)} octets are too many for a certificate"
            return
        self.pem = pem

    def _stamp(self) -> Stamp:
        return tuple(map(_identity, filter(None, self._paths)))


def _identity(path: str) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written to; None if it cannot be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


class ServerCertificate:
    """The role's end: ``context`` for all handshakes, None without a certificate that can be used; it says why."""

    def __init__(self, context: Context) -> None:
        settings, self._log = context.settings, context.log
        self._name = settings.servercert
        self._tls: ServerTLS | None = None
        if not self._name:
            return
        try:
            if context.certificate is None:
                self._tls = ServerTLS(read_pem(settings.servercert, settings.serverkey), self._name)
            elif pem := latest(context.certificate, LONGEST):
                self._tls = ServerTLS(pem, self._name)
                asyncio.get_running_loop().add_reader(context.certificate.fileno(), self._take, context.certificate)
        except CannotSecure as error:
            self._log.alert(f"TLS is not offered: {error}")

    @property
    def context(self) -> ssl.SSLContext | None:
        """For every handshake; it always shows the newest certificate."""
        return self._tls.context if self._tls else None

    def _take(self, connection: socket.socket) -> None:
        pem = latest(connection, LONGEST)
        if not pem:
            # The supervisor is gone, or it has no more to say to this process.
            asyncio.get_running_loop().remove_reader(connection.fileno())
            return
        assert self._tls is not None
        try:
            self._tls.replace(pem)
        except CannotSecure as error:
            self._log.alert(f"TLS goes on with the certificate that it had: {error}")
        else:
            self._log.event("tls", f"tls: new certificate from {self._name}")
