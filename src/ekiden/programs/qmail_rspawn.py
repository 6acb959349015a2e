"""qmail-rspawn: remote deliveries for qmail-send: commands on descriptor 0, results on descriptor 1 (qmail-rspawn.8).

Each delivery is a process that runs qmail-remote for one recipient. The protocol is in runtime.classic.spawner.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from typing import NoReturn

from ekiden.delivery.report import is_temporary
from ekiden.programs import qmail_remote, stranger
from ekiden.runtime.classic import process_title
from ekiden.runtime.classic.spawner import Spawner
from ekiden.runtime.preloading import preload

CANNOT_RUN = {111: b"ZUnable to run qmail-remote.\n"}
_WORDS = (b"K", b"Z", b"D")


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments. QMAILREMOTE in the environment names another program than qmail-remote."""
    process_title.show(("qmail-rspawn",))
    preload()
    gc.freeze()
    RemoteSpawner(home, os.environ.get("QMAILREMOTE") or stranger("qmail-remote")).serve()
    return 0


class RemoteSpawner(Spawner):
    """Has a process for each delivery run ``program``, or qmail-remote without another interpreter's start."""

    def __init__(self, home: str, program: str | None) -> None:
        super().__init__(home)
        self._home = home
        self._program = program

    def work(self, message: int, output: int, sender: bytes, local: bytes, domain: bytes) -> NoReturn:
        code = 111
        try:
            os.dup2(output, 1)
            os.dup2(output, 2)
            arguments = [os.fsdecode(word) for word in (domain, sender, local + b"@" + domain)]
            if self._program is None:
                code = qmail_remote.main(arguments, self._home)
            else:
                os.execvp(self._program, [self._program, *arguments])
        except OSError as error:
            code = 111 if is_temporary(error) else 100
        finally:
            os._exit(code)

    def report(self, code: int, output: bytes) -> bytes:
        if code < 0:
            return b"Zqmail-remote crashed.\n"
        if code:
            return CANNOT_RUN.get(code, b"DUnable to run qmail-remote.\n")
        if not output:
            return b"Zqmail-remote produced no output.\n"
        return joined(output.split(b"\0")[:-1])


def joined(reports: Sequence[bytes]) -> bytes:
    """One report from qmail-remote's for a recipient and for the message.

    The recipient's refusal counts for more than what came of the message, whose text is added where it is no better.
    """
    whole = next((report for report in reports if report[:1] in _WORDS), None)
    if whole is None:
        # qmail calls this permanent; what cannot be understood is no reason to give a message up.
        return b"ZUnable to understand qmail-remote's report. (#4.3.0)\n"
    first = reports[0]
    letter = {b"s": b"Z", b"h": b"D"}.get(first[:1], whole[:1])
    text = first[1:]
    following = reports[1] if len(reports) > 1 else b""
    if following[:1] in _WORDS and _WORDS.index(whole[:1]) >= _WORDS.index(letter):
        text += following[1:]
    return letter + text
