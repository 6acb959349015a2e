"""Lock files beside mbox files: whose they are, and when they are left over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.peers.processes import program, run

from ekiden.delivery.mbox import Mbox
from ekiden.delivery.mbox_lock import STALE_SECONDS, LockFile

HOLDER = """
import os, sys
from ekiden.delivery.mbox_lock import LockFile
lock = LockFile(os.fsencode(sys.argv[1]))
print(lock.take(), flush=True)
sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "Mailbox.lock"
    first, second = LockFile(os.fsencode(path)), LockFile(os.fsencode(path))
    assert first.take()
    assert path.read_bytes() == b"%d ekiden\n" % os.getpid()
    assert not second.take()
    second.release()
    assert path.exists()
    first.release()
    assert not path.exists()
    assert second.take()
    second.release()


def test_what_a_killed_process_left_is_removed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "Mailbox.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        lock = LockFile(os.fsencode(path))
        assert not lock.take()
        assert path.exists()
        holder.kill()
    assert not lock.take()
    assert lock.take()
    lock.release()


def test_a_name_that_cannot_be_removed_leaves_no_lock(tmp_path: Path) -> None:
    """The file's first name, when the lock is taken: the mailbox once stayed locked for five minutes."""
    path = tmp_path / "Mailbox.lock"
    failing = [program("strace"), "-o", "/dev/null", "-e", "inject=unlink:error=EIO:when=2"]
    script = HOLDER.replace("sys.stdin.read()", "lock.release()")
    taken = run([*failing, sys.executable, "-c", script, path])
    assert taken.stdout == "True\n"
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1, "the error happened"


def test_other_programs_have_time(tmp_path: Path) -> None:
    path = tmp_path / "Mailbox.lock"
    path.write_text("12345\n")
    lock = LockFile(os.fsencode(path))
    assert not lock.take()
    assert not lock.take()
    os.utime(path, (0, time.time() - STALE_SECONDS - 10))
    assert not lock.take()
    assert lock.take()
    lock.release()


def test_links_and_fifos_are_nobodys_left_overs(tmp_path: Path) -> None:
    path = tmp_path / "Mailbox.lock"
    path.symlink_to(tmp_path / "elsewhere")
    assert not LockFile(os.fsencode(path)).take()
    assert not (tmp_path / "elsewhere").exists()
    path.unlink()
    os.mkfifo(path)
    assert not LockFile(os.fsencode(path)).take()


def test_where_no_lock_file_can_be_made_the_others_have_to_do(tmp_path: Path) -> None:
    # A name that leaves no room for .lock; root may write into any directory.
    path = os.fsencode(tmp_path / ("m" * 253))
    mbox = Mbox(path)
    assert mbox.lock()
    other = Mbox(path)
    assert not other.lock()
    other.close()
    mbox.close()


DYING = """
import fcntl, os, signal, sys
left = int(sys.argv[2])

def mortal(call):
    def called(*words, **others):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*words, **others)
    return called

from ekiden.delivery.mbox_lock import LockFile
for module, name in ((os, "open"), (os, "write"), (os, "link"), (os, "unlink"), (fcntl, "flock")):
    setattr(module, name, mortal(getattr(module, name)))
LockFile(os.fsencode(sys.argv[1])).take()
"""


def test_a_kill_at_any_call_leaves_nothing_that_others_wait_for(tmp_path: Path) -> None:
    """The lock can be had at the second try at the latest, wherever its maker was killed."""
    for calls in range(20):
        path = tmp_path / f"{calls}.lock"
        status = subprocess.run([sys.executable, "-c", DYING, path, str(calls)], check=False).returncode
        lock = LockFile(os.fsencode(path))
        assert lock.take() or lock.take(), f"killed after {calls} calls"
        lock.release()
        if status == 0:
            break
    assert status == 0 and calls >= 5
