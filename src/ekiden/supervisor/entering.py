"""The child's side of a fork: from the supervisor's process to a role's.

Descriptors that are not the role's are closed, privileges are given up for good, and the role works.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ekiden.roles import keeper, local, log, pop3d, queue, remote, smtpd
from ekiden.runtime.census import Census
from ekiden.runtime.fences.isolation import ZONE, begin, complete
from ekiden.runtime.log import Log
from ekiden.runtime.privilege import Identity, be_root_again, become
from ekiden.runtime.role import SIGNALS, Context, run
from ekiden.settings.schema import Settings
from ekiden.supervisor.premises import Premises

DOORS = frozenset({"smtpd", "pop3d"})
"""Roles that hold connections of clients from outside."""

MEANT_FOR_OTHERS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that other daemons take for a wish; their default effect would end everything."""


class Entrance:
    """Into one role. ``private``: descriptors that only the supervisor may have; ``ready``: where the queue tells by
    a byte that it has recovered, or -1; ``roster``: where it is told who the others are.
    """

    def __init__(
        self,
        premises: Premises,
        settings: Settings,
        private: tuple[int, ...],
        ready: int,
        roster: socket.socket | None,
    ) -> None:
        self._premises = premises
        self._home = premises.home
        self._settings = settings
        self._private = private
        self._ready = ready
        self._roster = roster

    def enter(self, role: str, census: Census | None, certificate: socket.socket | None) -> None:
        """Close what is not this role's, give up privileges, work; returns when the role has ended."""
        self._stop_supervising()
        _set_process_name(role)
        identity = self._premises.identities.roles[role]
        if role == "log":
            self._serve_log(identity)
            return
        context = self._equip(role)
        if census is not None:
            context.census, context.certificate = census, certificate
        if role == "pop3d":
            pop3d.serve(context, identity)
            return
        if role == "queue":
            self._become_queue(context, identity)
        else:
            become(identity)
        if role in ("local", "keeper"):
            {"local": local, "keeper": keeper}[role].serve(context, self._premises.identities.finder)
            return
        mains = {"queue": queue, "remote": remote, "smtpd": smtpd}
        run(context, mains[role].main, isolate=True)

    def _equip(self, role: str) -> Context:
        """What the role is given; what is not its own is closed."""
        self._premises.log_read.close()
        log_of_role = Log(role, self._premises.log_write, self._settings.logformat)
        context = Context(self._home, self._settings, log_of_role, run=self._premises.run, life=self._premises.life)
        context.sockets = self._sockets_of(role)
        if role in ("queue", "remote", *DOORS):
            _allow_descriptors()
        if role in DOORS:
            context.listeners = self._premises.listeners
        else:
            _close(listening for _listener, listening in self._premises.listeners)
        if role in ("remote", "keeper", *DOORS):
            self._make_reachable(context)
        return context

    def _sockets_of(self, role: str) -> dict[str, socket.socket]:
        """Those of run/ that the role listens at; the others are closed."""
        sockets = self._premises.sockets
        own = {name: bound for name, bound in sockets.items() if role == ("keeper" if name == "keeper" else "queue")}
        _close(bound for name, bound in sockets.items() if name not in own)
        return own

    def _stop_supervising(self) -> None:
        """Let go of what only the supervisor may have."""
        be_root_again()
        # Whoever could write there could have the supervisor stop.
        os.close(signal.set_wakeup_fd(-1))
        for number in (*SIGNALS, *MEANT_FOR_OTHERS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)
        # The lock must not outlive the supervisor, nor its end of the pipe whose end tells its death.
        for descriptor in (self._premises.held, self._premises.alive, *self._private):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _become_queue(self, context: Context, identity: Identity | None) -> None:
        """Be the queue's user, who sees nothing but the queue's directory if that can be."""
        os.umask(0o077)
        reader = self._premises.identities.reader
        context.reader = reader.uid if reader else -1
        context.roster = self._roster
        context.ready = self._tell_ready
        changed_root = identity is not None and os.geteuid() == 0
        become(identity, self._home / "queue" if changed_root else None)
        context.queue = Path("/") if changed_root else self._home / "queue"
        # It connects nowhere, and a directory that lies beyond the root leads everywhere.
        os.close(self._premises.run)
        context.run = -1

    def _make_reachable(self, context: Context) -> None:
        """Let a role without privileges find its files even where it may not search the directories above."""
        control = str(self._home / "control")
        context.home, context.control = _way(self._home), _way(control)
        paths = {
            name: value.replace(control, str(context.control), 1)
            for name in ("servercert", "serverkey", "clientcert", "clientkey", "morercpthosts_cdb", "remoteauth")
            if (value := getattr(self._settings, name)).startswith(control)
        }
        context.settings = msgspec.structs.replace(self._settings, **paths)
        context.log.translate(str(context.home), str(self._home))
        context.log.translate(str(context.control), control)

    def _tell_ready(self) -> None:
        if self._ready >= 0:
            os.write(self._ready, b"1")
            os.close(self._ready)

    def _serve_log(self, identity: Identity | None) -> None:
        _close(bound for _listener, bound in self._premises.listeners)
        _close(self._premises.sockets.values())
        self._premises.log_write.close()
        os.chdir(self._home / "log")
        os.close(self._premises.run)
        become(identity)
        if self._settings.isolation == "on":
            self._isolate_log()
        log.serve(self._premises.log_read, self._settings, Path("."), self._settings.me.decode("ascii", "replace"))

    def _isolate_log(self) -> None:
        to_daemon = self._settings.logtarget in ("syslog", "journald")
        try:
            begin()
            complete("syslog" if to_daemon else "log", reads=ZONE, writes=[Path(".")])
        except OSError as error:
            os.write(2, f"ekiden: log: process {os.getpid()} is not isolated: {error.strerror}\n".encode())


def _close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _way(directory: Path | str) -> Path:
    """A path to a directory that begins in it, so that nothing above need be searched."""
    return Path(f"/proc/self/fd/{os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}")


def _allow_descriptors() -> None:
    """As many open files as may be: each client is one. Programs that users run keep the lower limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _set_process_name(role: str) -> None:
    """What ps and top show as the command's name."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(f"ekiden-{role}")
