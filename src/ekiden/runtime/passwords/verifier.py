"""The keeper's answers: whose password it is, found in the configured sources in their order.

What takes long (crypt(3), Argon2, other programs) is done in a process of its own, so that one login does not hold up
the others. A password that was right is remembered for a while as a keyed hash, because mail programs ask every few
minutes with the same one; another secret in its source makes that worthless.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import importlib
import os
import shlex
import signal
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ekiden.routing.users import Users, system_account
from ekiden.runtime.passwords import program as password_program
from ekiden.runtime.passwords import system as password_system
from ekiden.runtime.passwords.file import PasswordFile
from ekiden.runtime.passwords.secret import Account, Entry, Unavailable, check_apop, check_password, is_costly, scram
from ekiden.settings.problem import Problem
from ekiden.wire.sasl import ScramKeys

REMEMBERED_SECONDS = 300.0
_REMEMBERED = 10_000
_AT_ONCE = 2 * (os.cpu_count() or 1)

Result = Account | Unavailable | None
Done = Callable[[Result], None]
Source = Callable[[bytes], Entry | None] | list[bytes]
"""Finds a user's secret, or is the command of a checkpassword program."""


_EVERY_KIND = (
    b"SCRAM-SHA-256$1:c2FsdA==$c2FsdA==:c2FsdA==",
    # With threads, whose end the C library loads another library for.
    b"$argon2id$v=19$m=16,t=1,p=2$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA",
    b"$5$rounds=1000$saltsaltsalt$" + 43 * b"x",
)


class _Told(msgspec.Struct, array_like=True):
    """What a process of ours has found out; ``account`` None with ``trouble`` empty: wrong."""

    account: Account | None
    trouble: str


class Verifier:
    """Looks for users in control/pop3users and elsewhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop, home: Path, uid: int, sources: Sequence[bytes]) -> None:
        """``uid`` is who mail is delivered by. Raises ValueError for a source that does not exist."""
        self._loop = loop
        self._file = PasswordFile(home / "control" / "pop3users", Users(home, uid=uid))
        self._sources = [self._source(name) for name in sources]
        self._key = os.urandom(32)
        self._known: dict[bytes, float] = {}
        self._running = 0
        self._waiting: deque[tuple[Callable[[], Account | None], Done]] = deque()

    @property
    def problems(self) -> list[Problem]:
        """What is wrong in control/pop3users."""
        return self._file.problems

    @staticmethod
    def check_source(name: bytes) -> list[bytes] | None:
        """The words of a checkpassword command, None for ``file`` and ``system``. Raises ValueError."""
        if name in (b"file", b"system"):
            return None
        kind, _blank, command = name.partition(b" ")
        words = [os.fsencode(word) for word in shlex.split(os.fsdecode(command))]
        if kind != b"checkpassword" or not words:
            raise ValueError(f"{os.fsdecode(name)}: allowed are file, system, and checkpassword with a command")
        return words

    @classmethod
    def runs_programs(cls, names: Sequence[bytes]) -> bool:
        """Whether a source is a program, which may need what only a process that is not isolated can give it."""
        return any(cls.check_source(name) for name in cls.usable(names))

    @classmethod
    def usable(cls, names: Sequence[bytes]) -> list[bytes]:
        """Those that there are; one that is not understood lets nobody in."""
        known = []
        for name in names:
            with contextlib.suppress(ValueError):
                cls.check_source(name)
                known.append(name)
        return known

    def _source(self, name: bytes) -> Source:
        if (words := self.check_source(name)) is not None:
            return words
        return self._file.find if name == b"file" else password_system.find

    def password(self, user: bytes, password: bytes, timestamp: bytes, done: Done) -> None:
        """Who that is if the password is right."""
        self._judge(user, password, timestamp, lambda entry: self._check(entry, password, done), done)

    def apop(self, user: bytes, timestamp: bytes, digest: bytes, done: Done) -> None:
        """Who that is if the digest is right."""

        def check(entry: Entry) -> None:
            done(entry.account if check_apop(entry.secret, timestamp, digest) else None)

        self._judge(user, digest, timestamp, check, done)

    def _judge(
        self, user: bytes, answer: bytes, timestamp: bytes, check: Callable[[Entry], None], done: Done
    ) -> None:
        """``check`` what is known of the user, or let the programs judge the answer."""
        try:
            entry, programs = self._find(user)
        except Unavailable as error:
            done(error)
            return
        if entry is not None:
            check(entry)
        elif programs:
            self._in_a_process(lambda: _ask_all(programs, user, answer, timestamp), done)
        else:
            done(None)

    def scram(self, user: bytes) -> tuple[Account | None, ScramKeys]:
        """The user's keys; for whoever has none, keys that look like a user's and are right for nobody.

        Raises Unavailable.
        """
        entry, _programs = self._find(user)
        keys = scram(entry.secret) if entry is not None else None
        if entry is None or keys is None:
            salt = hmac.digest(self._key, user, "sha256")[:16]
            return None, ScramKeys(4096, salt, os.urandom(32), os.urandom(32))
        return entry.account, keys

    def _find(self, user: bytes) -> tuple[Entry | None, list[list[bytes]]]:
        """The user's secret in the first source that has it; else the programs to be asked. Raises Unavailable."""
        programs = []
        for source in self._sources:
            if isinstance(source, list):
                programs.append(source)
            elif (entry := source(user)) is not None:
                return entry, []
        return None, programs

    def _check(self, entry: Entry, password: bytes, done: Done) -> None:
        if not is_costly(entry.secret):
            done(entry.account if check_password(entry.secret, password) else None)
            return
        known = hmac.digest(self._key, b"%b\0%b\0%b" % (entry.account.name, entry.secret, password), "sha256")
        if self._known.get(known, 0.0) > self._loop.time():
            done(entry.account)
            return

        def checked(result: Result) -> None:
            if isinstance(result, Account):
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[known] = self._loop.time() + REMEMBERED_SECONDS
            done(result)

        self._in_a_process(lambda: entry.account if check_password(entry.secret, password) else None, checked)

    def _in_a_process(self, work: Callable[[], Account | None], done: Done) -> None:
        if self._running >= _AT_ONCE:
            self._waiting.append((work, done))
            return
        told, tell = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(told)
            os.close(tell)
            done(Unavailable(f"no process to check a password: {error.strerror}"))
            return
        if not pid:
            _tell(work, tell)
        os.close(tell)
        self._running += 1
        self._loop.add_reader(told, self._told, told, pid, done, [])

    def _told(self, told: int, pid: int, done: Done, said: list[bytes]) -> None:
        piece = os.read(told, 65_536)
        if piece:
            said.append(piece)
            return
        self._loop.remove_reader(told)
        os.close(told)
        os.waitpid(pid, 0)
        self._running -= 1
        if self._waiting:
            self._in_a_process(*self._waiting.popleft())
        done(_result(b"".join(said)))


def _result(said: bytes) -> Result:
    try:
        told = msgspec.msgpack.decode(said, type=_Told)
    except msgspec.DecodeError:
        return Unavailable("the process that checked a password died")
    return Unavailable(told.trouble) if told.trouble else told.account


def _tell(work: Callable[[], Account | None], tell: int) -> None:
    """In the child: find out, tell, end."""
    with contextlib.suppress(BaseException):
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        try:
            answer = _Told(work(), "")
        except Unavailable as error:
            answer = _Told(None, str(error))
        except Exception as error:
            answer = _Told(None, f"{type(error).__name__}: {error}")
        os.write(tell, msgspec.msgpack.encode(answer))
    os._exit(0)


def _ask_all(programs: list[list[bytes]], user: bytes, password: bytes, timestamp: bytes) -> Account | None:
    for argv in programs:
        account = password_program.ask(argv, user, password, timestamp)
        if account is not None:
            return account
    return None


def warm() -> None:
    """Load what is loaded late, once and not in every process; a keeper that is isolated cannot load it any more."""
    importlib.import_module("argon2")
    for secret in _EVERY_KIND:
        with contextlib.suppress(Unavailable):
            check_password(secret, b"x")
    # Every one of the system's user databases is asked about whom none of them knows.
    system_account(b"no:body")
