"""qmail-clean: removes files of the queue for qmail-send: commands on descriptor 0, answers on descriptor 1
(qmail-clean.8).

A command ends with NUL: ``foop/N`` removes intd/N and mess/SPLIT/N, ``todo/N`` removes intd/N and todo/N. The answer
is one octet: ``+`` done (also if there was nothing), ``!`` a file could not be removed, ``x`` not a command. At the
start and with every 30th command files in pid/ that were last read 36 hours ago are removed too. Exit code 0 at the
end of the commands, 100 if nobody takes an answer, 111 without a queue.
"""

from __future__ import annotations

import contextlib
import os
import re
import time

from ekiden.runtime.classic import process_title
from ekiden.runtime.classic.message_files import OSSIFIED, SPLIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_EVERY = 30
_LONGEST = 99
_COMMAND = re.compile(rb"(foop|todo)/([0-9]+)")


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments; serves until the commands end."""
    process_title.show(("qmail-clean",))
    try:
        os.chdir(os.path.join(home, "queue"))
    except OSError:
        return 111
    return serve(0, 1)


def serve(reading: int, writing: int) -> int:
    """Carry out the commands on one descriptor and answer on the other; the exit code."""
    remove_old_pids(time.time())
    rest = b""
    served = 0
    while data := os.read(reading, 65536):
        *commands, rest = (rest + data).split(b"\0")
        for command in commands:
            try:
                os.write(writing, carry_out(command))
            except OSError:
                return 100
            served += 1
            if served % _EVERY == 0:
                remove_old_pids(time.time())
        # What is too long is no command, however it goes on.
        rest = rest[: _LONGEST + 1]
    return 0


def carry_out(command: bytes) -> bytes:
    """Do what one command says, in the current directory; the answer."""
    parsed = _COMMAND.fullmatch(command) if 6 <= len(command) <= _LONGEST else None
    if parsed is None:
        return b"x"
    number = int(parsed[2])
    other = f"mess/{number % SPLIT}/{number}" if parsed[1] == b"foop" else f"todo/{number}"
    try:
        for path in (f"intd/{number}", other):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    except OSError:
        return b"!"
    return b"+"


def remove_old_pids(now: float) -> None:
    """Remove what interrupted programs left in pid/."""
    with contextlib.suppress(OSError), os.scandir("pid") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if now >= entry.stat().st_atime + OSSIFIED:
                    os.unlink(entry.path)
