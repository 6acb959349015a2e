"""qmail-local: deliver or forward one message, read from descriptor 0 (qmail-local.8).

Exit codes: 0 delivered, 100 failed for good, 111 try again. Descriptor 0 must be seekable.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import chain

from ekiden.delivery import dotqmail, queue_program
from ekiden.delivery.content import PlainFile
from ekiden.delivery.direct import carry_out
from ekiden.delivery.letter import Letter
from ekiden.delivery.local import Forward, plan, summary
from ekiden.delivery.report import DELIVERED, FAILED, Trouble, deferred, readable
from ekiden.delivery.search import check_home
from ekiden.runtime.classic.local_limits import read_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "qmail-local: usage: qmail-local [ -nN ] user homedir local dash ext domain sender defaultdelivery"


def main(argv: Sequence[str], home: str) -> int:
    """``home`` is where bin/qmail-queue is."""
    delivering, arguments = _options(argv)
    if arguments is None or len(arguments) != 8 or not arguments[1].startswith("/"):
        print(USAGE, file=sys.stderr)
        return 100
    os.umask(0o077)
    user, homedir, local, dash, ext, domain, sender, default = map(os.fsencode, arguments)
    letter = Letter(user, homedir, local, dash, ext, domain, sender, default, PlainFile(0), time.time())
    try:
        return _deliver(letter, home) if delivering else _describe(letter)
    except Trouble as trouble:
        return _end(trouble.verdict, trouble.text + "\n")


def _options(argv: Sequence[str]) -> tuple[bool, Sequence[str] | None]:
    """Whether to deliver, and the arguments; None for an unknown option."""
    delivering = True
    for at, argument in enumerate(argv):
        if argument == "--":
            return delivering, argv[at + 1 :]
        if not argument.startswith("-") or argument == "-":
            return delivering, argv[at:]
        if argument.strip("nN") != "-":
            return delivering, None
        delivering = argument.endswith("N")
    return delivering, ()


def _deliver(letter: Letter, home: str) -> int:
    def inject(step: Forward, letter: Letter) -> int:
        content = chain((letter.delivered_to,), letter.content.chunks())
        try:
            return queue_program.inject(home, step.sender, step.recipients, content)
        except Trouble as trouble:
            raise Trouble(trouble.verdict, f"Unable to forward message: {trouble.text}.") from None
        except OSError as error:
            raise deferred(f"Unable to read message: {error.strerror}. (#4.3.0)") from None

    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError as error:
        raise deferred(f"Unable to rewind message: {error.strerror}. (#4.3.0)") from None
    report = carry_out(letter, inject, dict(os.environb), read_limits(home))
    return _end(report.verdict, report.text)


def _end(verdict: int, text: str) -> int:
    stream = sys.stdout if verdict == DELIVERED else sys.stderr
    stream.write(text.encode("utf-8", "backslashreplace").decode("utf-8", "replace"))
    stream.flush()
    return {DELIVERED: 0, FAILED: 100}.get(verdict, 111)


def _describe(letter: Letter) -> int:
    """Print what would be done."""
    if check_home(letter.home, delivering=False):
        print("Warning: the home directory is sticky.", file=sys.stderr)
    counts = dict.fromkeys((dotqmail.MAILDIR, dotqmail.MBOX, dotqmail.FORWARD, dotqmail.PROGRAM), 0)
    for instruction in plan(letter).instructions:
        sys.stdout.flush()
        if instruction.kind == dotqmail.REFUSE:
            raise deferred(readable(instruction.text))
        counts[instruction.kind] += 1
        os.write(1, b"%b %b\n" % (instruction.kind.encode(), instruction.text))
    files = counts[dotqmail.MAILDIR] + counts[dotqmail.MBOX]
    sys.stdout.write(summary(files, counts[dotqmail.FORWARD], counts[dotqmail.PROGRAM], 0))
    return 0
