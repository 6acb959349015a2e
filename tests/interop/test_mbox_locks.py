"""An mbox that several programs write at once while mail readers take messages out: nothing is lost or torn.

Ours take every lock in use; of the others each takes the one that it knows.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers.processes import program

EACH = 120

OURS = """
import os, sys, time
from ekiden.delivery.mbox import Mbox
path, name, count = os.fsencode(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(count):
    while True:
        mbox = Mbox(path)
        if mbox.lock():
            break
        mbox.close()
        time.sleep(0.001)
    header = b"Subject: %s-%d\\n\\n" % (name.encode(), number)
    mbox.append(b"From a@b Mon Nov 23 05:00:00 2026\\n", [header, b"x" * 5000, b"\\n"])
    mbox.commit()
    mbox.close()
"""

FOREIGN = """
import contextlib, fcntl, os, sys, time
path, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(count):
    while kind == "dotlock":
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path + ".lock", os.O_CREAT | os.O_EXCL))
            break
        time.sleep(0.001)
    with open(path, "ab", buffering=0) as file:
        if kind != "dotlock":
            {"fcntl": fcntl.lockf, "flock": fcntl.flock}[kind](file, fcntl.LOCK_EX)
        file.seek(0, 2)
        # In pieces, so that whoever does not keep away tears it.
        first = "From c@d Mon Nov 23 05:00:00 2026\\n"
        for piece in (first, f"Subject: {kind}-{number}\\n\\n", "y" * 3000, "\\n\\n"):
            file.write(piece.encode())
    if kind == "dotlock":
        os.unlink(path + ".lock")
    time.sleep(0.002)
"""

READER = """
import contextlib, fcntl, os, sys, time
path, kind, taken = sys.argv[1:]
while not os.path.exists(taken + ".end"):
    while kind == "dotlock":
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path + ".lock", os.O_CREAT | os.O_EXCL))
            break
        time.sleep(0.001)
    with open(path, "r+b", buffering=0) as mbox, open(taken, "ab", buffering=0) as file:
        if kind != "dotlock":
            {"fcntl": fcntl.lockf, "flock": fcntl.flock}[kind](mbox, fcntl.LOCK_EX)
        file.write(mbox.read())
        # Whoever does not keep away writes what is cut off now.
        time.sleep(0.001)
        mbox.truncate(0)
    if kind == "dotlock":
        os.unlink(path + ".lock")
    time.sleep(0.002)
"""
"""Takes all messages out again and again, as popper does."""


def start(code: str, mbox: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, str(mbox), name, str(EACH)])


def subjects(path: Path) -> list[bytes]:
    """The messages in an mbox file; an assertion if one is torn."""
    found = []
    for message in re.split(rb"^(?=From )", path.read_bytes() if path.exists() else b"", flags=re.MULTILINE)[1:]:
        whole = re.fullmatch(
            rb"From \S+ Mon Nov 23 05:00:00 2026\n(?:\w+: [^\n]*\n)*?Subject: (\S+)\n(?:\w+: [^\n]*\n)*"
            rb"\n(?:x{5000}|y{3000})\n\n?",
            message,
        )
        assert whole, message[:200]
        found.append(whole[1])
    return found


@pytest.mark.parametrize("kind", ["fcntl", "flock", "dotlock"])
def test_writers_with_one_lock_each(tmp_path: Path, kind: str) -> None:
    mbox = tmp_path / "mbox"
    writers = [start(OURS, mbox, "one"), start(OURS, mbox, "two"), start(FOREIGN, mbox, kind)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    expected = [b"%s-%d" % (name, number) for name in (b"one", b"two", kind.encode()) for number in range(EACH)]
    assert sorted(subjects(mbox)) == sorted(expected)
    assert not (tmp_path / "mbox.lock").exists()


@pytest.mark.parametrize("kind", ["fcntl", "flock", "dotlock"])
def test_a_reader_takes_messages_out_meanwhile(tmp_path: Path, kind: str) -> None:
    mbox, taken = tmp_path / "mbox", tmp_path / "taken"
    mbox.touch()
    reader = subprocess.Popen([sys.executable, "-c", READER, str(mbox), kind, str(taken)])
    writers = [start(OURS, mbox, "one"), start(OURS, mbox, "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    (tmp_path / "taken.end").touch()
    assert reader.wait(60) == 0
    assert taken.stat().st_size, "nothing was taken meanwhile"
    expected = [b"%s-%d" % (name, number) for name in (b"one", b"two") for number in range(EACH)]
    assert sorted(subjects(taken) + subjects(mbox)) == sorted(expected)


def test_a_mail_program_takes_messages_out(tmp_path: Path) -> None:
    """With nothing written meanwhile, which s-nail would cut off: it looks how long the file is before it locks."""
    mbox, taken = tmp_path / "mbox", tmp_path / "taken"
    for round_ in ("one", "two"):
        assert start(OURS, mbox, round_).wait(60) == 0
        _move_all(mbox, taken)
        assert not mbox.stat().st_size
    assert subjects(taken) == [b"%s-%d" % (name, number) for name in (b"one", b"two") for number in range(EACH)]


def _move_all(mbox: Path, taken: Path) -> None:
    subprocess.run(
        [program("s-nail"), "-n", "-Sv15-compat", "-Squiet", "-f", str(mbox)],
        input=f"move * {taken}\nquit\n".encode(),
        env={"HOME": str(mbox.parent), "TMPDIR": str(mbox.parent), "LC_ALL": "C"},
        capture_output=True,
        timeout=60,
    )
