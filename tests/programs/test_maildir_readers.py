"""maildir2mbox, maildirwatch, and elq, pinq, qail, which read mail after it was moved."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.peers.processes import wait_until
from tests.programs.conftest import Site

OLD = 1_795_000_000


@pytest.fixture
def maildir(site: Site) -> Path:
    """A Maildir named in the environment, beside the mbox that MAIL names."""
    path = site.place / "Maildir"
    for part in ("new", "cur", "tmp"):
        (path / part).mkdir(parents=True)
    site.environment |= {
        "MAILDIR": str(path),
        "MAIL": str(site.place / "mbox"),
        "MAILTMP": str(site.place / "mbox.tmp"),
    }
    return path


def put(path: Path, data: bytes, when: int) -> None:
    path.write_bytes(data)
    os.utime(path, (when, when))


def test_messages_move_in_order(site: Site, maildir: Path) -> None:
    put(maildir / "cur" / "b", b"Return-Path: <a b@x>\nSubject: 1\n\nFrom here\n>From there\n", OLD)
    put(maildir / "new" / "a", b"Return-Path: <>\n\nno end", OLD + 1)
    put(maildir / "new" / "c", b"Subject: 3\n\n", OLD + 2)
    put(maildir / "new" / ".hidden", b"", OLD)
    (site.place / "mbox").write_bytes(b"From x\n\nold\n\n")
    done = site.run("maildir2mbox")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (site.place / "mbox").read_bytes() == (
        b"From x\n\nold\n\n"
        b"From a-b@x Wed Nov 18 11:06:40 2026\nReturn-Path: <a b@x>\nSubject: 1\n\n>From here\n>>From there\n\n"
        b"From MAILER-DAEMON Wed Nov 18 11:06:41 2026\nReturn-Path: <>\n\nno end\n\n"
        b"From XXX Wed Nov 18 11:06:42 2026\nSubject: 3\n\n\n"
    )
    assert [path.name for path in maildir.rglob("*") if path.is_file()] == [".hidden"]
    assert not (site.place / "mbox.tmp").exists()


@pytest.mark.parametrize("lock", [fcntl.lockf, fcntl.flock])
def test_other_programs_locks_are_waited_for(site: Site, maildir: Path, lock: Callable[[int, int], None]) -> None:
    put(maildir / "new" / "a", b"Subject: 1\n\n", OLD)
    mbox, lock_file = site.place / "mbox", site.place / "mbox.lock"
    with open(mbox, "wb") as other:
        lock(other.fileno(), fcntl.LOCK_EX)
        process = subprocess.Popen([site.home / "bin" / "maildir2mbox"], env=site.environment)
        wait_until(lock_file.exists, "it has come as far as the lock")
        other.write(b"From x\n\nlate\n\n")
    assert process.wait(60) == 0
    assert mbox.read_bytes().startswith(b"From x\n\nlate\n\nFrom XXX ")
    assert not lock_file.exists()


def test_nothing_new_touches_nothing(site: Site, maildir: Path) -> None:
    assert site.run("maildir2mbox").returncode == 0
    assert not (site.place / "mbox").exists()


def test_abandoned_drafts_are_removed(site: Site, maildir: Path) -> None:
    put(maildir / "tmp" / "old", b"x", 1_000_000_000)
    (maildir / "tmp" / "young").write_bytes(b"x")
    site.run("maildir2mbox")
    assert os.listdir(maildir / "tmp") == ["young"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"MAIL": "/nonexistent/mbox"}, "unable to lock /nonexistent/mbox: "),
        ({"MAILTMP": "/nonexistent/tmp"}, "unable to write to /nonexistent/tmp: "),
        ({"MAILDIR": "/nonexistent"}, "unable to chdir to /nonexistent: "),
        ({"MAILDIR": "/"}, "unable to scan $MAILDIR/new: "),
    ],
)
def test_trouble_removes_nothing(site: Site, maildir: Path, environment: dict[str, str], said: str) -> None:
    put(maildir / "new" / "a", b"x\n", OLD)
    done = site.run("maildir2mbox", **environment)
    assert done.returncode == 111
    assert done.stderr.decode().startswith("maildir2mbox: fatal: " + said)
    assert (maildir / "new" / "a").exists()


@pytest.mark.parametrize("name", ["MAIL", "MAILTMP", "MAILDIR"])
def test_variables_are_needed(site: Site, maildir: Path, name: str) -> None:
    del site.environment[name]
    done = site.run("maildir2mbox")
    assert (done.returncode, done.stderr.decode()) == (111, f"maildir2mbox: fatal: {name} not set\n")


@pytest.mark.parametrize(("program", "reader"), [("elq", "elm"), ("pinq", "pine"), ("qail", "Mail")])
def test_readers(site: Site, maildir: Path, program: str, reader: str) -> None:
    put(maildir / "new" / "a", b"x\n", OLD)
    tools = site.place / "tools"
    tools.mkdir()
    (tools / reader).write_text('#!/bin/sh\necho "$@"; cat "$MAIL"; exit 3\n')
    (tools / reader).chmod(0o755)
    path = f"{tools}:{site.environment['PATH']}"
    done = site.run(program, "-a", "b c", PATH=path)
    assert done.stdout.startswith(b"-a b c\nFrom XXX ") and done.returncode == 3
    (tools / reader).unlink()
    done = site.run(program, PATH=path)
    assert done.returncode == 111 and f"unable to run {reader}".encode() in done.stderr
    assert site.run(program, PATH=path, MAILDIR="/nonexistent").returncode == 111


def test_maildirwatch(site: Site, maildir: Path) -> None:
    head = b"Return-Path: <s@x>\nDelivered-To: me@y\nFrom: A <\x1ba>\nSubject: hello\n\n"
    put(maildir / "new" / "b", b"\nplain\n", OLD + 1)
    put(maildir / "new" / "a", head + b"body\n", OLD)
    watch = subprocess.Popen([site.home / "bin" / "maildirwatch"], stdout=subprocess.PIPE, env=site.environment)
    assert watch.stdout is not None
    shown = b""
    while b"plain" not in shown:
        shown += os.read(watch.stdout.fileno(), 4096)
    watch.terminate()
    watch.wait()
    watch.stdout.close()
    assert shown == (
        b"\033[;H\033[;JFROM <s@x> TO <me@y>\n\033[1mFrom: A </a>\033[0m\nhello//body/\n\nFROM ? TO <?>\n/plain/\n\n"
    )


def test_maildirwatch_without_a_maildir(site: Site) -> None:
    assert site.run("maildirwatch").returncode == 111
    assert site.run("maildirwatch", MAILDIR="/nonexistent").returncode == 111
