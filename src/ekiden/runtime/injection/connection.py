"""The way into the queue through ``run/inject``, a frame at a time, without an event loop and without msgspec."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from ekiden.runtime.injection.door import LOST, TIMEOUT, Body, Letter, NotQueued, refusal
from ekiden.runtime.injection.packing import pack, unpack
from ekiden.runtime.socket_path import short_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ekiden.base.envelope import Envelope
    from ekiden.runtime.injection.packing import Value

ANSWER_SECONDS = 600.0
"""How long the queue process may take for an answer."""

_LENGTH = struct.Struct(">I")
_LONGEST_ANSWER = 65_536
_INJECT, _ACCEPTED, _REJECTED, _SPOOL_REQUEST, _SPOOL_GRANT = 1, 2, 3, 4, 5
"""Tags of runtime.frames."""


def connect(home: str) -> socket.socket:
    """A connection to ``run/inject``; OSError if ekiden does not run there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # While many others want to be let in, a socket with Python's time limit would be refused; this one waits.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(ANSWER_SECONDS), 0))
    try:
        with short_path(os.path.join(home, "run"), "inject") as path:
            connection.connect(path)
        connection.settimeout(ANSWER_SECONDS)
    except OSError:
        connection.close()
        raise
    return connection


class Connection:
    """The door through the running queue process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._descriptors: list[int] = []

    def close(self) -> None:
        """Whatever was granted and not used is removed by the queue process when the connection ends."""
        self._connection.close()
        for descriptor in self._descriptors:
            os.close(descriptor)

    def grant(self) -> tuple[str, int]:
        """A spool file of the queue process."""
        tag, *fields = self._ask([_SPOOL_REQUEST, 0])
        if tag != _SPOOL_GRANT or len(fields) < 2 or not isinstance(fields[1], str) or not self._descriptors:
            raise NotQueued(LOST, "the queue process gave no spool file (#4.3.0)")
        return fields[1], self._descriptors.pop()

    def queue(self, letter: Letter, body: Body) -> int:
        """Hand the message over and wait until it is durable."""
        recipients: list[Value] = [[address, letter.notify, b""] for address in letter.recipients]
        packed: Value = [letter.sender, recipients, int(body.eight_bit), letter.is_utf8, letter.ret, letter.envid]
        return self._inject(packed, letter.pid, body)

    def queue_envelope(self, envelope: Envelope, pid: int, body: Body) -> int:
        """Likewise, with each recipient's own wishes."""
        recipients: list[Value] = [[each.address, int(each.notify), each.orcpt] for each in envelope.recipients]
        start: list[Value] = [envelope.sender, recipients, int(envelope.body), envelope.smtputf8]
        return self._inject([*start, envelope.ret, envelope.envid], pid, body)

    def _inject(self, envelope: Value, pid: int, body: Body) -> int:
        origin: Value = ["local", pid, os.getuid(), "", b""]
        tag, *fields = self._ask([_INJECT, 0, envelope, origin, body.inline, body.spool, body.size])
        if tag != _ACCEPTED or len(fields) < 2 or not isinstance(fields[1], int):
            raise NotQueued(LOST, "the queue process gave an answer that means nothing (#4.3.0)")
        return fields[1]

    def _ask(self, frame: Value) -> list[Value]:
        """The answer's fields; ``Rejected`` and everything that goes wrong is ``NotQueued``."""
        packed = pack(frame)
        try:
            # Who is sent away is told why, and may find the other end closed before all is said.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._connection.sendall(_LENGTH.pack(len(packed)) + packed)
            (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
            if length > _LONGEST_ANSWER:
                raise ValueError(f"answer of {length} octets")
            answer = unpack(self._exactly(length))
        except TimeoutError:
            raise NotQueued(TIMEOUT, "the queue process does not answer (#4.3.0)") from None
        except (OSError, ValueError) as error:
            raise NotQueued(LOST, f"the queue process ended the connection: {error} (#4.4.2)") from None
        if not isinstance(answer, list) or len(answer) < 2:
            raise NotQueued(LOST, "the queue process gave an answer that means nothing (#4.3.0)")
        if answer[0] == _REJECTED:
            raise _rejected(answer)
        return answer

    def _exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            data, descriptors, _flags, _address = socket.recv_fds(self._connection, count - len(received), 4)
            self._descriptors += descriptors
            if not data:
                raise ConnectionError("end of file")
            received += data
        return bytes(received)


def _rejected(answer: Sequence[Value]) -> NotQueued:
    """A ``Rejected`` frame: tag, token, reply code, enhanced status, text."""
    reply, status, text = (*answer[2:5], None, None, None)[:3]
    return refusal(reply if isinstance(reply, int) else 0, str(status), str(text))
