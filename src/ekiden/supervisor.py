"""The supervisor: binds what needs root, forks the roles, restarts them, and parses nothing from outside.

It imports everything the roles need before it forks them, so that they share memory and start in milliseconds.
Signals: TERM ends in order (door first, queue when its deliveries have finished, log last), HUP reads the settings
anew, ALRM runs the queue now.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ekiden.roles import local, log, pop3d, queue, remote, smtpd
from ekiden.runtime.administration import Configure
from ekiden.runtime.binding import (
    CannotListen,
    listen,
    notify_systemd,
    passed_sockets,
    rebind,
    take_passed,
    unix_socket,
)
from ekiden.runtime.census import Census, Table
from ekiden.runtime.certificate import CertificateFiles, channel
from ekiden.runtime.control import request
from ekiden.runtime.isolation import begin, complete, shortcomings
from ekiden.runtime.log import Log
from ekiden.runtime.privilege import (
    Identities,
    Identity,
    act_as_owner,
    be_root_again,
    become,
    identities,
    own,
    own_tree,
)
from ekiden.runtime.role import SIGNALS, Context, run
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError
from ekiden.settings.schema import Listener, Settings

_SOCKETS = {"intake": "smtpd", "remote": "remote", "local": "local", "inject": None, "control": None}
"""The queue role's sockets and the role that each is for."""

_DOORS = frozenset({"smtpd", "pop3d"})
"""Roles that hold connections of clients from outside."""

_GENERATIONS = 2
"""Reloads that a session may outlive."""

_LOOK_SECONDS = 1.0
"""How often the certificate's files are looked at."""

_SLOWEST_RESTART = 5.0
_SETTLED = 10.0
"""Seconds after which a role that died counts as having worked."""


LATE = (
    "dns._asyncio_backend",
    "dns.rdtypes.ANY.CNAME",
    "dns.rdtypes.ANY.DNAME",
    "dns.rdtypes.ANY.MX",
    "dns.rdtypes.ANY.NS",
    "dns.rdtypes.ANY.OPT",
    "dns.rdtypes.ANY.PTR",
    "dns.rdtypes.ANY.SOA",
    "dns.rdtypes.ANY.TXT",
    "dns.rdtypes.IN.A",
    "dns.rdtypes.IN.AAAA",
    "ekiden.delivery.remote_convert",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.punycode",
    "ipaddress",
    "traceback",
)
"""What libraries import when they first need it. A role may not be able to read the interpreter's files by then."""


class CannotStart(Exception):
    """Why ekiden does not start; the text is for the administrator."""


@dataclass
class Child:
    """A role's process. ``draining``: replaced after a reload, finishing what it has at hand."""

    role: str
    index: int
    pid: int
    since: float
    draining: bool = False
    generation: int = 1
    table: Table | None = None
    column: int = -1
    """Where it counts its clients (``runtime.census``), if it does."""
    channel: socket.socket | None = None
    """Where it is sent the certificate (``runtime.certificate``)."""


@dataclass
class Slot:
    """A place for one process of a role, and when it may be filled again."""

    role: str
    index: int
    failures: int = 0
    not_before: float = 0.0


@dataclass
class Supervisor:
    """One running home.

    ``announce`` is called once when connections are accepted; ``private`` are descriptors that no role may inherit.
    """

    home: Path
    announce: Callable[[], None]
    private: tuple[int, ...] = ()
    settings: Settings = field(init=False)
    children: dict[int, Child] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    generation: int = 1
    refusals: int = 0
    refusal: str = ""
    """How many reloads have been refused, and why the last one was."""
    stopping: bool = False
    _next_look: float = 0.0
    _problem: str = ""

    def serve(self) -> None:
        """Run until TERM; raises ``CannotStart``."""
        for module in LATE:
            importlib.import_module(module)
        self.identities: Identities = identities(self.home)
        # Of a home's files only its owner's rights count: as root we could be led to others by links in it.
        act_as_owner(self.home)
        try:
            self.settings = read(self.home / "control")
        except SettingsError as error:
            raise CannotStart(str(error)) from None
        self._lock()
        self._open_log()
        self._prepare_directories()
        self._bind()
        self._certificate = self._read_certificate()
        self._table = Table(self._columns())
        self._life, self._alive = os.pipe2(os.O_CLOEXEC)
        self._hear_signals()
        gc.collect()
        gc.freeze()
        self._spawn(Slot("log", 0))
        self.log = self._new_log("supervisor")
        self._tell_of_users()
        self._tell_of_certificate()
        self._tell_of_isolation()
        self._start_roles()
        self.announce()
        # Whoever was told has closed its descriptor, and another may bear its number by the next fork.
        self.private = ()
        notify_systemd("READY=1")
        while not self.stopping:
            self._wait(self._until_restart())
        notify_systemd("STOPPING=1")
        self._stop()

    # What must be there before the first fork

    def _lock(self) -> None:
        for name in ("run", "log", "queue", "control"):
            (self.home / name).mkdir(mode=0o755, exist_ok=True)
        self._held = os.open(self.home / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"{self.home}: ekiden is already running here") from None
        # Whoever can open it could hold the lock, and keep us from ever starting again.
        os.fchmod(self._held, 0o600)
        os.ftruncate(self._held, 0)
        os.pwrite(self._held, b"%d\n" % os.getpid(), 0)

    def _open_log(self) -> None:
        # Packets, because lines must not be torn, and connected, because the log ends when nobody can write to it.
        self._log_read, self._log_write = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Whoever logs must not hang because nobody reads.
        self._log_write.setblocking(False)
        self._log_write.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)

    def _hear_signals(self) -> None:
        self._wakeup, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def _prepare_directories(self) -> None:
        roles = self.identities.roles
        own(self.home / "run", None, 0o755)
        (self.home / "queue").chmod(0o700)
        own_tree(self.home / "queue", roles["queue"])
        own_tree(self.home / "log", roles["log"])

    def _bind(self) -> None:
        passed = passed_sockets()
        self._listeners: list[tuple[Listener, socket.socket]] = []
        try:
            for listener in self.settings.listen:
                bound = take_passed(listener, passed) or listen(listener, self.settings.listenbacklog)
                self._listeners.append((listener, bound))
        except CannotListen as error:
            raise CannotStart(str(error)) from None
        self._sockets = {}
        for name, role in _SOCKETS.items():
            path = self.home / "run" / name
            self._sockets[name] = bound = unix_socket(path)
            own(path, self.identities.roles[role] if role else None, 0o666 if name == "inject" else 0o600)
            bound.listen(1024)
        self._run = os.open(self.home / "run", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    # Roles

    def _wanted(self) -> list[Slot]:
        cpus = len(os.sched_getaffinity(0))
        doors = self.settings.smtpdprocesses or max(1, cpus // 2)
        outs = self.settings.remoteprocesses or max(1, cpus // 4)
        slots = [Slot("remote", index) for index in range(outs)] + [Slot("local", 0)]
        if self.settings.listen:
            slots += [Slot("smtpd", index) for index in range(doors)]
        if any(listener.service in pop3d.SERVICES for listener in self.settings.listen):
            logins = self.settings.pop3dprocesses or max(1, cpus // 2)
            slots += [Slot("pop3d", index) for index in range(logins)]
        return slots

    def _start_roles(self) -> None:
        self.slots = [Slot("log", 0), Slot("queue", 0), *self._wanted()]
        ready, tell = os.pipe2(os.O_CLOEXEC)
        self._ready = tell
        self._spawn(self.slots[1])
        os.close(tell)
        # The queue recovers before anyone is let in, and says so by a byte; its death closes the pipe.
        if not os.read(ready, 1):
            self._stop()
            raise CannotStart(f"the queue cannot be opened; see {self.home / 'log'}")
        os.close(ready)
        self._ready = -1
        for slot in self.slots[2:]:
            self._spawn(slot)
        self._publish()

    def _columns(self) -> int:
        """How many processes may count clients at the same time: of this generation, and of those it replaced."""
        return (_GENERATIONS + 1) * max(1, sum(slot.role in _DOORS for slot in self._wanted()))

    def _read_certificate(self) -> CertificateFiles:
        return CertificateFiles(self.settings.servercert, self.settings.serverkey)

    def _new_log(self, role: str) -> Log:
        return Log(role, self._log_write, self.settings.logformat)

    def _spawn(self, slot: Slot) -> None:
        child = Child(slot.role, slot.index, 0, time.time(), generation=self.generation)
        theirs = self._equip(child) if slot.role in _DOORS else None
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        child.pid = os.fork()
        if child.pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self.children[child.pid] = child
            if theirs is not None:
                theirs.close()
            return
        status = 1
        try:
            for other in (*self.children.values(), child):
                if other.channel is not None:
                    other.channel.close()
            self._become_role(slot, Census(self._table, child.column) if child.column >= 0 else None, theirs)
            status = 0
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            _last_words(self._log_write, slot.role, error)
        finally:
            os._exit(status)

    def _equip(self, child: Child) -> socket.socket:
        """Before the fork: where a process that serves clients counts them, and where it gets the certificate."""
        if self._table.full:
            # More processes than before a reload; those that are there count on in the table that they have.
            self._table = Table(self._columns())
        child.column, child.table = self._table.column(), self._table
        child.channel, theirs = channel()
        if self._certificate.pem:
            child.channel.send(self._certificate.pem)
        return theirs

    def _become_role(self, slot: Slot, census: Census | None, certificate: socket.socket | None) -> None:
        """In the child: close what is not this role's, give up privileges, work."""
        self._stop_supervising()
        _set_process_name(slot.role)
        identity = self.identities.roles[slot.role]
        if slot.role == "log":
            self._serve_log(identity)
            return
        self._log_read.close()
        context = Context(self.home, self.settings, self._new_log(slot.role), run=self._run, life=self._life)
        if census is not None:
            context.census, context.certificate = census, certificate
        if slot.role in ("queue", "remote", *_DOORS):
            _allow_descriptors()
        if slot.role in _DOORS:
            context.listeners = self._listeners
        else:
            for _listener, listening in self._listeners:
                listening.close()
        if slot.role in ("remote", *_DOORS):
            self._make_reachable(context)
        if slot.role == "queue":
            self._enter_queue(context, identity)
        else:
            for listening in self._sockets.values():
                listening.close()
            if slot.role == "pop3d":
                pop3d.serve(context, identity)
                return
            become(identity)
        main = {"queue": queue, "remote": remote, "local": local, "smtpd": smtpd}[slot.role].main
        # Local's children run users' programs, which may need what a fence would take from them.
        run(context, main, isolate=slot.role != "local")

    def _stop_supervising(self) -> None:
        """In the child: let go of what only the supervisor may have."""
        be_root_again()
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)
        # The lock must not outlive the supervisor, nor its end of the pipe whose end tells its death.
        for descriptor in (self._held, self._alive, self._wakeup, *self.private):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _enter_queue(self, context: Context, identity: Identity | None) -> None:
        """In the child: be the queue's user, who sees nothing but the queue's directory if that can be."""
        os.umask(0o077)
        context.sockets = self._sockets
        context.ready = self._tell_ready
        changed_root = identity is not None and os.geteuid() == 0
        become(identity, self.home / "queue" if changed_root else None)
        context.queue = Path("/") if changed_root else self.home / "queue"

    def _make_reachable(self, context: Context) -> None:
        """Let a role without privileges find its files even where it may not search the directories above."""
        descriptor = os.open(self.home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        context.home = Path(f"/proc/self/fd/{descriptor}")
        paths = {
            name: value.replace(str(self.home), str(context.home), 1)
            for name in ("servercert", "serverkey", "clientcert", "clientkey", "morercpthosts_cdb")
            if (value := getattr(self.settings, name)).startswith(str(self.home))
        }
        context.settings = msgspec.structs.replace(self.settings, **paths)

    def _tell_ready(self) -> None:
        if self._ready >= 0:
            os.write(self._ready, b"1")
            os.close(self._ready)

    def _serve_log(self, identity: object) -> None:
        for listening in (*(bound for _, bound in self._listeners), *self._sockets.values()):
            listening.close()
        self._log_write.close()
        os.chdir(self.home / "log")
        become(self.identities.roles["log"])
        if self.settings.isolation == "on":
            self._isolate_log()
        log.serve(self._log_read, self.settings, Path("."), self.settings.me.decode("ascii", "replace"))

    def _isolate_log(self) -> None:
        to_daemon = self.settings.logtarget in ("syslog", "journald")
        zone = [Path("/etc/localtime"), Path("/usr/share/zoneinfo")]
        try:
            begin()
            complete("syslog" if to_daemon else "log", reads=zone, writes=[Path(".")])
        except OSError as error:
            os.write(2, f"ekiden: log: process {os.getpid()} is not isolated: {error.strerror}\n".encode())

    # Events

    def _until_restart(self) -> float | None:
        alive = {(child.role, child.index) for child in self.children.values() if not child.draining}
        missing = [slot for slot in self.slots if (slot.role, slot.index) not in alive]
        until = max(0.0, min(slot.not_before for slot in missing) - time.time()) if missing else None
        if self._certificate.present:
            return _LOOK_SECONDS if until is None else min(until, _LOOK_SECONDS)
        return until

    def _wait(self, seconds: float | None) -> None:
        select.select([self._wakeup], [], [], seconds)
        received = b""
        with contextlib.suppress(BlockingIOError):
            received = os.read(self._wakeup, 4096)
        if (signal.SIGCHLD in received or not received) and self._reap():
            self._publish()
        if signal.SIGTERM in received or signal.SIGINT in received:
            self.stopping = True
            return
        if signal.SIGHUP in received:
            self._reload()
        self._look_at_certificate()
        if signal.SIGALRM in received:
            self._signal("queue", signal.SIGALRM)
        self._refill()

    def _reap(self) -> bool:
        """Take note of children that have ended; whether there were any."""
        found = False
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            found = True
            child = self.children.pop(pid, None)
            if child is not None:
                _release(child)
            # As process 1 the supervisor inherits the orphans of users' programs too.
            if child is None or child.draining or self.stopping:
                continue
            how = f"signal {-code}" if (code := os.waitstatus_to_exitcode(status)) < 0 else f"exit code {code}"
            self._note_death(child, how)
        return found

    def _note_death(self, child: Child, how: str) -> None:
        for slot in self.slots:
            if (slot.role, slot.index) == (child.role, child.index):
                slot.failures = 0 if time.time() - child.since > _SETTLED else slot.failures + 1
                delay = min(_SLOWEST_RESTART, 0.05 * 2**slot.failures)
                slot.not_before = time.time() + delay
        if child.role != "log":
            self.log.alert(f"{child.role} process {child.pid} ended ({how}), starting another")

    def _refill(self) -> None:
        alive = {(child.role, child.index) for child in self.children.values() if not child.draining}
        started = False
        for slot in self.slots:
            if (slot.role, slot.index) not in alive and slot.not_before <= time.time():
                self._spawn(slot)
                started = True
        if started:
            self._publish()

    def _tell_of_users(self) -> None:
        if self.identities.missing:
            users = " ".join(self.identities.missing)
            self.log.warning(
                f"no such users: {users}: their roles run as nobody; remedy: ekiden install --create-users"
            )

    def _tell_of_certificate(self) -> None:
        self._problem = self._certificate.problem
        if self._problem:
            self.log.alert(f"TLS is not offered: {self._problem}")

    def _tell_of_isolation(self) -> None:
        if self.settings.isolation == "off":
            self.log.warning("isolation is switched off: the roles are kept apart by their users alone")
            return
        for shortcoming in shortcomings():
            self.log.warning(f"isolation is incomplete: {shortcoming}")

    def _look_at_certificate(self) -> None:
        """Send the certificate to whoever shows it when its files have changed."""
        if not self._certificate.present or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        if self._certificate.changed():
            for child in self.children.values():
                if child.channel is not None:
                    with contextlib.suppress(OSError):
                        child.channel.send(self._certificate.pem)
        elif self._certificate.problem != self._problem:
            self.log.alert(f"TLS goes on with the certificate that it had: {self._certificate.problem}")
        self._problem = self._certificate.problem

    def _signal(self, role: str, number: signal.Signals) -> None:
        for child in self.children.values():
            if child.role == role and not child.draining:
                os.kill(child.pid, number)

    def _publish(self) -> None:
        """Write ``run/roles``: who runs, for ``ekiden status``."""
        rows = [
            {name: getattr(child, name) for name in ("role", "index", "pid", "since", "draining", "generation")}
            for child in self.children.values()
        ]
        state = {"supervisor": os.getpid(), "generation": self.generation, "roles": rows}
        state |= {"refusals": self.refusals, "refusal": self.refusal}
        temporary = self.home / "run" / "roles.new"
        temporary.write_text(json.dumps(state) + "\n")
        temporary.rename(self.home / "run" / "roles")

    # Reload

    def _reload(self) -> None:
        """Take over new settings whole, or keep the old ones and say why."""
        try:
            settings = read(self.home / "control")
            listeners = rebind(self._listeners, settings)
        except (SettingsError, CannotListen) as error:
            self.log.alert(f"settings not changed: {error}")
            self.refusals += 1
            self.refusal = str(error)
            self._publish()
            return
        self.settings, self._listeners = settings, listeners
        self._certificate = self._read_certificate()
        self.generation += 1
        for child in list(self.children.values()):
            if child.role in ("remote", "local", *_DOORS):
                child.draining = True
        self.slots = [slot for slot in self.slots if slot.role in ("log", "queue")] + self._wanted()
        self._configure_queue()
        self._refill()
        for child in self.children.values():
            if child.draining:
                # Sessions go on with the settings that they began with, but not for any number of reloads.
                old = self.generation - child.generation > _GENERATIONS
                os.kill(child.pid, signal.SIGUSR1 if child.role in _DOORS and not old else signal.SIGTERM)
        self.log = self._new_log("supervisor")
        self._tell_of_certificate()
        self.log.event("reloaded", "status: settings reloaded", generation=self.generation)
        self._publish()

    def _configure_queue(self) -> None:
        try:
            request(self.home, Configure(self.settings))
        except (OSError, msgspec.DecodeError) as error:
            self.log.warning(f"queue process did not take the new settings, restarting it: {error}")
            self._signal("queue", signal.SIGTERM)

    # End

    def _stop(self) -> None:
        """The door first, the queue when its deliveries have finished, then the deliverers, the log last."""
        self.stopping = True
        for _listener, bound in self._listeners:
            bound.close()
        for roles in (tuple(_DOORS), ("queue",), ("remote", "local"), ("log",)):
            self._end(roles)
        notify_systemd("STOPPED=1")
        for name in (*_SOCKETS, "roles"):
            (self.home / "run" / name).unlink(missing_ok=True)

    def _end(self, roles: tuple[str, ...]) -> None:
        deadline = time.monotonic() + self.settings.shutdownseconds + 5
        for child in self.children.values():
            if child.role in roles:
                os.kill(child.pid, signal.SIGTERM)
        while any(child.role in roles for child in self.children.values()):
            if time.monotonic() > deadline:
                for child in self.children.values():
                    if child.role in roles:
                        os.kill(child.pid, signal.SIGKILL)
            self._reap()
            time.sleep(0.005)


def _release(child: Child) -> None:
    """Nothing is kept for a process that has ended, and its clients are gone."""
    if child.channel is not None:
        child.channel.close()
    if child.table is not None:
        child.table.clear(child.column)


def _allow_descriptors() -> None:
    """As many open files as may be: each client is one. Programs that users run keep the lower limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _set_process_name(role: str) -> None:
    """What ps and top show as the command's name."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(f"ekiden-{role}")


def _last_words(sink: socket.socket, role: str, error: BaseException) -> None:
    """Log why a role ends; its own log may be in pieces."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    with contextlib.suppress(OSError):
        Log(role, sink).alert(f"{role}: {type(error).__name__}: {error} ({where})")
