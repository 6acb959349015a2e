"""Programs started with descriptors closed or full, as careless daemons start them: no traceback, no loss."""

from __future__ import annotations

import subprocess

import pytest
from tests.programs.conftest import Site


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
