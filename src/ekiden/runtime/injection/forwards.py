"""Messages that a process of ours queues for its user: forwards of local deliveries, through ``run/inject``.

The connection is made when the first message is there. What is answered with a refusal may be tried again, unless it
is permanent; what was under way when the queue went away may have been queued.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from ekiden.base.envelope import Envelope, Origin
from ekiden.runtime.frames import Accepted, Rejected, SpoolGrant
from ekiden.runtime.intake import Intake
from ekiden.runtime.trace import invoked

Ended = Callable[[int | Rejected], None]


class Forwards:
    """A way into the queue. ``open_intake`` makes the connection to ``run/inject`` when it is first needed."""

    def __init__(self, open_intake: Callable[[], Intake]) -> None:
        self._open_intake = open_intake
        self._intake: Intake | None = None

    def inject(
        self,
        envelope: Envelope,
        invoker: bytes,
        field: bytes,
        wire: Callable[[], Iterable[bytes]],
        ended: Ended,
    ) -> None:
        """Queue ``field`` (a header field ended by LF) and the content of ``wire`` (pieces in wire form).

        A Received field in qmail-queue's form goes before; ``invoker`` is who it says invoked us. ``ended`` is called
        once: with this process's id, which is the message's ``qp`` in the log, when the queue has the message, else
        with why it does not. OSError if ``wire`` cannot be read.
        """
        if self._intake is None:
            self._intake = self._open_intake()
        front = invoked(os.getpid(), b"by " + invoker, time.time()) + b"\r\n"
        chunks = chain((front, field[:-1] + b"\r\n"), wire())
        content = bytearray()
        for chunk in chunks:
            content += chunk
            if len(content) > self._intake.inline:
                self._inject_file(self._intake, envelope, chain((bytes(content),), chunks), ended)
                return
        self._intake.inject(envelope, _origin(), bytes(content), lambda answer: ended(_result(answer)))

    def _inject_file(self, intake: Intake, envelope: Envelope, chunks: Iterator[bytes], ended: Ended) -> None:
        def granted(grant: SpoolGrant | Rejected, descriptor: int) -> None:
            if isinstance(grant, Rejected):
                ended(grant)
                return
            try:
                size = _write(descriptor, chunks)
            except OSError as error:
                intake.release_spool(grant.spool)
                ended(Rejected(0, 452, "4.3.1", f"unable to write the spool file: {error.strerror}"))
                return
            finally:
                os.close(descriptor)
            intake.inject(envelope, _origin(), b"", lambda answer: ended(_result(answer)), grant.spool, size)

        intake.request_spool(granted)


def _result(answer: Accepted | Rejected) -> int | Rejected:
    return os.getpid() if isinstance(answer, Accepted) else answer


def _write(descriptor: int, chunks: Iterable[bytes]) -> int:
    """Write the content durably; its size in octets."""
    size = 0
    with open(descriptor, "wb", closefd=False) as file:
        for chunk in chunks:
            size += file.write(chunk)
        file.flush()
        os.fsync(descriptor)
    return size


def _origin() -> Origin:
    return Origin("local", os.getpid(), os.getuid())
