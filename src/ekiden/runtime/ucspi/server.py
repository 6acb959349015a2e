"""The accept loop of tcpserver: one process per connection, counted, limited and logged (tcpserver.1).

The usual connection, for which nobody else has to be asked, is looked up in the rules here and started with
posix_spawn, which shares our memory until the program begins: about twice as fast as fork, whose cost is the size of
the interpreter. Whatever may take long (DNS, ident, a banner) or needs the child's process number in the log before
the program (a denial) is done in a forked child, so that no other connection waits. With -v the line that has a
spawned program's number can follow what the program itself writes in its first moment.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from types import FrameType

from ekiden.policy.tcprules import Verdict, decode_instructions, find_rule
from ekiden.runtime.ucspi.connection import Ends, Names, describe, ends_of, find_out, merge, verdict_line
from ekiden.runtime.ucspi.execute import IGNORED_BY_PYTHON, execute
from ekiden.runtime.ucspi.faults import explain
from ekiden.runtime.ucspi.serving import Serving
from ekiden.tables.replacedcdb import ReplacedCdb
from ekiden.tables.table import TableError

DENIED = 100
DROPPED = 111
"""Exit codes of children."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_BREATH = 0.1
"""Seconds to wait when the system has no more descriptors or memory for us."""

_ALLOWED = Verdict()
_DEFAULTS = [*IGNORED_BY_PYTHON, signal.SIGCHLD, signal.SIGTERM]


class Dropped(Exception):
    """A connection that cannot be served; the text says why."""


class Server:
    """Serves a listening socket until SIGTERM; ``name`` is the program's in the log."""

    prefix = "TCP"

    def __init__(self, name: str, listener: socket.socket, serving: Serving) -> None:
        self.serving = serving
        self._name = name
        self._listener = listener
        self._running = 0
        self._base = dict(os.environb)
        self._rules = None if serving.rules is None else ReplacedCdb(serving.rules)
        self._spawns = serving.search.is_free and not serving.banner and type(self) is Server
        self._names = Names(serving.search.local_name)
        self._verbose = serving.verbosity > 1

    def run(self) -> int:
        """Does not return: SIGTERM ends the process with 0."""
        waking, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.signal(signal.SIGTERM, _end)
        everything, only_ends = select.poll(), select.poll()
        for waiting in (everything, only_ends):
            waiting.register(waking, select.POLLIN)
        everything.register(self._listener, select.POLLIN)
        self._status()
        # A child may have ended before we looked.
        self._reap()
        while True:
            waiting = everything if self._running < self.serving.limit else only_ends
            for descriptor, _events in waiting.poll():
                if descriptor == waking:
                    os.read(waking, 4096)
                    self._reap()
                else:
                    self._accept()

    def write(self, line: bytes) -> None:
        """One line to the log, at once; nobody to read it is no reason to stop."""
        if self.serving.verbosity:
            try:
                os.write(2, line)
            except OSError:
                return

    def say(self, text: str) -> None:
        """A line with our name in front."""
        self.write(os.fsencode(f"{self._name}: {text}\n"))

    def _status(self) -> None:
        if self._verbose:
            self.say(f"status: {self._running}/{self.serving.limit}")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self._verbose:
                self.say(f"end {pid} status {status}")
            self._running = max(0, self._running - 1)
            self._status()

    def _accept(self) -> None:
        try:
            connection, remote = self._listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                time.sleep(_BREATH)
            return
        with connection:
            self._running += 1
            self._status()
            if not (self._spawns and self._spawn(connection, remote)):
                self._fork(connection, remote)

    def _spawn(self, connection: socket.socket, remote: object) -> bool:
        """Start the program the fast way; False if a forked child must see to the connection."""
        try:
            ends = self._ends(connection, remote)
            environment = self._environment(ends, self._names)
        except (OSError, Dropped):
            return False
        if environment is None:
            return False
        self.prepare(connection)
        descriptor = connection.fileno()
        try:
            pid = os.posix_spawnp(
                self.serving.program[0],
                self.serving.program,
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, 0), (os.POSIX_SPAWN_DUP2, 0, 1)],
                setsigdef=_DEFAULTS,
            )
        except (OSError, ValueError):
            return False
        if self._verbose:
            self.write(self._from_line(pid, ends) + verdict_line(self._name, "ok", pid, ends, self._names))
        return True

    def _fork(self, connection: socket.socket, remote: object) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._warn(f"unable to fork: {explain(error)}")
            self._running -= 1
            self._status()
            return
        if pid:
            return
        code = DROPPED
        try:
            self._listener.close()
            signal.set_wakeup_fd(-1)
            for number in _DEFAULTS:
                signal.signal(number, signal.SIG_DFL)
            code = self._serve(connection, remote)
        except Dropped as reason:
            self._warn(str(reason))
        except OSError as error:
            self._warn(explain(error))
        finally:
            os._exit(code)

    def _serve(self, connection: socket.socket, remote: object) -> int:
        """In the child: everything that may take long. Raises Dropped."""
        try:
            ends = self._ends(connection, remote)
        except OSError as error:
            raise Dropped(f"unable to get local address: {explain(error)}") from None
        if self._verbose:
            self.write(self._from_line(os.getpid(), ends))
        self.prepare(connection)
        self.greet(connection)
        names = find_out(ends, self.serving.search)
        environment = self._environment(ends, names)
        if self._verbose:
            word = "deny" if environment is None else "ok"
            self.write(verdict_line(self._name, word, os.getpid(), ends, names))
        return DENIED if environment is None else self.start(connection, environment)

    def greet(self, connection: socket.socket) -> None:
        """Send the banner. Raises Dropped."""
        try:
            connection.sendall(self.serving.banner)
        except OSError as error:
            raise Dropped(f"unable to print banner: {explain(error)}") from None

    def prepare(self, connection: socket.socket) -> None:
        """Set the connection's options as the command line says."""
        try:
            if not self.serving.keep_ip_options:
                connection.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")
            if not self.serving.delay:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            return  # as with tcpserver, a connection is served without as well

    def start(self, connection: socket.socket, environment: dict[bytes, bytes]) -> int:
        """Become the program, with the connection as descriptors 0 and 1. Raises Dropped."""
        os.dup2(connection.fileno(), 0)
        os.dup2(0, 1)
        raise Dropped(self.cannot_run(execute(self.serving.program, environment)))

    def cannot_run(self, reason: OSError) -> str:
        """Why the program does not run."""
        return f"unable to run {self.serving.program[0]}: {explain(reason)}"

    def variables(self, ends: Ends, names: Names) -> dict[bytes, bytes | None]:
        """What is told about a connection."""
        return describe(ends, names, self.prefix)

    def _ends(self, connection: socket.socket, remote: object) -> Ends:
        return ends_of(connection.getsockname(), remote, self.serving.families.prefer_ipv6)

    def _environment(self, ends: Ends, names: Names) -> dict[bytes, bytes] | None:
        """The program's environment, None if the rules deny the connection. Raises Dropped."""
        verdict = _ALLOWED if self._rules is None else self._judge(self._rules, ends, names)
        if not verdict.allow:
            return None
        environment = self._base.copy()
        merge(environment, self.variables(ends, names))
        environment.update(verdict.environment)
        return environment

    def _judge(self, rules: ReplacedCdb, ends: Ends, names: Names) -> Verdict:
        try:
            found = find_rule(rules.get, ends.remote_ip.encode(), names.remote_host, names.remote_info)
        except TableError as error:
            cause = error.__cause__
            if isinstance(cause, FileNotFoundError) and self.serving.without_rules:
                return _ALLOWED
            # A damaged file is no system error; the originals call it one of protocol.
            reason = cause if isinstance(cause, OSError) else OSError(errno.EPROTO, "")
            raise Dropped(f"unable to read {self.serving.rules}: {explain(reason)}") from None
        return _ALLOWED if found is None else decode_instructions(*found)

    def _from_line(self, pid: int, ends: Ends) -> bytes:
        return os.fsencode(f"{self._name}: pid {pid} from {ends.remote_ip}\n")

    def _warn(self, text: str) -> None:
        self.say(f"warning: dropping connection, {text}")


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """SIGCHLD only has to wake the loop."""


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)
