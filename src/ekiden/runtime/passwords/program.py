"""Any program with checkpassword's interface (cr.yp.to/checkpwd/interface.html) as a source of passwords.

It reads name, password and timestamp from descriptor 3, becomes the user if they are right, goes to the user's home
and runs what it was told to run. We have it run a line of shell that tells who it became, in a process that is not
trusted with anything else.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Sequence

from ekiden.runtime.passwords.secret import Account, Unavailable

SECONDS = 60.0
"""How long the program may take."""

_TELL = 'printf "%s\\0" "$(id -u)" "$(id -g)" "$HOME" "$USER" "$SHELL" "$(pwd)"'
_LONGEST = 8192
_DIGITS = 10


def ask(argv: Sequence[bytes], name: bytes, password: bytes, timestamp: bytes) -> Account | None:
    """The account if the password is right, else None. Raises Unavailable."""
    child, feed, told = _start(argv)
    with open(told, "rb", buffering=0):
        with open(feed, "wb", buffering=0) as fed, contextlib.suppress(BrokenPipeError):
            fed.write(b"%b\0%b\0%b\0" % (name, password, timestamp))
        deadline = time.monotonic() + SECONDS
        said = _read(told, child, deadline)
    code = _ended(child, deadline)
    if code == 0:
        return account(said)
    if code == 1:
        return None
    raise Unavailable(f"{os.fsdecode(argv[0])}: " + (f"signal {-code}" if code < 0 else f"exit code {code}"))


def _start(argv: Sequence[bytes]) -> tuple[int, int, int]:
    """The program's process id, a descriptor to tell it by, and one to hear of it. Raises Unavailable."""
    fed, feed = os.pipe2(os.O_CLOEXEC)
    told, tell = os.pipe2(os.O_CLOEXEC)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, tell, 1),
        (os.POSIX_SPAWN_DUP2, fed, 3),
    ]
    words = [*argv, b"/bin/sh", b"-c", _TELL.encode()]
    signals = [signal.SIGPIPE, signal.SIGTERM]
    try:
        child = os.posix_spawnp(words[0], words, os.environ, file_actions=actions, setsigdef=signals)
    except OSError as error:
        os.close(feed)
        os.close(told)
        raise Unavailable(f"{os.fsdecode(argv[0])}: {error.strerror}") from None
    finally:
        os.close(fed)
        os.close(tell)
    return child, feed, told


def _ended(child: int, deadline: float) -> int:
    """The program's exit code, negative if a signal ended it, as one that takes too long is."""
    handle = os.pidfd_open(child)
    try:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        if not ended.poll(max(0.0, deadline - time.monotonic()) * 1000):
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _read(told: int, child: int, deadline: float) -> bytes:
    """What is said until its end; a program that takes too long is ended."""
    said = b""
    while len(said) < _LONGEST:
        ready, _, _ = select.select([told], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
            return b""
        piece = os.read(told, _LONGEST)
        if not piece:
            break
        said += piece
    return said


def account(said: bytes) -> Account:
    """Who the program became, as it tells. Raises Unavailable."""
    fields = said.split(b"\0")
    if len(fields) != 7 or not all(text.isdigit() and len(text) <= _DIGITS for text in fields[:2]):
        raise Unavailable("the checkpassword program did not run what it was told to")
    uid, gid, home, user, shell, place, _end = fields
    return Account(user or b"?", int(uid), int(gid), place or home, shell or b"/bin/sh")
