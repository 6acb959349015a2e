"""Give a child standard input with something in front of it."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_READ = 65_536


def run_prefixed(name: str, first: bytes, command: Sequence[str]) -> int:
    """Run ``command`` with ``first`` and then our standard input; its exit code, 111 if it crashed or cannot be run.

    Errors are told on standard error as those of the program ``name``.
    """
    reading, writing = os.pipe()
    try:
        onto_input = [(os.POSIX_SPAWN_DUP2, reading, 0)]
        # Python ignores SIGPIPE; programs expect it.
        child = os.posix_spawnp(
            command[0], list(command), os.environ, file_actions=onto_input, setsigdef=[signal.SIGPIPE]
        )
    except OSError as error:
        print(f"{name}: fatal: unable to run {command[0]}: {error.strerror}", file=sys.stderr)
        return 111
    os.close(reading)
    _copy(first, writing)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        print(f"{name}: fatal: child crashed", file=sys.stderr)
        return 111
    return code


def _copy(data: bytes, writing: int) -> None:
    """``data`` and input to the child, until either ends; a child that stops reading may have what it needs."""
    try:
        while data:
            data = data[os.write(writing, data) :] or os.read(0, _READ)
    except BrokenPipeError:
        pass
    os.close(writing)
