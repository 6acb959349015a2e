"""Processes that each serve one POP3 session at a time as one user, kept warm for that user's next one.

They are forked by the keeper, become the user for good before they hear of the client, and have nothing open but the
connection to the keeper and their client's. When the keeper dies they end as if they were told to stop.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import struct
from collections.abc import Callable

import msgspec

from ekiden.mailstore.location import mailbox_path, open_mailbox
from ekiden.mailstore.maildrop import MailboxError
from ekiden.runtime.crew import Who, close_all_but
from ekiden.runtime.link import Link
from ekiden.runtime.pop3_frames import Serve, Served
from ekiden.runtime.pop3_session import Session, Stopping, stop_when_idle
from ekiden.runtime.pop3_stream import Gone, Stream
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.server import Server
from ekiden.wire.pop3.session import error

IDLE_SECONDS = 30.0
"""How long a process without a session is kept."""

_SWEEP = 5.0
_LENGTH = struct.Struct(">I")
_LONGEST = 262_144
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Work(msgspec.Struct, frozen=True):
    """What all sessions have in common. ``default``: control/defaultdelivery."""

    profile: Profile
    seconds: int
    mailbox: bytes
    default: bytes


class _Worker:
    """One process. ``done``: what to call when its session has ended; None while it has none."""

    def __init__(self, who: tuple[int, int], pid: int, link: Link[Served], now: float) -> None:
        self.who = who
        self.pid = pid
        self.link = link
        self.idle_since = now
        self.done: Callable[[Served | None], None] | None = None


class Workers:
    """The processes of all users. ``most`` without a session are kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Work, most: int = 64) -> None:
        self._loop = loop
        self._work = work
        self._most = most
        self._idle: dict[tuple[int, int], list[_Worker]] = {}
        self._all: set[_Worker] = set()
        self._sweeper = loop.call_later(_SWEEP, self._sweep)
        self.emptied = asyncio.Event()
        self._decoder = msgspec.msgpack.Decoder(Served)

    @property
    def sessions(self) -> int:
        """How many are being served."""
        return sum(worker.done is not None for worker in self._all)

    def serve(self, uid: int, gid: int, task: Serve, descriptor: int, done: Callable[[Served | None], None]) -> None:
        """Have the user's process serve a client; ``done`` is told how it ended, None if the process died.

        ``descriptor`` is closed here. Raises OSError if no process can be made, and leaves the descriptor open.
        """
        waiting = self._idle.get((uid, gid))
        worker = waiting.pop() if waiting else self._hire((uid, gid))
        worker.done = done
        worker.link.send(task, descriptor)

    def stop(self) -> None:
        """End those without a session; ask the others to send their clients away at their next command."""
        self._sweeper.cancel()
        for worker in tuple(self._all):
            if worker.done is None:
                worker.link.close()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End them all now. Nothing that a mailbox has is lost by that."""
        for worker in tuple(self._all):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def _hire(self, who: tuple[int, int]) -> _Worker:
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if not pid:
            _begin(Who(*who), theirs, self._work)
        theirs.close()
        link: Link[Served]
        link = Link(
            self._loop,
            ours,
            self._decoder,
            lambda frame, _descriptor: self._ended(worker, frame),
            lambda _reason: self._lost(worker),
        )
        worker = _Worker(who, pid, link, self._loop.time())
        exited = os.pidfd_open(pid)
        self._loop.add_reader(exited, self._reap, exited, pid)
        self._all.add(worker)
        return worker

    def _ended(self, worker: _Worker, frame: Served) -> None:
        done, worker.done = worker.done, None
        if done is None:
            worker.link.close()
            return
        worker.idle_since = self._loop.time()
        self._idle.setdefault(worker.who, []).append(worker)
        if sum(map(len, self._idle.values())) > self._most:
            self._oldest().link.close()
        done(frame)
        self._tell()

    def _oldest(self) -> _Worker:
        return min((worker for idle in self._idle.values() for worker in idle), key=lambda worker: worker.idle_since)

    def _lost(self, worker: _Worker) -> None:
        self._all.discard(worker)
        idle = self._idle.get(worker.who, [])
        if worker in idle:
            idle.remove(worker)
        if not idle:
            self._idle.pop(worker.who, None)
        done, worker.done = worker.done, None
        if done is not None:
            done(None)
        self._tell()

    def _tell(self) -> None:
        if not self.sessions:
            self.emptied.set()

    def _reap(self, exited: int, pid: int) -> None:
        self._loop.remove_reader(exited)
        os.close(exited)
        os.waitpid(pid, 0)

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(_SWEEP, self._sweep)
        before = self._loop.time() - IDLE_SECONDS
        for worker in tuple(self._all):
            if worker.done is None and worker.idle_since < before:
                worker.link.close()


# What follows runs in a user's process.


def _begin(who: Who, connection: socket.socket, work: Work) -> None:
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
        who.become()
        # The kernel forgets this when a process changes its user.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        connection.setblocking(True)
        _serve_all(connection, work)
        status = 0
    except BaseException as failed:
        os.write(2, f"ekiden: pop3 uid {who.uid}: {type(failed).__name__}: {failed}\n".encode("utf-8", "replace"))
    finally:
        os._exit(status)


def _serve_all(connection: socket.socket, work: Work) -> None:
    """One session after the other, until the keeper closes the connection."""
    while True:
        received = _receive(connection)
        if received is None:
            return
        task, client = received
        try:
            served = _serve(task, client, work)
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


def _serve(task: Serve, client: int, work: Work) -> Served:
    stream = Stream(client, client, work.seconds)
    try:
        stop_when_idle(stream)
        return _open_and_serve(task, stream, work)
    except (Gone, Stopping) as ended:
        return Served(task.token, str(ended) or "stopped", 0, 0, 0)
    except Exception as fault:
        with contextlib.suppress(Gone):
            stream.write(error("internal error, try again later", "SYS/TEMP"))
        return Served(task.token, f"fault: {type(fault).__name__}: {fault}"[:300], 0, 0, 0)


def _open_and_serve(task: Serve, stream: Stream, work: Work) -> Served:
    """Raises Gone, and whatever is wrong with this program."""
    try:
        os.chdir(task.home)
    except OSError as failed:
        stream.write(error("your home directory cannot be reached", "SYS/TEMP"))
        return Served(task.token, f"home directory: {failed.strerror}", 0, 0, 0)
    try:
        drop = open_mailbox(mailbox_path(task.mailbox or work.mailbox, task.user, work.default), b".")
    except MailboxError as refused:
        stream.write(error(refused.text, refused.code))
        return Served(task.token, refused.text, 0, 0, 0)
    server = Server(work.profile, task.secured)
    server.open(len(drop))
    server.receive(task.unread)
    session = Session(server, drop, stream)
    how = session.serve()
    return Served(task.token, how, session.retrieved, session.removed, session.sent)
