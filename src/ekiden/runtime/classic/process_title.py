"""What ps, pidof and top show of this process: the arguments and the name that the kernel keeps (proc(5)).

A daemon of ours is the interpreter that was given a script, or a fork of another daemon; administrators look for
``qmail-send``. Without /proc nothing happens.
"""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ARG_START, _ARG_END = 45, 46
"""Places in /proc/self/stat, counted from behind the command's name."""


def show(argv: Sequence[str]) -> None:
    """Be shown as ``argv``, as far as the place of the present arguments has room.

    To be called before privileges are given up: a process that changed its user may not write its own /proc files.
    """
    with contextlib.suppress(OSError):
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        room = end - start
        # The last octet stays NUL, or the kernel takes what follows, the environment, for arguments as well.
        title = b"\0".join(map(os.fsencode, argv))[: room - 1].ljust(room, b"\0")
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(title)
        with open("/proc/self/comm", "wb", buffering=0) as comm:
            comm.write(os.fsencode(argv[0])[:15])
