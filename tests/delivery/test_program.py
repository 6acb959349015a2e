"""Programs: what they are given, and how their exit is judged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ekiden.delivery import program
from ekiden.delivery.content import WireContent
from ekiden.delivery.report import DEFERRED, FAILED, Trouble


@pytest.fixture(autouse=True)
def back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a program changes the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("code", [100, 64, 65, 70, 76, 77, 78, 112])
def test_hard_errors(code: int) -> None:
    with pytest.raises(Trouble) as caught:
        program.judge(code << 8, silent=False)
    assert (caught.value.verdict, caught.value.text) == (FAILED, "")


@pytest.mark.parametrize("code", [1, 2, 63, 66, 71, 75, 98, 101, 111, 127, 255])
def test_soft_errors(code: int) -> None:
    with pytest.raises(Trouble) as caught:
        program.judge(code << 8, silent=False)
    assert (caught.value.verdict, caught.value.text) == (DEFERRED, "")


def test_success() -> None:
    assert program.judge(0, silent=True) is False
    assert program.judge(99 << 8, silent=True) is True


def test_a_signal_is_a_deferral() -> None:
    with pytest.raises(Trouble, match="signal 9") as caught:
        program.judge(signal.SIGKILL, silent=False)
    assert caught.value.verdict == DEFERRED


def test_a_silent_program_is_spoken_for() -> None:
    with pytest.raises(Trouble, match=r"exit code 100 .*\(#5.3.0\)"):
        program.judge(100 << 8, silent=True)
    with pytest.raises(Trouble, match=r"exit code 1 .*\(#4.3.0\)"):
        program.judge(1 << 8, silent=True)


def test_what_a_program_is_given(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    content = WireContent(b"Subject: x\r\n\r\nbody\r\n")
    command = b'cat > got; pwd > where; echo "$SENDER $PATH" > who; ps -o pid=,sid= -p $$ > session'
    process = program.start(
        command, os.fsencode(home), {b"SENDER": b"a b", b"PATH": b"/bin:/usr/bin"}, content.descriptor()
    )
    assert os.waitpid(process, 0)[1] == 0
    content.close()
    assert (home / "got").read_bytes() == b"Subject: x\n\nbody\n"
    assert (home / "where").read_text() == f"{home}\n"
    assert (home / "who").read_text() == "a b /bin:/usr/bin\n"
    pid, session = (home / "session").read_text().split()
    assert pid == session == str(process)


def test_signals_are_as_usual(tmp_path: Path) -> None:
    # Python ignores SIGPIPE; a program that inherited that would write into a broken pipe for ever.
    code = (
        "import os\nfrom ekiden.delivery import program\n"
        f"pid = program.start(b'kill -PIPE $$; exit 0', {os.fsencode(tmp_path)!r}, {{}}, 0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "-13\n"


def test_a_home_that_is_gone_defers() -> None:
    with pytest.raises(Trouble, match="No such file"):
        program.start(b"true", b"/nowhere", {}, 0)


def test_only_what_is_useful_is_passed_on() -> None:
    kept = program.surroundings({"PATH": "/bin", "SECRET": "x", "TZ": "Asia/Tokyo"}, "/var/qmail")
    assert kept == {b"PATH": b"/var/qmail/bin:/bin", b"TZ": b"Asia/Tokyo", b"EKIDEN_HOME": b"/var/qmail"}
