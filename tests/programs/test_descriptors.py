"""Programs started with descriptors closed or full, as careless daemons start them: no traceback, no loss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from tests.programs.conftest import Site

BROKEN = """
import os, sys
from ekiden.cli import quietly
def write():
    reader, writer = os.pipe()
    os.close(reader)
    return os.write(writer, b"x")
sys.exit(quietly(write, "forward"))
"""

NONE_LEFT = """
import os, resource, sys
from ekiden.cli import quietly
def write():
    sys.stdout.write("half")
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return os.open("/dev/null", os.O_RDONLY)
sys.exit(quietly(write, "forward"))
"""


def run(site: Site, command: str) -> tuple[int, bytes]:
    """``command`` is a shell's, with BIN for HOME/bin; its exit code and standard error."""
    done = subprocess.run(
        ["sh", "-c", command.replace("BIN", str(site.home / "bin"))],
        env=site.environment,
        cwd=site.place,
        capture_output=True,
        input=b"",
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("BIN/qmail-queue <message 1<&-", 54, b""),
        ("BIN/qmail-queue 1<envelope 0<&-", 54, b""),
        ("BIN/qmail-queue 0<&- 1<&- 2<&-", 54, b""),
        ("BIN/qmail-inject a <&-", 111, b"qmail-inject: fatal: read error: Bad file descriptor\n"),
        ("BIN/sendmail a <&-", 111, b"sendmail: fatal: Bad file descriptor\n"),
        ("BIN/tcprules a b <&-", 111, b"tcprules: fatal: unable to read input: Bad file descriptor\n"),
        ("BIN/qmail-inject -n <message >&-", 111, b"qmail-inject: fatal: Bad file descriptor\n"),
        ("BIN/qmail-showctl >/dev/full", 111, b"qmail-showctl: fatal: No space left on device\n"),
    ],
)
def test_trouble_is_told(site: Site, command: str, code: int, said: bytes) -> None:
    (site.place / "message").write_bytes(b"To: a\n\nhi\n")
    (site.place / "envelope").write_bytes(b"Fa\0Tb\0\0")
    assert run(site, command) == (code, said)


def test_nothing_takes_the_place_of_a_closed_descriptor(recorded: Site) -> None:
    (recorded.place / "message").write_bytes(b"To: a\n\nhi\n")
    assert run(recorded, "BIN/qmail-inject <message >&- 2>&-") == (0, b"")
    assert recorded.message.endswith(b"To: a@indy2.nix.co.jj\n\nhi\n")


def test_a_reader_that_has_seen_enough_is_no_fault(site: Site) -> None:
    code = "BIN/qmail-showctl | head -n 1 >/dev/null; BIN/qmail-showctl | true"
    assert run(site, code) == (0, b"")
    # The exit code of the program itself, where nobody reads from the beginning.
    reader, writer = os.pipe()
    os.close(reader)
    program = site.home / "bin" / "qmail-showctl"
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run([program], stdout=output, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_another_broken_pipe_is_one() -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (111, b"forward: fatal: Broken pipe\n")


def test_trouble_is_told_without_a_descriptor_to_spare() -> None:
    done = subprocess.run([sys.executable, "-c", NONE_LEFT], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (111, b"forward: fatal: Too many open files\n")


def test_an_interrupt_ends_a_program_by_its_signal(site: Site) -> None:
    program = site.home / "bin" / "qmail-smtpd"
    pipe = subprocess.PIPE
    # In the background of a shell interrupts are ignored, also by those who are started there.
    command = ["env", "--default-signal=INT", program]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=site.environment) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"220 ")
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGINT
