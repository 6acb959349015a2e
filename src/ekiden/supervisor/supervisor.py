"""The supervisor: binds what needs root, forks the roles, restarts them, and parses nothing from outside.

It imports everything the roles need before it forks them, so that they share memory and start in milliseconds.
Signals: TERM ends in order (door first, queue when its deliveries have finished, log last), HUP reads the settings
anew, ALRM runs the queue now.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import msgspec

from ekiden.policy.tcprules import doubts, require_sound
from ekiden.roles import log
from ekiden.roles.queue import DAMAGED
from ekiden.runtime import roster
from ekiden.runtime.administration import Configure
from ekiden.runtime.binding import CannotListen, notify_systemd, rebind
from ekiden.runtime.census import Census, Table
from ekiden.runtime.certificate import channel
from ekiden.runtime.control import request_of
from ekiden.runtime.fences.isolation import shortcomings
from ekiden.runtime.log import Log
from ekiden.runtime.preloading import preload
from ekiden.runtime.privilege import act_as_owner, identities
from ekiden.runtime.role import SIGNALS
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError
from ekiden.settings.schema import Settings
from ekiden.supervisor.children import Child, Slot, release, wait_for_closed_doors, wanted
from ekiden.supervisor.entering import DOORS, MEANT_FOR_OTHERS, Entrance
from ekiden.supervisor.premises import SOCKETS, CannotStart, QueueDamaged, prepare
from ekiden.supervisor.roles_file import RolesFile
from ekiden.supervisor.showing import LOOK_SECONDS, Shown

_GENERATIONS = 2
"""Reloads that a session may outlive."""

_SLOWEST_RESTART = 5.0
_SUSPICION = 3600.0
"""Seconds within which a queue that has found its store damaged, and finds it so again, is believed."""

_DOOR_SECONDS = 5.0
"""How long a reload waits for the processes that it replaces to close their doors."""

_MOMENT = 5
"""Seconds that the queue has for its deliveries when sessions have used up the time for a stop, and that it may be
late before it is killed: it may wait for the disk."""

_LATE = 2
"""Seconds that the other roles may be late: nobody waits for what they have at hand then."""

_SETTLED = 10.0
"""Seconds after which a role that died counts as having worked."""


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
    damaged: bool = False
    """Whether the queue role has found its store damaged."""
    _suspected: float = -math.inf
    _ready: int = -1
    """Where the queue tells that it has recovered, while that is waited for."""
    _way: Path = field(init=False)
    """To the home, for whom this process acts as."""
    _roster: socket.socket | None = None
    """Where the queue is told who the others are."""

    def serve(self) -> None:
        """Run until TERM; raises ``CannotStart``."""
        preload()
        identities_ = identities(self.home)
        # Of a home's files only its owner's rights count: as root we could be led to others by links in it.
        self._way = act_as_owner(self.home)
        try:
            self.settings = read(self._way / "control")
        except SettingsError as error:
            raise CannotStart(str(error)) from None
        self._premises = prepare(self._way, self.settings, identities_)
        self._roles_file = RolesFile(self._way)
        self._shown = Shown(self.settings)
        self._table = Table(self._columns())
        self._hear_signals()
        gc.collect()
        gc.freeze()
        self._spawn(Slot("log", 0))
        self.log = self._new_log("supervisor")
        self._tell_of_users()
        self._shown.tell(self.log)
        self._tell_of_isolation()
        self._tell_of_rules()
        self._start_roles()
        self.announce()
        # Whoever was told has closed its descriptor, and another may bear its number by the next fork.
        self.private = ()
        notify_systemd("READY=1")
        while not self.stopping:
            self._wait(self._until_restart())
        notify_systemd("STOPPING=1")
        self._stop()
        if self.damaged:
            raise QueueDamaged(self._damage)

    def _hear_signals(self) -> None:
        self._wakeup, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        for number in MEANT_FOR_OTHERS:
            signal.signal(number, signal.SIG_IGN)

    # Roles

    def _start_roles(self) -> None:
        self.slots = [Slot("log", 0), Slot("queue", 0), *wanted(self.settings)]
        ready, tell = os.pipe2(os.O_CLOEXEC)
        self._ready = tell
        self._spawn(self.slots[1])
        os.close(tell)
        # The queue recovers before anyone is let in, and says so by a byte; its death closes the pipe.
        if not os.read(ready, 1):
            self._stop()
            if self.damaged:
                raise QueueDamaged(self._damage)
            raise CannotStart(f"the queue cannot be opened; see {self.home / 'log'}")
        os.close(ready)
        self._ready = -1
        for slot in self.slots[2:]:
            self._spawn(slot)
        self._publish(starting=True)

    @property
    def _damage(self) -> str:
        return f"the queue is damaged, see {self.home / 'log'}; remedy: ekiden --home {self.home} queue recover"

    def _columns(self) -> int:
        """How many processes may count clients at the same time: of this generation, and of those it replaced."""
        return (_GENERATIONS + 1) * max(1, sum(slot.role in DOORS for slot in wanted(self.settings)))

    def _new_log(self, role: str) -> Log:
        return Log(role, self._premises.log_write, self.settings.logformat)

    def _spawn(self, slot: Slot) -> None:
        child = Child(slot.role, slot.index, 0, time.time(), time.monotonic(), generation=self.generation)
        with contextlib.ExitStack() as closing:
            wait, go = os.pipe2(os.O_CLOEXEC)
            closing.callback(os.close, wait)
            closing.callback(os.close, go)
            theirs = closing.enter_context(self._equip(child)) if slot.role in DOORS else None
            told = closing.enter_context(self._open_roster()) if slot.role == "queue" else None
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                child.pid = os.fork()
            except OSError:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
                release(child)
                raise
            if not child.pid:
                self._work(child, go, wait, theirs, told)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self.children[child.pid] = child
            # The child waits for this: nobody connects to the queue before it knows who that is.
            self._tell_roster()

    def _work(
        self, child: Child, go: int, wait: int, theirs: socket.socket | None, told: socket.socket | None
    ) -> NoReturn:
        """In the child: let go of what is other roles', be the role, and end."""
        status = 1
        try:
            os.close(go)
            os.read(wait, 1)
            os.close(wait)
            for other in (*self.children.values(), child):
                if other.channel is not None:
                    other.channel.close()
            if self._roster is not None:
                self._roster.close()
            census = Census(self._table, child.column) if child.column >= 0 else None
            private = (self._wakeup, *self.private)
            Entrance(self._premises, self.settings, private, self._ready, told).enter(child.role, census, theirs)
            status = 0
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            _last_words(self._premises.log_write, child.role, error)
        finally:
            os._exit(status)

    def _open_roster(self) -> socket.socket:
        """Before the queue's fork: where it is told who the others are; the queue before it is gone."""
        if self._roster is not None:
            self._roster.close()
        self._roster, theirs = roster.channel()
        return theirs

    def _tell_roster(self) -> None:
        if self._roster is not None:
            roster.tell(self._roster, {child.pid: child.role for child in self.children.values()})

    def _equip(self, child: Child) -> socket.socket:
        """Before the fork: where a process that serves clients counts them, and where it gets the certificate."""
        if self._table.full:
            # More processes than before a reload; those that are there count on in the table that they have.
            self._table = Table(self._columns())
        child.column, child.table = self._table.column(), self._table
        child.channel, theirs = channel()
        if self._shown.pem:
            child.channel.send(self._shown.pem)
        return theirs

    # Events

    def _until_restart(self) -> float | None:
        alive = {(child.role, child.index) for child in self.children.values() if not child.draining}
        missing = [slot for slot in self.slots if (slot.role, slot.index) not in alive]
        until = max(0.0, min(slot.not_before for slot in missing) - time.monotonic()) if missing else None
        if self._roles_file.stale:
            until = _SLOWEST_RESTART if until is None else min(until, _SLOWEST_RESTART)
        if self._shown.present:
            return LOOK_SECONDS if until is None else min(until, LOOK_SECONDS)
        return until

    def _wait(self, seconds: float | None) -> None:
        select.select([self._wakeup], [], [], seconds)
        received = b""
        with contextlib.suppress(BlockingIOError):
            received = os.read(self._wakeup, 4096)
        if ((signal.SIGCHLD in received or not received) and self._reap()) or self._roles_file.stale:
            self._publish()
        if signal.SIGTERM in received or signal.SIGINT in received:
            self.stopping = True
        if self.stopping:
            return
        if signal.SIGHUP in received:
            self._reload()
        self._shown.look(self.children.values(), self.log)
        if signal.SIGALRM in received:
            self._signal("queue", signal.SIGALRM)
        if self._refill():
            self._publish()

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
                release(child)
                if child.role == "queue" and os.waitstatus_to_exitcode(status) == DAMAGED:
                    self._note_damage()
            # As process 1 the supervisor inherits the orphans of users' programs too.
            if child is None or child.draining or self.stopping:
                continue
            if self.damaged:
                self.log.alert(f"ekiden ends: {self._damage}")
                self.stopping = True
                continue
            how = f"signal {-code}" if (code := os.waitstatus_to_exitcode(status)) < 0 else f"exit code {code}"
            self._note_death(child, how)
        if found:
            self._tell_roster()
        return found

    def _note_damage(self) -> None:
        """Twice in an hour, or at once: a read that fails now and then looks to SQLite like damage, too."""
        now = time.monotonic()
        self.damaged = self.damaged or self.stopping or now - self._suspected < _SUSPICION
        self._suspected = now

    def _note_death(self, child: Child, how: str) -> None:
        for slot in self.slots:
            if (slot.role, slot.index) == (child.role, child.index):
                slot.failures = 0 if time.monotonic() - child.started > _SETTLED else slot.failures + 1
                delay = min(_SLOWEST_RESTART, 0.05 * 2**slot.failures)
                slot.not_before = time.monotonic() + delay
        if child.role != "log":
            self.log.alert(f"{child.role} process {child.pid} ended ({how}), starting another")

    def _refill(self) -> bool:
        """Start what is missing; whether anything was."""
        alive = {(child.role, child.index) for child in self.children.values() if not child.draining}
        started = False
        for slot in self.slots:
            if (slot.role, slot.index) not in alive and slot.not_before <= time.monotonic():
                try:
                    self._spawn(slot)
                except OSError as error:
                    self.log.alert(f"unable to start a {slot.role} process: {error.strerror}; trying again")
                    slot.not_before = time.monotonic() + _SLOWEST_RESTART
                started = True
        return started

    def _tell_of_users(self) -> None:
        if self._premises.identities.missing:
            users = " ".join(self._premises.identities.missing)
            self.log.warning(
                f"no such users: {users}: their roles run as nobody; remedy: ekiden install --create-users"
            )

    def _tell_of_isolation(self) -> None:
        if self.settings.isolation == "off":
            self.log.warning("isolation is switched off: the roles are kept apart by their users alone")
            return
        for shortcoming in shortcomings():
            self.log.warning(f"isolation is incomplete: {shortcoming}")

    def _tell_of_rules(self) -> None:
        """A rule that keeps nobody away is known at the start, and not when somebody has come in."""
        for doubt in doubts(self._way / "control") if self.settings.listen else ():
            self.log.warning(doubt)

    def _signal(self, role: str, number: signal.Signals) -> None:
        for child in self.children.values():
            if child.role == role and not child.draining:
                os.kill(child.pid, number)

    def _publish(self, *, starting: bool = False) -> None:
        state = {"generation": self.generation, "refusals": self.refusals, "refusal": self.refusal}
        self._roles_file.write(self.children.values(), state, self.log, starting=starting)

    # Reload

    def _reload(self) -> None:
        """Take over new settings whole, or keep the old ones and say why."""
        try:
            settings = read(self._way / "control")
            # Those at work go on with the rules from before a mistake; those that a reload makes would not know them.
            require_sound(self._way / "control")
            listeners = rebind(self._premises.listeners, settings)
        except (SettingsError, CannotListen) as error:
            self.log.alert(f"settings not changed: {error}")
            self.refusals += 1
            self.refusal = str(error)
            self._publish()
            return
        log_changed = any(getattr(settings, name) != getattr(self.settings, name) for name in log.SETTINGS)
        self.settings, self._premises.listeners = settings, listeners
        self._shown = Shown(self.settings)
        self.generation += 1
        for child in list(self.children.values()):
            if child.role in ("remote", "local", "keeper", *DOORS) or (child.role == "log" and log_changed):
                child.draining = True
        self.slots = [slot for slot in self.slots if slot.role in ("log", "queue")] + wanted(self.settings)
        self._configure_queue()
        self._refill()
        for child in self.children.values():
            if child.draining:
                # Sessions go on with the settings that they began with, but not for any number of reloads.
                old = self.generation - child.generation > _GENERATIONS
                os.kill(child.pid, signal.SIGUSR1 if child.role in DOORS and not old else signal.SIGTERM)
        # Whoever comes once the reload is published meets the new settings.
        wait_for_closed_doors((child for child in self.children.values() if child.draining), _DOOR_SECONDS)
        self.log = self._new_log("supervisor")
        self._shown.tell(self.log)
        self._tell_of_rules()
        self.log.event("reloaded", "status: settings reloaded", generation=self.generation)
        self._publish()

    def _configure_queue(self) -> None:
        running = [child.pid for child in self.children.values() if child.role == "queue"]
        if not running:
            return  # The next one begins with them.
        try:
            request_of(running[0], self._way, Configure(self.settings))
        except (OSError, msgspec.DecodeError) as error:
            self.log.warning(f"queue process did not take the new settings, restarting it: {error}")
            self._signal("queue", signal.SIGTERM)

    def _shorten_stop(self, seconds: int) -> None:
        """Have the queue wait no longer than that for deliveries when it is told to stop."""
        running = [child.pid for child in self.children.values() if child.role == "queue"]
        if not running or seconds >= self.settings.shutdownseconds:
            return
        shorter = msgspec.structs.replace(self.settings, shutdownseconds=seconds)
        # One that does not answer is late, and is killed as such.
        with contextlib.suppress(OSError, msgspec.DecodeError):
            request_of(running[0], self._way, Configure(shorter), _MOMENT)

    # End

    def _stop(self) -> None:
        """The door first, the queue when its deliveries have finished, then the deliverers, the log last.

        Sessions and deliveries have ``shutdownseconds`` together. When the queue has ended, nobody hears of what
        comes of a delivery, so that the others have nothing to wait for.
        """
        self.stopping = True
        deadline = time.monotonic() + self.settings.shutdownseconds
        for _listener, bound in self._premises.listeners:
            bound.close()
        self._wake_stopped()
        self._end((*DOORS,), deadline + _LATE)
        deadline = max(deadline, time.monotonic() + _MOMENT)
        self._shorten_stop(math.ceil(deadline - time.monotonic()))
        self._end(("queue",), deadline + _MOMENT)
        # Whoever has come for the queue since it died must not wait for another one.
        for listening in self._premises.sockets.values():
            listening.close()
        self._end(("remote", "local", "keeper"), time.monotonic() + _LATE)
        self._end(("log",), time.monotonic() + _LATE)
        for name in (*SOCKETS, "roles"):
            (self._way / "run" / name).unlink(missing_ok=True)

    def _wake_stopped(self) -> None:
        """Whoever has been halted (SIGSTOP) hears of nothing else: the roles, and what local has made."""
        for child in self.children.values():
            os.kill(child.pid, signal.SIGCONT)
        if os.getpgrp() == os.getsid(0):
            os.killpg(0, signal.SIGCONT)

    def _end(self, roles: tuple[str, ...], deadline: float) -> None:
        """Tell them to end, and wait until they have; who has not by then is killed."""
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


def _last_words(sink: socket.socket, role: str, error: BaseException) -> None:
    """Log why a role ends; its own log may be in pieces."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    with contextlib.suppress(OSError):
        Log(role, sink).alert(f"{role}: {type(error).__name__}: {error} ({where})")
