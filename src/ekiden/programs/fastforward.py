"""fastforward [-nNpPdD] CDB: forward the message on descriptor 0 as a database says (fastforward(1)).

Runs from .qmail-default. Exit code 0 when forwarded, 99 with -p; 100 if the database does not know the recipient (0
with -p), or for wrong use; 111 for trouble that may pass. A program that fails decides with its own code.
"""

from __future__ import annotations

import os
import stat
import sys

from ekiden.routing.forwarding import BadDatabase, Expansion
from ekiden.runtime.classic.instructed import Stop, printable, run_command, say, send_on
from ekiden.runtime.classic.options import BadOption, options
from ekiden.tables.cdb import Cdb
from ekiden.tables.table import TableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "fastforward: usage: fastforward [ -nNpPdD ] data.cdb"
NOBODY = "Sorry, no mailbox here by that name. (#5.1.1)"


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options and the database's name."""
    try:
        found, rest = options(argv, "nNpPdD")
    except BadOption:
        rest = []
    if len(rest) != 1:
        print(USAGE, file=sys.stderr)
        return 100
    chosen = {letter.lower(): letter.islower() for letter, _value in found}
    try:
        expansion = _expand(rest[0], _recipient(chosen.get("d", False)))
        if expansion is None:
            if not chosen.get("p"):
                print(NOBODY, file=sys.stderr)
            return 0 if chosen.get("p") else 100
        if chosen.get("n"):
            _describe(expansion)
        else:
            _carry_out(expansion, home)
    except Stop as stop:
        return say("fastforward", stop)
    return 99 if chosen.get("p") else 0


def _recipient(from_default: bool) -> bytes:
    names = (b"DEFAULT", b"EXT") if from_default else (b"RECIPIENT",)
    value = next((os.environb[name] for name in names if name in os.environb), None)
    if value is None:
        raise Stop(100, " or ".join(f"${name.decode()}" for name in names) + " must be set")
    if not from_default:
        return value
    if b"HOST" not in os.environb:
        raise Stop(100, "$HOST must be set")
    return value + b"@" + os.environb[b"HOST"]


def _expand(path: str, recipient: bytes) -> Expansion | None:
    """Where mail for the recipient goes; None if the database does not say."""
    try:
        with Cdb(path) as database:
            expansion = Expansion(database.get, _read_list)
            sender = os.environb.get(b"SENDER", b"original envelope sender")
            return expansion if expansion.expand(recipient, sender) else None
    except TableError as error:
        raise Stop(111, str(error)) from None
    except BadDatabase as error:
        raise Stop(111, f"unable to read {path}: {error}") from None


def _read_list(name: bytes) -> bytes:
    """A binary list that everybody may read."""
    shown = printable(name)
    try:
        # Without blocking, for whoever owns the list may have put a FIFO in its place.
        with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & 0o444 != 0o444 or not stat.S_ISREG(mode):
                raise Stop(111, f"{shown} is not world-readable, or no file")
            return file.read()
    except OSError as error:
        raise Stop(111, f"unable to read {shown}: {error.strerror}") from None


def _carry_out(expansion: Expansion, home: str) -> None:
    for command in expansion.programs:
        run_command(command[1:], with_front=command.startswith(b"!"))
    if expansion.recipients:
        qp = send_on(home, expansion.sender, expansion.recipients)
        print(f"fastforward: qp {qp}", file=sys.stderr)


def _describe(expansion: Expansion) -> None:
    for command in expansion.programs:
        print(f"run {printable(command)}", file=sys.stderr)
    if not expansion.recipients:
        print("no forwarding", file=sys.stderr)
        return
    print(f"from <{printable(expansion.sender)}>", file=sys.stderr)
    for recipient in expansion.recipients:
        print(f"to <{printable(recipient)}>", file=sys.stderr)
