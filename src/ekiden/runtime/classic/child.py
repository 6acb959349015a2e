"""Programs run by classic programs: with our own descriptors, or with lines put in front of our standard input.

Where a function takes the ``name`` of the program that runs them, it says what went wrong on standard error.
"""

from __future__ import annotations

import os
import signal
import sys

from ekiden.delivery.content import write_all
from ekiden.delivery.report import is_temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_READ = 262_144

TEMPORARY = 111
PERMANENT = 100


class Crashed(Exception):
    """The program was ended by a signal."""


def run(argv: Sequence[str]) -> int:
    """Run a program, found on PATH, to its end; its exit code. Raises ``Crashed``.

    A program that cannot be run counts as one that ends with 111, if it may be possible later, else with 100.
    """
    try:
        child = os.posix_spawnp(argv[0], list(argv), os.environ, setsigdef=[signal.SIGPIPE])
    except OSError as error:
        return TEMPORARY if is_temporary(error) else PERMANENT
    return _wait(child)


def decide(name: str, argv: Sequence[str]) -> int:
    """Run a program that decides something; its exit code, 111 if it crashed or cannot decide now."""
    try:
        code = run(argv)
    except Crashed:
        return _say(name, "child crashed")
    return _say(name, "temporary child error") if code == TEMPORARY else code


def feed(argv: Sequence[str], first: bytes) -> int:
    """Run a program with ``first`` and then our standard input as its input; its exit code.

    Raises ``Crashed``; OSError if it cannot be run or our input cannot be read. The program need not read it all.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, reading, 0)]
    try:
        # Python ignores SIGPIPE; programs expect it.
        child = os.posix_spawnp(argv[0], list(argv), os.environ, file_actions=actions, setsigdef=[signal.SIGPIPE])
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    try:
        data = first
        while True:
            write_all(writing, data)
            data = os.read(0, _READ)
            if not data:
                break
    except BrokenPipeError:
        pass
    finally:
        os.close(writing)
    return _wait(child)


def run_fed(name: str, argv: Sequence[str], first: bytes) -> int:
    """``feed``; 111 if the program crashed or cannot be run."""
    try:
        return feed(argv, first)
    except Crashed:
        return _say(name, "child crashed")
    except OSError as error:
        return _say(name, f"unable to run {argv[0]}: {error.strerror}")


def _say(name: str, text: str) -> int:
    print(f"{name}: fatal: {text}", file=sys.stderr)
    return TEMPORARY


def _wait(child: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        raise Crashed(f"signal {-code}")
    return code
