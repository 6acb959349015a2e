"""One message on its way to a next hop: what it holds, and in which form the server at hand can take it.

Content that needs more than the server offers is converted (RFC 6152 section 3, RFC 3030 section 3) or refused here,
before the server hears of it. A scan happens only where its answer decides something; inline content is scanned at
memory speed, content in a file only for servers without 8BITMIME.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol
from zlib import crc32

from ekiden.base.envelope import Body, Envelope
from ekiden.base.outcome import Outcome, Verdict
from ekiden.delivery import report
from ekiden.wire.smtp.client_command import Extensions
from ekiden.wire.smtp.client_report import impossible

PIECE = 256 * 1024
"""Octets of a file that are read at once."""

CONVERTIBLE = 64 * 1024 * 1024
"""Octets of content that are converted in memory at most; a longer message is refused instead."""

_NOBODY: Mapping[str, Outcome] = {}


class Tls(Protocol):
    """TLS over octets, see runtime.tls_client: ``receive`` gives plain octets and what is to be sent in answer.

    All raise ssl.SSLError when the peer does not speak TLS with us.
    """

    established: bool

    def start(self) -> bytes: ...

    def receive(self, data: bytes) -> tuple[bytes, bytes]: ...

    def send(self, data: bytes) -> bytes: ...


class Job:
    """An attempt at delivery. ``content`` is None if it is to be read from ``descriptor``, which the job owns;
    ``checksum`` is CRC-32 of what must be there, 0 if that is not known.

    ``source`` and ``token`` belong to whoever takes the report. ``body`` and ``utf8`` are what ``prepare`` found the
    content to hold and to need. ``passed`` has the addresses that ended a session before they decided about the
    message, with what became of it there.
    """

    __slots__ = (
        "body",
        "checksum",
        "content",
        "descriptor",
        "destination",
        "envelope",
        "passed",
        "size",
        "source",
        "token",
        "utf8",
    )

    def __init__(
        self,
        source: object,
        token: int,
        destination: bytes,
        envelope: Envelope,
        content: bytes | None,
        size: int,
        descriptor: int | None = None,
        checksum: int = 0,
    ) -> None:
        self.source = source
        self.token = token
        self.destination = destination
        self.envelope = envelope
        self.content = content
        self.size = size
        self.descriptor = descriptor
        self.checksum = checksum if content is None else 0
        self.body = int(Body.SEVENBIT)
        self.utf8 = False
        self.passed: Mapping[str, Outcome] = _NOBODY

    def piece(self, offset: int, length: int = PIECE) -> bytes:
        """Octets of the content from ``offset`` on; empty at its end. OSError if it cannot be read."""
        if self.content is not None:
            return self.content[offset : offset + length]
        assert self.descriptor is not None
        # The descriptor's offset is shared with other processes: never move it.
        return os.pread(self.descriptor, length, offset)

    def close(self) -> None:
        """Give the descriptor back."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def is_slow(job: Job, offered: Extensions) -> bool:
    """Whether ``prepare`` would read a file, so that it should run in a thread."""
    return job.content is None and not (offered.eightbitmime and job.envelope.body != Body.BINARY)


def prepare(job: Job, offered: Extensions) -> Outcome | None:
    """Make the job fit a server with these extensions; an Outcome for all recipients if it cannot be.

    OSError if a file cannot be read.
    """
    limit = offered.size_limit
    if limit and job.size > limit:
        return impossible("5.3.4", f"Remote host takes messages of up to {limit} octets, this one has {job.size}.")
    refused = _consider_utf8(job, offered)
    if refused is not None:
        return refused
    wanted = job.envelope.body
    if wanted == Body.BINARY and offered.binarymime and offered.chunking:
        job.body = Body.BINARY
    elif wanted == Body.BINARY or not offered.eightbitmime:
        return _make_sevenbit(job)
    elif job.content is None or not job.content.isascii():
        job.body = Body.EIGHTBIT
    else:
        job.body = Body.SEVENBIT
    return None


def _consider_utf8(job: Job, offered: Extensions) -> Outcome | None:
    """RFC 6531 section 3.6: SMTPUTF8 is asked for if an address or, as the sender said, a header needs it.

    Where it is not offered, single recipients that need it are left to the engine to refuse.
    """
    envelope = job.envelope
    addresses = all(entry.address.isascii() for entry in envelope.recipients) and envelope.sender.isascii()
    job.utf8 = envelope.smtputf8 or not addresses
    if not job.utf8 or offered.smtputf8:
        return None
    if not envelope.sender.isascii():
        return impossible("5.6.7", "Remote host does not take a sender in other letters than ASCII (SMTPUTF8).")
    if envelope.smtputf8 and not _header(job).isascii():
        return impossible("5.6.7", "Remote host does not take header fields in UTF-8 (SMTPUTF8).")
    return None


def _header(job: Job) -> bytes:
    """The content's header section, as far as the first piece reaches."""
    return job.piece(0).partition(b"\r\n\r\n")[0]


def _make_sevenbit(job: Job) -> Outcome | None:
    job.body = Body.SEVENBIT
    if job.envelope.body != Body.BINARY and _is_ascii(job):
        return None
    from ekiden.delivery.remote_convert import UnconvertibleError, to_sevenbit

    try:
        if job.size > CONVERTIBLE:
            raise UnconvertibleError("it is too long")
        content = _whole(job)
        if job.checksum and crc32(content) != job.checksum:
            return DAMAGED
        job.content, job.checksum = to_sevenbit(content), 0
    except UnconvertibleError as error:
        text = f"Remote host takes only 7-bit content, and this message cannot be converted: {error}."
        return impossible("5.6.3", text)
    job.size = len(job.content)
    return None


def _is_ascii(job: Job) -> bool:
    if job.content is not None:
        return job.content.isascii()
    offset = 0
    while piece := job.piece(offset):
        if not piece.isascii():
            return False
        offset += len(piece)
    return True


def _whole(job: Job) -> bytes:
    return b"".join(job.piece(offset) for offset in range(0, job.size, PIECE))


DAMAGED = Outcome(Verdict.DEFERRED, "4.3.0", report.DAMAGED)
UNREADABLE = Outcome(Verdict.DEFERRED, "4.3.0", "Unable to read message. (#4.3.0)\n")
NO_RESOURCES = Outcome(Verdict.DEFERRED, "4.3.0", "System resources temporarily unavailable. (#4.3.0)\n")
NO_CONNECTION = Outcome(Verdict.DEFERRED, "4.4.1", "Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n")
