"""What other processes see of one that shows itself under another title."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

IMPORT = "import sys; from ekiden.runtime.classic.process_title import show; "
SHOW = IMPORT + "show(sys.argv[1:]); print(1, flush=True); input()"


def shown(*title: str) -> tuple[bytes, bytes, str]:
    with subprocess.Popen(
        [sys.executable, "-c", SHOW, *title], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        place = Path(f"/proc/{process.pid}")
        seen = (place / "cmdline").read_bytes(), (place / "environ").read_bytes(), (place / "comm").read_text()
        process.communicate(b"\n")
    assert process.returncode == 0
    return seen


@pytest.mark.parametrize(
    "title", [("qmail-send",), ("qmail-lspawn", "./Mailbox"), ("qmail-lspawn", "|dot-forward .forward\n./Mailbox")]
)
def test_the_title_takes_the_arguments_place(title: tuple[str, ...]) -> None:
    cmdline, environment, comm = shown(*title)
    assert cmdline.rstrip(b"\0").split(b"\0") == [word.encode() for word in title]
    assert comm == title[0][:15] + "\n"
    assert b"PATH=" in environment and not environment.startswith(b"qmail")


def test_a_title_longer_than_there_is_room_is_cut() -> None:
    script = IMPORT + "show(('x' * 5000,)); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"A": "b"}
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        place = Path(f"/proc/{process.pid}")
        cmdline, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
        process.communicate(b"\n")
    assert set(cmdline) == {ord("x"), 0}
    assert environment.startswith(b"A=b\0")
