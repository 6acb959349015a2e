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
from pathlib import Path

import msgspec

from ekiden.policy.tcprules import doubts, require_sound
from ekiden.roles import log
from ekiden.roles.queue import DAMAGED
from ekiden.runtime.binding import CannotListen, notify_systemd, rebind
from ekiden.runtime.census import Census
from ekiden.runtime.control import request_of
from ekiden.runtime.control_frames import Configure
from ekiden.runtime.fences.isolation import shortcomings
from ekiden.runtime.log import Log
from ekiden.runtime.preloading import preload
from ekiden.runtime.privilege import act_as_owner, identities
from ekiden.runtime.roster import SOCKETS
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError
from ekiden.settings.schema import Settings
from ekiden.supervisor.children import Child, Slot, wait_for_closed_doors, wanted
from ekiden.supervisor.entering import DOORS, MEANT_FOR_OTHERS, Entrance
from ekiden.supervisor.premises import CannotStart, Premises, QueueDamaged, prepare
from ekiden.supervisor.processes import SLOWEST_RESTART, Processes, send
from ekiden.supervisor.roles_file import RolesFile
from ekiden.supervisor.showing import LOOK_SECONDS, Shown

_GENERATIONS = 2
"""Reloads that a session may outlive."""

_SUSPICION = 3600.0
"""Seconds within which a queue that has found its store damaged, and finds it so again, is believed."""

_DOOR_SECONDS = 5.0
"""How long a reload waits for the processes that it replaces to close their doors."""

_MOMENT = 5
"""Seconds that the queue has for its deliveries when sessions have used up the time for a stop, and that it may be
late before it is killed: it may wait for the disk."""

_LATE = 2
"""Seconds that the other roles may be late: nobody waits for what they have at hand then."""

_PAUSE = 1.0
"""Seconds that the supervisor rests after an error of the machine's."""


class Supervisor:
    """One running home.

    ``announce`` is called once when connections are accepted; ``private`` are descriptors that no role may inherit.
    """

    # Set by ``serve``, in this order.
    _way: Path
    """To the home, for whom this process acts as."""
    _settings: Settings
    _premises: Premises
    _roles_file: RolesFile
    _shown: Shown
    _processes: Processes
    _wakeup: int
    _log: Log

    def __init__(self, home: Path, announce: Callable[[], None], private: tuple[int, ...] = ()) -> None:
        self._home = home
        self._announce = announce
        self._private = private
        self._stopping = False
        self._refusals = 0
        self._refusal = ""
        """How many reloads have been refused, and why the last one was."""
        self._damaged = False
        """Whether the queue role has found its store damaged."""
        self._suspected = -math.inf
        self._ready = -1
        """Where the queue tells that it has recovered, while that is waited for."""

    def serve(self) -> None:
        """Run until TERM; raises ``CannotStart``."""
        preload()
        identities_ = identities(self._home)
        # Of a home's files only its owner's rights count: as root we could be led to others by links in it.
        self._way = act_as_owner(self._home)
        try:
            self._settings = read(self._way / "control")
        except SettingsError as error:
            raise CannotStart(str(error)) from None
        self._premises = prepare(self._way, self._settings, identities_)
        self._roles_file = RolesFile(self._way)
        self._shown = Shown(self._settings)
        sink = self._premises.log_write
        self._processes = Processes(self._enter, self._note_end, self._columns, lambda: self._shown.pem, sink)
        self._hear_signals()
        gc.collect()
        gc.freeze()
        self._processes.spawn(Slot("log", 0))
        self._log = self._new_log()
        self._tell_of_users()
        self._shown.tell(self._log)
        self._tell_of_isolation()
        self._tell_of_rules()
        self._start_roles()
        self._announce()
        # Whoever was told has closed its descriptor, and another may bear its number by the next fork.
        self._private = ()
        notify_systemd("READY=1")
        while not self._stopping:
            self._go_on()
        notify_systemd("STOPPING=1")
        self._stop()
        if self._damaged:
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
        log_slot, queue_slot, *others = Slot("log", 0), Slot("queue", 0), *wanted(self._settings)
        self._processes.slots = [log_slot, queue_slot, *others]
        ready, tell = os.pipe2(os.O_CLOEXEC)
        self._ready = tell
        self._processes.spawn(queue_slot)
        os.close(tell)
        # The queue recovers before anyone is let in, and says so by a byte; its death closes the pipe.
        if not os.read(ready, 1):
            self._stop()
            if self._damaged:
                raise QueueDamaged(self._damage)
            raise CannotStart(f"the queue cannot be opened; see {self._home / 'log'}")
        os.close(ready)
        self._ready = -1
        for slot in others:
            self._processes.spawn(slot)
        self._publish(starting=True)

    def _enter(
        self, child: Child, census: Census | None, certificate: socket.socket | None, roster: socket.socket | None
    ) -> None:
        """In a child (``processes.Enter``)."""
        private = (self._wakeup, *self._private)
        entrance = Entrance(self._premises, self._settings, private, self._ready, roster)
        entrance.enter(child.role, census, certificate)

    @property
    def _damage(self) -> str:
        return f"the queue is damaged, see {self._home / 'log'}; remedy: ekiden --home {self._home} queue recover"

    def _columns(self) -> int:
        """How many processes may count clients at the same time: of this generation, and of those it replaced."""
        return (_GENERATIONS + 1) * max(1, sum(slot.role in DOORS for slot in wanted(self._settings)))

    def _new_log(self) -> Log:
        return Log("supervisor", self._premises.log_write, self._settings.logformat)

    def _tell_of_users(self) -> None:
        if self._premises.identities.missing:
            users = " ".join(self._premises.identities.missing)
            self._log.warning(
                f"no such users: {users}: their roles run as nobody; remedy: ekiden install --create-users"
            )

    def _tell_of_isolation(self) -> None:
        if self._settings.isolation == "off":
            self._log.warning("isolation is switched off: the roles are kept apart by their users alone")
            return
        for shortcoming in shortcomings():
            self._log.warning(f"isolation is incomplete: {shortcoming}")

    def _tell_of_rules(self) -> None:
        """A rule that keeps nobody away is known at the start, and not when somebody has come in."""
        for doubt in doubts(self._way / "control") if self._settings.listen else ():
            self._log.warning(doubt)

    def _publish(self, *, starting: bool = False) -> None:
        processes = self._processes
        state = {"generation": processes.generation, "refusals": self._refusals, "refusal": self._refusal}
        self._roles_file.write(processes.children.values(), state, self._log, starting=starting)

    # Events

    def _patience(self) -> float | None:
        """Seconds for which nothing is to be done unless a signal comes; None: for ever."""
        times = [self._processes.until_refill()]
        if self._roles_file.stale:
            times.append(SLOWEST_RESTART)
        if self._shown.present:
            times.append(LOOK_SECONDS)
        return min((seconds for seconds in times if seconds is not None), default=None)

    def _go_on(self) -> None:
        """Do what is due. What the machine cannot give just now is no reason to end: everything would end with it."""
        try:
            self._wait(self._patience())
        except (OSError, MemoryError) as error:
            self._log.alert(f"supervisor: {error or type(error).__name__}; going on")
            time.sleep(_PAUSE)

    def _wait(self, seconds: float | None) -> None:
        select.select([self._wakeup], [], [], seconds)
        received = b""
        with contextlib.suppress(BlockingIOError):
            received = os.read(self._wakeup, 4096)
        # First: an error in what follows must not make it forgotten.
        self._stopping = self._stopping or signal.SIGTERM in received or signal.SIGINT in received
        if ((signal.SIGCHLD in received or not received) and self._processes.reap()) or self._roles_file.stale:
            self._publish()
        if self._stopping:
            return
        if signal.SIGHUP in received:
            self._reload()
        self._shown.look(self._processes.children.values(), self._log)
        if signal.SIGALRM in received:
            self._processes.signal("queue", signal.SIGALRM)
        if self._processes.refill(self._log):
            self._publish()

    def _note_end(self, child: Child, code: int) -> None:
        """A role's process has ended."""
        if child.role == "queue" and code == DAMAGED:
            self._note_damage()
        if child.draining or self._stopping:
            return
        if self._damaged:
            self._log.alert(f"ekiden ends: {self._damage}")
            self._stopping = True
            return
        self._processes.put_off(child)
        if child.role != "log":
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._log.alert(f"{child.role} process {child.pid} ended ({how}), starting another")

    def _note_damage(self) -> None:
        """Twice in an hour, or at once: a read that fails now and then looks to SQLite like damage, too."""
        now = time.monotonic()
        self._damaged = self._damaged or self._stopping or now - self._suspected < _SUSPICION
        self._suspected = now

    # Reload

    def _reload(self) -> None:
        """Take over new settings whole, or keep the old ones and say why."""
        try:
            settings = read(self._way / "control")
            # Those at work go on with the rules from before a mistake; those that a reload makes would not know them.
            require_sound(self._way / "control")
            listeners = rebind(self._premises.listeners, settings)
        except (SettingsError, CannotListen) as error:
            self._log.alert(f"settings not changed: {error}")
            self._refusals += 1
            self._refusal = str(error)
            self._publish()
            return
        log_changed = any(getattr(settings, name) != getattr(self._settings, name) for name in log.SETTINGS)
        self._settings, self._premises.listeners = settings, listeners
        self._shown = Shown(settings)
        self._replace(("remote", "local", "keeper", *DOORS, *(("log",) if log_changed else ())))
        self._log = self._new_log()
        self._shown.tell(self._log)
        self._tell_of_rules()
        self._log.event("reloaded", "status: settings reloaded", generation=self._processes.generation)
        self._publish()

    def _replace(self, roles: tuple[str, ...]) -> None:
        """Have new processes of these roles, and the queue, go by the settings; the old ones finish what they do."""
        processes = self._processes
        processes.generation += 1
        for child in processes.of(roles):
            child.draining = True
        processes.slots = [slot for slot in processes.slots if slot.role in ("log", "queue")] + wanted(self._settings)
        self._configure_queue()
        processes.refill(self._log)
        draining = [child for child in processes.children.values() if child.draining]
        for child in draining:
            # Sessions go on with the settings that they began with, but not for any number of reloads.
            old = processes.generation - child.generation > _GENERATIONS
            send([child], signal.SIGUSR1 if child.role in DOORS and not old else signal.SIGTERM)
        # Whoever comes once the reload is published meets the new settings.
        wait_for_closed_doors(draining, _DOOR_SECONDS)

    def _configure_queue(self) -> None:
        for child in self._processes.of(("queue",)):  # Without one, the next begins with them.
            try:
                request_of(child.pid, self._way, Configure(self._settings))
            except (OSError, msgspec.DecodeError) as error:
                self._log.warning(f"queue process did not take the new settings, restarting it: {error}")
                self._processes.signal("queue", signal.SIGTERM)

    # End

    def _stop(self) -> None:
        """The door first, the queue when its deliveries have finished, then the deliverers, the log last.

        Sessions and deliveries have ``shutdownseconds`` together. When the queue has ended, nobody hears of what
        comes of a delivery, so that the others have nothing to wait for.
        """
        self._stopping = True
        deadline = time.monotonic() + self._settings.shutdownseconds
        for _listener, bound in self._premises.listeners:
            bound.close()
        processes = self._processes
        processes.wake()
        processes.end(DOORS, deadline + _LATE)
        deadline = max(deadline, time.monotonic() + _MOMENT)
        self._shorten_stop(math.ceil(deadline - time.monotonic()))
        processes.end(("queue",), deadline + _MOMENT)
        # Whoever has come for the queue since it died must not wait for another one.
        for listening in self._premises.sockets.values():
            listening.close()
        processes.end(("remote", "local", "keeper"), time.monotonic() + _LATE)
        processes.end(("log",), time.monotonic() + _LATE)
        for name in (*SOCKETS, "roles"):
            (self._way / "run" / name).unlink(missing_ok=True)

    def _shorten_stop(self, seconds: int) -> None:
        """Have the queue wait no longer than that for deliveries when it is told to stop."""
        running = self._processes.of(("queue",))
        if not running or seconds >= self._settings.shutdownseconds:
            return
        shorter = msgspec.structs.replace(self._settings, shutdownseconds=seconds)
        # One that does not answer is late, and is killed as such.
        with contextlib.suppress(OSError, msgspec.DecodeError):
            request_of(running[0].pid, self._way, Configure(shorter), _MOMENT)
