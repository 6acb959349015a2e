"""The bar is for terminals: files and pipes get nothing."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
from ekiden.commands.progress import progress
with progress("queue", 4) as step:
    for _ in range(4):
        step(1)
"""
RUN = [sys.executable, "-c", CODE]


def test_a_pipe_gets_nothing() -> None:
    done = subprocess.run(RUN, capture_output=True, check=True)
    assert done.stdout + done.stderr == b""


def test_a_terminal_gets_a_bar() -> None:
    ours, terminal = os.openpty()
    try:
        subprocess.run(RUN, stderr=terminal, check=True, env={**os.environ, "TERM": "xterm"})
        drawn = os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(terminal)
    assert b"queue" in drawn
    assert b"100%" in drawn
