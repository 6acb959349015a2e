"""Work in a process of its own that is killed in the place of its N-th step, as a crash would end it there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_COUNTING = """
import os, signal, sys
from pathlib import Path

steps = int(sys.argv[1])

def counted(work):
    def step(*arguments, **keywords):
        global steps
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1
        return work(*arguments, **keywords)
    return step
"""


def die_after(steps: int, work: str, *arguments: Path) -> bool:
    """Run ``work``, in which ``counted(function)`` is a step, with ``sys.argv[2:]``; whether it died."""
    done = subprocess.run([sys.executable, "-c", _COUNTING + work, str(steps), *arguments])
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0
