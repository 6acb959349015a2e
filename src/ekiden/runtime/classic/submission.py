"""Handing a message to whatever stands for qmail-queue in this home (qmail-queue(8), variable QMAILQUEUE).

Another program than ours, named by QMAILQUEUE or put in HOME/bin/qmail-queue's place, is run; ours is not, because
what it does can be done right here.
"""

from __future__ import annotations

import os
import time

from ekiden.runtime.injection.client import Injection
from ekiden.runtime.injection.door import PERMANENT, REFUSED, Letter, NotQueued
from ekiden.runtime.trace import invoked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_KNOWN = {"alias": b"by alias", "qmaild": b"from network", "qmails": b"for bounce"}


def submit(home: str, letter: Letter, content: Iterable[bytes]) -> int:
    """Queue a message whose lines end with LF; the process id that the log shows as ``qp``. Raises ``NotQueued``.

    A program that stands for qmail-queue is told sender and recipients and nothing else of the letter.
    """
    if is_replaced(home):
        return run_program(home, letter.sender, letter.recipients, content)
    with Injection(home) as injection:
        injection.content(received_first(letter.pid, content))
        injection.send(letter)
    return letter.pid


def received_first(pid: int, content: Iterable[bytes]) -> Iterator[bytes]:
    """The content with qmail-queue's trace field in front."""
    yield mark(pid) + b"\n"
    yield from content


def mark(pid: int) -> bytes:
    """qmail-queue's trace field for what this process's user hands in as process ``pid``, without its line end."""
    return invoked(pid, _invoker(os.getuid()), time.time())


def _invoker(uid: int) -> bytes:
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return _KNOWN.get(name) or b"by uid %d" % uid


def is_replaced(home: str) -> bool:
    """Whether another program than ours stands for qmail-queue."""
    return "QMAILQUEUE" in os.environ or is_foreign(home, "qmail-queue")


def is_foreign(home: str, name: str) -> bool:
    """Whether HOME/bin/NAME is another program than ours; one that may not be read is."""
    try:
        with open(os.path.join(home, "bin", name), "rb") as file:
            return b"run_classic('%b'" % name.encode() not in file.read(4096)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def run_program(home: str, sender: bytes, recipients: Sequence[bytes], content: Iterable[bytes]) -> int:
    """Queue a message through the program that stands for qmail-queue; its process id. Raises ``NotQueued``.

    Lines of ``content`` end with LF. OSError if it cannot be read.
    """
    from ekiden.delivery.queue_program import inject
    from ekiden.delivery.report import FAILED, Trouble

    try:
        return inject(home, sender, recipients, content)
    except Trouble as trouble:
        raise NotQueued(PERMANENT if trouble.verdict == FAILED else REFUSED, str(trouble)) from None
