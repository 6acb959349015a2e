"""A real supervisor all of whose roles hang: ``hanging.py HOME``. They hear no signal and never say a word."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

from ekiden.roles import local, log, queue, remote, smtpd
from ekiden.supervisor.supervisor import Supervisor


def hang(*_arguments: Any) -> None:
    """Be there, and nothing else."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    while True:
        time.sleep(1000)


async def main(context: Any) -> None:
    """The same for roles with an event loop, of which the queue says first that it is ready."""
    context.ready()
    hang()


if __name__ == "__main__":
    for role in (queue, remote, smtpd):
        vars(role)["main"] = main
    for role in (local, log):
        vars(role)["serve"] = hang
    Supervisor(Path(sys.argv[1]), announce=lambda: None).serve()
