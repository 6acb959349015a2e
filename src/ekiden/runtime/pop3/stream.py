"""A client's connection as two descriptors that are read and written in turn, with a limit on every wait."""

from __future__ import annotations

import os
import select
import socket
import struct

_READ = 8192
"""Octets: many commands, and little memory to take for one."""
_TIMEVAL = struct.Struct("ll")


class Gone(Exception):
    """The client is not there any more, or no longer reads; the text says which, for the log."""


class Silent(Exception):
    """The client has said nothing for as long as it may."""


class Stream:
    """Descriptors to read from and write to, sockets or not. ``seconds``: longest wait for either."""

    def __init__(self, reading: int, writing: int, seconds: int) -> None:
        self._reading = reading
        self._writing = writing
        self._seconds = seconds
        self.waiting = False
        # Sockets can be told to give up by themselves, which spares a system call per command.
        self._poll_input = not _limit(reading, socket.SO_RCVTIMEO, seconds)
        self._poll_output = not _limit(writing, socket.SO_SNDTIMEO, seconds)

    def read(self, octets: int = _READ) -> bytes:
        """What the client has said, at most so many octets; empty when it has hung up. Raises Silent, Gone."""
        self.waiting = True
        try:
            if self._poll_input and not _poll(self._reading, select.POLLIN, self._seconds):
                raise Silent
            return os.read(self._reading, octets)
        except BlockingIOError:
            raise Silent from None
        except OSError as error:
            raise Gone(f"connection lost: {error.strerror}") from None
        finally:
            self.waiting = False

    def write(self, data: bytes) -> None:
        """Say it all. Raises Gone."""
        view = memoryview(data)
        try:
            while view:
                if self._poll_output and not _poll(self._writing, select.POLLOUT, self._seconds):
                    raise Gone("client does not read")
                view = view[os.write(self._writing, view) :]
        except BlockingIOError:
            raise Gone("client does not read") from None
        except OSError as error:
            raise Gone(f"connection lost: {error.strerror}") from None


def _limit(descriptor: int, option: int, seconds: int) -> bool:
    """Let reads or writes of a socket fail with EAGAIN after so many seconds; False if it is no socket."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        os.set_blocking(descriptor, True)
        connection.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(seconds, 0))
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        return False
    finally:
        connection.detach()
    return True


def _poll(descriptor: int, event: int, seconds: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(seconds * 1000))
