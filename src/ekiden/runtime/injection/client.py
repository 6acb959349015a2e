"""Putting a message into the queue from a program that waits: the client of ``run/inject``.

    with Injection(home) as injection:
        injection.content(chunks)
        number = injection.send(letter)

Content comes with lines ended by LF, and every LF becomes CRLF, so that local delivery gives back exactly what was
put in. Content up to the setting ``inlinebytes`` waits in memory, the rest goes into a file that the queue process
grants, and that it removes when the connection ends before the message is queued. ``send`` returns when the message
is durable. While ekiden does not run, whoever may write the queue does so directly (``runtime.injection.direct``).
"""

from __future__ import annotations

import os
from itertools import chain

from ekiden.delivery.content import write_all
from ekiden.runtime.injection.connection import Connection, connect
from ekiden.runtime.injection.door import (
    OUT_OF_MEMORY,
    QUEUE_TROUBLE,
    READ_ERROR,
    WRITE_ERROR,
    Body,
    Letter,
    NotQueued,
)
from ekiden.settings.lines import control_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ekiden.runtime.injection.door import Door

INLINE_OCTETS = 262_144
"""Default of the setting ``inlinebytes``."""


class Injection:
    """One message on its way into the queue of ``home``, a context manager."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._door: Door | None = None
        self._body: Body | None = None

    def __enter__(self) -> Injection:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._door is not None:
            self._door.close()

    def content(self, chunks: Iterable[bytes]) -> None:
        """Take the content, lines ended by LF; OSError of ``chunks`` becomes ``NotQueued``."""
        limit = _inline_limit(self._home)
        wire = _wire(chunks)
        start = bytearray()
        for chunk in wire:
            start += chunk
            if len(start) > limit:
                self._body = self._spool(bytes(start), wire)
                return
        inline = bytes(start)
        self._body = Body(inline, not inline.isascii(), len(inline))

    def _spool(self, start: bytes, rest: Iterator[bytes]) -> Body:
        name, descriptor = self._opened().grant()
        size, eight_bit = 0, False
        with open(descriptor, "wb", buffering=0) as file:
            try:
                for chunk in chain((start,), rest):
                    write_all(file.fileno(), chunk)
                    size += len(chunk)
                    eight_bit = eight_bit or not chunk.isascii()
                os.fsync(file.fileno())
            except OSError as error:
                raise NotQueued(WRITE_ERROR, f"unable to write message: {error.strerror} (#4.3.0)") from None
        return Body(b"", eight_bit, size, name)

    def send(self, letter: Letter) -> int:
        """Queue it under this envelope, after ``content``; the message's number, 0 if nobody is to receive it."""
        assert self._body is not None
        if not letter.recipients:
            return 0
        return self._opened().queue(letter, self._body)

    def _opened(self) -> Door:
        if self._door is None:
            self._door = door(self._home)
        return self._door


def door(home: str) -> Door:
    """The way into the queue of ``home`` that there is now; ``NotQueued`` if there is none."""
    try:
        return Connection(connect(home))
    except (FileNotFoundError, ConnectionRefusedError, PermissionError) as error:
        if not os.access(os.path.join(home, "queue"), os.W_OK | os.X_OK):
            reason = "ekiden does not run" if isinstance(error, ConnectionRefusedError) else error.strerror
            raise NotQueued(QUEUE_TROUBLE, f"the queue does not answer: {reason} (#4.3.0)") from None
    except OSError as error:
        raise NotQueued(QUEUE_TROUBLE, f"the queue does not answer: {error.strerror or error} (#4.3.0)") from None
    from ekiden.runtime.injection.direct import Direct

    return Direct(home)


def _inline_limit(home: str) -> int:
    try:
        value = control_line(home, "inlinebytes")
    except OSError:
        value = None
    return int(value) if value is not None and value.isdigit() and len(value) <= 18 else INLINE_OCTETS


def _wire(chunks: Iterable[bytes]) -> Iterator[bytes]:
    try:
        for chunk in chunks:
            yield chunk.replace(b"\n", b"\r\n")
    except OSError as error:
        raise NotQueued(READ_ERROR, f"unable to read message: {error.strerror} (#4.3.0)") from None
    except MemoryError:
        raise NotQueued(OUT_OF_MEMORY, "out of memory (#4.3.0)") from None
