"""qmail-queue: queue the message on descriptor 0 under the envelope on descriptor 1 (qmail-queue(8)).

Says nothing; the exit code tells: 0 queued, 11 to 40 permanent trouble, others temporary (docs/qmail-queue.md).
"""

from __future__ import annotations

import os
import signal

from ekiden.runtime.classic.submission import received_first
from ekiden.runtime.injection.client import Injection
from ekiden.runtime.injection.door import (
    HOME_TROUBLE,
    INTERNAL_FAULT,
    OUT_OF_MEMORY,
    QUEUE_TROUBLE,
    TIMEOUT,
    Letter,
    NotQueued,
)
from ekiden.runtime.injection.envelope import read_envelope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_READ = 262_144
_DAY = 86_400
"""Seconds until a client that does not finish is given up."""


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments; those given are not looked at, as in the original."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(TIMEOUT))
    signal.alarm(_DAY)
    if not os.path.isdir(home):
        return HOME_TROUBLE
    try:
        return _queue(home)
    except MemoryError:
        return OUT_OF_MEMORY
    except (OSError, ImportError):
        # Not even what is needed to say what is wrong can be opened.
        return QUEUE_TROUBLE
    except Exception:
        return INTERNAL_FAULT


def _queue(home: str) -> int:
    try:
        with Injection(home) as injection:
            injection.content(received_first(os.getpid(), iter(lambda: os.read(0, _READ), b"")))
            sender, recipients = read_envelope(1)
            injection.send(Letter(sender, recipients))
    except NotQueued as error:
        return error.code
    return 0
