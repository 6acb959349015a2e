"""rblsmtpd [-bBcC] [-t SECONDS] [-r BASE] [-a BASE] PROGRAM [ARG ...]: refuse mail from listed clients (rblsmtpd.1).

RBLSMTPD, or else DNS lists asked about TCPREMOTEIP, decide whether to become the program or to hold an SMTP
conversation that takes no mail. Exit code 0 after that; 100 for wrong use, 111 if the program cannot be run.
"""

from __future__ import annotations

import os
import select
import sys
import time

from ekiden.policy.blocking import Decision, Refusal, judge
from ekiden.runtime.classic.options import BadOption, options
from ekiden.runtime.ucspi.execute import execute
from ekiden.runtime.ucspi.faults import explain
from ekiden.runtime.ucspi.wrong import WrongUse, number, say_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = 60
_READ = 1024
_USAGE = "[ -b ] [ -R ] [ -t timeout ] [ -r base ] [ -a base ] smtpd [ arg ... ]"


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options, the program and its arguments."""
    try:
        found, program = options(argv, "bBcCt:r:a:")
        seconds = [number("-t", value) for letter, value in found if letter == "t"] or [_SECONDS]
    except (BadOption, WrongUse) as error:
        return say_usage("rblsmtpd", _USAGE, error)
    if not program:
        return say_usage("rblsmtpd", _USAGE)
    address = os.environb.get(b"TCPREMOTEIP", b"")
    decision = judge(os.environb.get(b"RBLSMTPD"), address, found, _texts, _is_listed)
    if decision.blocks:
        line = b"rblsmtpd: %b pid %d: %b\n" % (address, os.getpid(), decision.reply)
        os.write(2, line)
        _refuse(decision, seconds[-1])
        return 0
    print(f"rblsmtpd: fatal: unable to run {program[0]}: {explain(execute(program))}", file=sys.stderr)
    return 111


def _texts(name: bytes) -> bytes:
    """The TXT records of a name, joined."""
    from ekiden.runtime.ucspi.stub import look_up
    from ekiden.wire import dns

    return b"".join(look_up(name, dns.TXT))


def _is_listed(name: bytes) -> bool:
    from ekiden.runtime.ucspi.stub import look_up
    from ekiden.wire import dns

    return bool(look_up(name, dns.A))


def _refuse(decision: Decision, seconds: int) -> None:
    """The conversation, until the client quits, goes away, or the time is over."""
    if not seconds:
        _send(decision.reply + b"\r\n")
        return
    refusal = Refusal(decision.reply)
    deadline = time.monotonic() + seconds
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    if not _send(refusal.greeting):
        return
    while not refusal.is_over:
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(left * 1000):
            return
        try:
            piece = os.read(0, _READ)
        except OSError:
            return
        if not piece or not _send(refusal.receive(piece)):
            return


def _send(data: bytes) -> bool:
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        return False
    return True
