"""The certificate that roles show to clients: read here, and sent to them whenever its files change."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from ekiden.runtime.certificate import CertificateFiles
from ekiden.runtime.log import Log
from ekiden.settings.schema import Settings
from ekiden.supervisor.children import Child

LOOK_SECONDS = 1.0
"""How often the files are looked at."""


class Shown:
    """One pair of files, as settings name them."""

    def __init__(self, settings: Settings) -> None:
        self._files = CertificateFiles(settings.servercert, settings.serverkey)
        self._problem = ""
        self._next_look = 0.0

    @property
    def present(self) -> bool:
        """Whether there are files to be looked at."""
        return self._files.present

    @property
    def pem(self) -> bytes:
        """What is shown; empty if nothing can be."""
        return self._files.pem

    def tell(self, log: Log) -> None:
        """Say why nothing is shown, if that is so."""
        self._problem = self._files.problem
        if self._problem:
            log.alert(f"TLS is not offered: {self._problem}")

    def look(self, children: Iterable[Child], log: Log) -> None:
        """Send the certificate to whoever shows it when its files have changed."""
        if not self._files.present or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        if self._files.changed():
            for child in children:
                if child.channel is not None:
                    with contextlib.suppress(OSError):
                        child.channel.send(self._files.pem)
        elif self._files.problem != self._problem:
            log.alert(f"TLS goes on with the certificate that it had: {self._files.problem}")
        self._problem = self._files.problem
