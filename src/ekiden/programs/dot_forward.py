"""dot-forward [-nN] FILE ...: follow the first .forward file that there is (dot-forward(1)); for .qmail files.

Exit code 99 when the message was dealt with; 0 when no file exists or names anything, or when the file also names the
user himself, so that the rest of .qmail is followed; 100 and 111 as qmail-command(8) has them. Unlike the original it
delivers to files and reads :include: files, as the user that it runs as.
"""

from __future__ import annotations

import os
import sys

from ekiden.delivery.forward_file import DIRECT, FORWARD, RUN, STORE, Unusable, read
from ekiden.delivery.instruction import Instruction
from ekiden.runtime.classic.alias_domains import read_domains
from ekiden.runtime.classic.instructed import Stop, printable, run_command, say, send_on
from ekiden.runtime.classic.options import BadOption, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "dot-forward: usage: dot-forward [ -nN ] file ..."
_WORDS = {RUN: "pipe through", STORE: "store in", FORWARD: "forward", DIRECT: "direct delivery"}


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options and the names of files."""
    try:
        found, files = options(argv, "nN")
    except BadOption:
        print(USAGE, file=sys.stderr)
        return 100
    describing = bool(found) and found[-1][0] == "n"
    try:
        for name in files:
            instructions = _read(os.fsencode(name), home)
            if instructions:
                _describe(instructions) if describing else _carry_out(instructions, home)
                return 0 if any(each.kind == DIRECT for each in instructions) else 99
            if describing and instructions is not None:
                print(f"skipping empty file {name}", file=sys.stderr)
    except Stop as stop:
        return say("dot-forward", stop)
    if describing:
        print("direct delivery", file=sys.stderr)
    return 0


def _read(name: bytes, home: str) -> list[Instruction] | None:
    """The file's instructions; None if it does not exist."""
    user, host = (os.environb.get(variable, b"") for variable in (b"USER", b"HOST"))
    try:
        return read(name, user, host, read_domains(home))
    except FileNotFoundError:
        return None
    except Unusable as error:
        raise Stop(111, str(error)) from None
    except OSError as error:
        raise Stop(111, f"unable to read {os.fsdecode(name)}: {error.strerror}") from None


def _carry_out(instructions: Sequence[Instruction], home: str) -> None:
    """Programs first, then files, then all forwards together, so that little is done twice if something fails."""
    for command in _texts(instructions, RUN):
        run_command(command, with_front=True)
    for path in _texts(instructions, STORE):
        _store(path, home)
    recipients = _texts(instructions, FORWARD)
    if recipients:
        qp = send_on(home, os.environb.get(b"NEWSENDER", b""), recipients)
        print(f"dot-forward: qp {qp}", file=sys.stderr)


def _texts(instructions: Sequence[Instruction], kind: str) -> list[bytes]:
    return list(dict.fromkeys(each.text for each in instructions if each.kind == kind))


def _store(path: bytes, home: str) -> None:
    """Into a Maildir if the name ends with a slash, else onto an mbox."""
    import time

    from ekiden.delivery.content import PlainFile
    from ekiden.delivery.direct import store
    from ekiden.delivery.letter import Letter
    from ekiden.delivery.report import FAILED, Trouble
    from ekiden.runtime.classic.local_limits import read_limits

    if path == b"/dev/null":
        return
    user, place, local, host, sender = (
        os.environb.get(name, b"") for name in (b"USER", b"HOME", b"LOCAL", b"HOST", b"SENDER")
    )
    letter = Letter(user, place, local, b"", b"", host, sender, b"", PlainFile(0), time.time())
    try:
        store(path, letter, read_limits(home))
    except Trouble as trouble:
        raise Stop(100 if trouble.verdict == FAILED else 111, trouble.text) from None


def _describe(instructions: Sequence[Instruction]) -> None:
    for each in instructions:
        print(f"{_WORDS[each.kind]} {printable(each.text)}".rstrip(), file=sys.stderr)
