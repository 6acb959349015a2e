"""The fork server: makes the processes that become users, for a role that hears others and may do neither itself.

It is forked from that role before anything is heard, stays as privileged as the role was, and hears nothing but
requests of bounded length on a pair of sockets: to make a child for a user, with the child's end of a connection as a
descriptor; or to kill a child that it made. It parses nothing else, opens no file, and ends when the role does.

No child is root. A request names an address beside the user's numbers, and the child looks it up for itself before it
becomes anybody: so a role that has been taken over gets children of those alone whose the addresses here are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from typing import NoReturn

from ekiden.runtime.role import SIGNALS
from ekiden.runtime.user_process import become, close_all_but

NAME_OCTETS = 4096
"""Longest local part that is asked for; those that the queue takes are shorter."""

_MAKE, _KILL = struct.Struct("=cII"), struct.Struct("=cI")
_ANSWER = struct.Struct("=i")
_LONGEST = _MAKE.size + NAME_OCTETS

Whose = Callable[[bytes], tuple[int, int]]
"""The uid and gid of the user who controls a local part. May raise anything: then there is no child."""


class ForkServer:
    """The role's end."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self._connection = connection
        self._pid = pid
        self.exited = os.pidfd_open(pid)
        """A descriptor that becomes readable when the server has ended."""

    def make(self, uid: int, gid: int, name: bytes, theirs: socket.socket) -> int:
        """A child for a user, whose the local part ``name`` is; its process id. Raises OSError.

        ``theirs`` is the child's end of a connection, a unix stream socket; it stays open here.
        """
        if not 0 < len(name) <= NAME_OCTETS:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        socket.send_fds(self._connection, [_MAKE.pack(b"M", uid, gid) + name], [theirs.fileno()])
        try:
            told = self._connection.recv(_ANSWER.size)
        except OSError:
            # An answer that came later would be taken for the next one's: let the server end.
            self._connection.shutdown(socket.SHUT_RDWR)
            raise
        if len(told) < _ANSWER.size:
            raise BrokenPipeError(errno.EPIPE, "the fork server has ended")
        (pid,) = _ANSWER.unpack(told)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return int(pid)

    def kill(self, pid: int) -> None:
        """End a child at once, if it has not ended."""
        with contextlib.suppress(OSError):
            self._connection.send(_KILL.pack(b"K", pid))

    def close(self) -> None:
        """Let the server end, and wait for it."""
        self._connection.close()
        os.waitpid(self._pid, 0)
        os.close(self.exited)


def start(work: Callable[[socket.socket], None], whose: Whose, keep: Iterable[int] = ()) -> ForkServer:
    """Fork a server whose children do ``work(connection)``, which must not return to an event loop of the caller's.

    A child has nothing open but its connection, the descriptors to ``keep`` and standard error. Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return ForkServer(ours, pid)
    status = 1
    try:
        ours.close()
        # It ends when the role has: not with Control-C in a terminal, nor when somebody ends all processes in turn.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        with contextlib.suppress(ConnectionError):
            serve(theirs, work, whose, frozenset(keep))
        status = 0
    except BaseException as error:
        os.write(2, f"ekiden: fork server: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(status)


def serve(
    connection: socket.socket, work: Callable[[socket.socket], None], whose: Whose, keep: frozenset[int]
) -> None:
    """Make children until the other end of ``connection`` is closed. Raises ConnectionError if that does not wait for
    an answer.
    """
    _Server(connection, work, whose, keep).serve()


class _Server:
    """The server's end, and its children: by the process id of each a descriptor that tells of its end."""

    def __init__(
        self, connection: socket.socket, work: Callable[[socket.socket], None], whose: Whose, keep: frozenset[int]
    ) -> None:
        self._connection = connection
        self._work = work
        self._whose = whose
        self._keep = keep
        self._children: dict[int, int] = {}
        self._events = select.poll()

    def serve(self) -> None:
        """See above."""
        self._events.register(self._connection, select.POLLIN)
        while True:
            for descriptor, _event in self._events.poll():
                if descriptor != self._connection.fileno():
                    self._reap(descriptor)
                elif not self._hear():
                    return

    def _reap(self, exited: int) -> None:
        self._events.unregister(exited)
        ended = os.waitid(os.P_PIDFD, exited, os.WEXITED)
        os.close(exited)
        if ended is not None:
            self._children.pop(ended.si_pid, None)

    def _hear(self) -> bool:
        """Do what one request says; False if there will be none any more."""
        said, descriptors, flags, _address = socket.recv_fds(self._connection, _LONGEST, 2)
        try:
            for passed in descriptors:
                # A program of the user's that had it would keep the connection open when the child has died.
                os.set_inheritable(passed, False)
            if not said and not descriptors:
                return False
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                said = b""
            if said[:1] == b"K" and len(said) == _KILL.size and not descriptors:
                self._kill(_KILL.unpack(said)[1])
            else:
                self._connection.send(_ANSWER.pack(self._child(said, descriptors)))
        finally:
            for passed in descriptors:
                os.close(passed)
        return True

    def _kill(self, pid: int) -> None:
        """Only a child, and none that has ended: another process may have its number."""
        with contextlib.suppress(KeyError, ProcessLookupError):
            signal.pidfd_send_signal(self._children[pid], signal.SIGKILL)

    def _child(self, said: bytes, descriptors: list[int]) -> int:
        """The process id of a new child, or an error's number, negative."""
        try:
            pid = self._make(said, descriptors)
        except OSError as error:
            return -(error.errno or errno.EIO)
        self._events.register(self._children[pid], select.POLLIN)
        return pid

    def _make(self, said: bytes, descriptors: list[int]) -> int:
        """Raises OSError."""
        if said[:1] != b"M" or len(said) <= _MAKE.size or len(descriptors) != 1:
            raise OSError(errno.EINVAL, "no request")
        _kind, uid, gid = _MAKE.unpack_from(said)
        if not uid:
            raise OSError(errno.EPERM, "not for root")
        theirs = socket.socket(fileno=descriptors[0])
        try:
            if (theirs.family, theirs.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
                raise OSError(errno.EINVAL, "no connection for a child")
            pid = os.fork()
            if not pid:
                self._begin(uid, gid, said[_MAKE.size :], theirs)
        finally:
            theirs.detach()
        try:
            self._children[pid] = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        return pid

    def _begin(self, uid: int, gid: int, name: bytes, connection: socket.socket) -> NoReturn:
        """In the child: become the user, work, and end without ever returning."""
        status = 1
        try:
            for number in (*SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # Control-C in a terminal is for the role, which waits for what is in hand.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            close_all_but(self._keep | {2, connection.fileno()})
            os.umask(0o077)
            if self._whose(name) != (uid, gid):
                raise PermissionError("the address is another's")
            become(uid, gid)
            self._work(connection)
            status = 0
        except BaseException as error:
            os.write(2, f"ekiden: uid {uid}: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        finally:
            os._exit(status)
