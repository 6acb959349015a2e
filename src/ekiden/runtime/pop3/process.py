"""What a process does that serves POP3 sessions with one mailbox of one user.

It becomes the user for good before it hears of a client, gives up all but the mailbox before it hears the client
(``fences.isolation``), and has nothing open but the connection to the keeper and its client's. When the keeper dies
it ends as if it were told to stop.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import struct
from pathlib import Path

import msgspec

from ekiden.mailstore.location import mailbox_path, open_mailbox, places
from ekiden.mailstore.maildrop import MailboxError
from ekiden.runtime.fences import isolation
from ekiden.runtime.fences.libc import PR_SET_PDEATHSIG, libc
from ekiden.runtime.pop3.frames import Serve, Served
from ekiden.runtime.pop3.session import Session, Stopping, stop_when_idle
from ekiden.runtime.pop3.stream import Gone, Stream
from ekiden.runtime.user_process import become, close_all_but
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.server import Server
from ekiden.wire.pop3.session import error

_LENGTH = struct.Struct(">I")
_LONGEST = 262_144


class Work(msgspec.Struct, frozen=True):
    """What all sessions have in common. ``default``: control/defaultdelivery."""

    profile: Profile
    seconds: int
    mailbox: bytes
    default: bytes
    isolated: bool


def begin(uid: int, gid: int, connection: socket.socket, work: Work) -> None:
    """Become the user, serve, and end without ever returning."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # Control-C in a terminal is for the parent.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        close_all_but(frozenset({2, connection.fileno()}))
        os.umask(0o077)
        become(uid, gid)
        # The kernel forgets this when a process changes its user.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        connection.setblocking(True)
        _serve_all(connection, work)
        status = 0
    except BaseException as failed:
        os.write(2, f"ekiden: pop3 uid {uid}: {type(failed).__name__}: {failed}\n".encode("utf-8", "replace"))
    finally:
        os._exit(status)


class Fence:
    """What a process gives up before its first session, if ``isolated``."""

    def __init__(self, isolated: bool) -> None:
        self._due = isolated

    def close(self, mailbox: bytes) -> None:
        """Nothing but this mailbox from now on, which is the one of every session."""
        if not self._due:
            return
        self._due = False
        try:
            isolation.shut()
            isolation.complete("session", writes=[Path(os.fsdecode(place)) for place in places(mailbox, b".")])
        except OSError as failed:
            os.write(2, f"ekiden: pop3: process {os.getpid()} is not isolated: {failed.strerror}\n".encode())


def _serve_all(connection: socket.socket, work: Work) -> None:
    """One session after the other, until the keeper closes the connection."""
    fence = Fence(work.isolated)
    while True:
        received = _receive(connection)
        if received is None:
            return
        task, client = received
        try:
            served = _serve(task, client, work, fence)
        finally:
            os.close(client)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        encoded = msgspec.msgpack.encode(served)
        connection.sendall(_LENGTH.pack(len(encoded)) + encoded)


def _receive(connection: socket.socket) -> tuple[Serve, int] | None:
    """The next task and its client's descriptor; None when there will be none."""
    size = socket.CMSG_SPACE(array.array("i").itemsize)
    head, ancillary, _flags, _address = connection.recvmsg(_LENGTH.size, size, socket.MSG_WAITALL)
    if len(head) < _LENGTH.size:
        return None
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload)
    (length,) = _LENGTH.unpack(head)
    if length > _LONGEST or len(descriptors) != 1:
        return None
    frame = connection.recv(length, socket.MSG_WAITALL)
    os.set_inheritable(descriptors[0], False)
    return msgspec.msgpack.decode(frame, type=Serve), descriptors[0]


def _serve(task: Serve, client: int, work: Work, fence: Fence) -> Served:
    stream = Stream(client, client, work.seconds)
    try:
        stop_when_idle(stream)
        return _open_and_serve(task, stream, work, fence)
    except (Gone, Stopping) as ended:
        return Served(task.token, str(ended) or "stopped")
    except Exception as fault:
        with contextlib.suppress(Gone):
            stream.write(error("internal error, try again later", "SYS/TEMP"))
        return Served(task.token, f"fault: {type(fault).__name__}: {fault}"[:300])


def _open_and_serve(task: Serve, stream: Stream, work: Work, fence: Fence) -> Served:
    """Raises Gone, and whatever is wrong with this program."""
    try:
        os.chdir(task.home)
    except OSError as failed:
        stream.write(error("your home directory cannot be reached", "SYS/TEMP"))
        return Served(task.token, f"home directory: {failed.strerror}")
    try:
        path = mailbox_path(task.mailbox or work.mailbox, task.user, work.default)
        fence.close(path)
        drop = open_mailbox(path, b".")
    except MailboxError as refused:
        stream.write(error(refused.text, refused.code))
        return Served(task.token, refused.text, last=True)
    server = Server(work.profile, task.secured)
    server.open(len(drop))
    server.receive(task.unread)
    session = Session(server, drop, stream)
    how = session.serve()
    return Served(task.token, how, session.retrieved, session.removed, session.sent)
