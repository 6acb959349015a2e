"""mbox spools into Maildirs: nothing lost, nothing twice, whatever happens between two runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from ekiden.mailstore.maildrop import MailboxError
from ekiden.mailstore.spool_scan import NotMbox
from ekiden.migration.finding import Kind, Report
from ekiden.migration.spool import LIST, Moved, move
from ekiden.migration.spools import make_maildir, missing_maildirs, move_spool, spools

FIRST = b"Subject: one\nStatus: RO\nX-Status: AF\n\nbody\n>From the start\n"
SECOND = b"Subject: two\n\n\xff\xfe octets\r\nlast line\n"
THIRD = b"Subject: three\nStatus: O\n\n"


def mbox(*contents: bytes) -> bytes:
    """Messages as mail.local appends them."""
    return b"".join(b"From joe@a.example Mon Nov 23 12:51:%02d 2026\n%b\n" % each for each in enumerate(contents))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "bob"
    path.write_bytes(mbox(FIRST, SECOND, THIRD))
    return path


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    return tmp_path / "Maildir"


def run(spool: Path, maildir: Path, apply: bool = True) -> Moved:
    return move(spool, maildir, apply, lambda _done: None)


def messages(maildir: Path) -> list[bytes]:
    return sorted(path.read_bytes() for part in ("new", "cur") for path in (maildir / part).iterdir())


def test_every_message_arrives_as_it_is(spool: Path, maildir: Path) -> None:
    before = spool.read_bytes()
    done: list[int] = []
    moved = move(spool, maildir, True, done.append)
    assert messages(maildir) == sorted([FIRST, SECOND, THIRD])
    assert (moved.messages, moved.added, moved.octets) == (3, 3, len(FIRST + SECOND + THIRD))
    assert moved.stored == moved.checksum
    assert spool.read_bytes() == before
    assert sum(done) == len(before)


def test_flags_and_time_are_kept(spool: Path, maildir: Path) -> None:
    run(spool, maildir)
    flags = {path.read_bytes(): path.name.partition(":2,")[2] for path in (maildir / "cur").iterdir()}
    assert flags == {FIRST: "FRS", THIRD: ""}
    (new,) = (maildir / "new").iterdir()
    assert new.read_bytes() == SECOND
    assert int(new.stat().st_mtime) == int(new.name.partition(".")[0])
    assert oct(new.stat().st_mode & 0o077) == "0o0"


def test_without_apply_nothing_is_made(spool: Path, maildir: Path) -> None:
    moved = run(spool, maildir, apply=False)
    assert (moved.messages, moved.added) == (3, 0)
    assert not maildir.exists()


def test_a_second_run_takes_only_what_is_new(spool: Path, maildir: Path) -> None:
    run(spool, maildir)
    assert run(spool, maildir).added == 0
    # The owner reads, files and deletes; a mail reader writes its notes; more mail comes.
    (new,) = (maildir / "new").iterdir()
    new.unlink()
    spool.write_bytes(mbox(FIRST, SECOND.replace(b"\n\n", b"\nStatus: RO\n\n", 1), THIRD, b"Subject: four\n\n"))
    assert run(spool, maildir).added == 1
    assert messages(maildir) == sorted([FIRST, THIRD, b"Subject: four\n\n"])


def test_two_messages_of_the_same_octets_are_two(maildir: Path, tmp_path: Path) -> None:
    path = tmp_path / "bob"
    path.write_bytes(b"From joe@a.example Mon Nov 23 12:51:00 2026\nSubject: x\n\n\n" * 2)
    assert run(path, maildir).added == 2
    assert run(path, maildir).added == 0
    assert len(messages(maildir)) == 2


def test_the_time_zone_makes_no_message_new(spool: Path, maildir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(spool, maildir)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from ekiden.migration.spool import move;"
            "sys.exit(move(Path(sys.argv[1]), Path(sys.argv[2]), True, lambda done: None).added)",
            spool,
            maildir,
        ],
        check=True,
    )


@pytest.mark.parametrize("call", ["rename", "write", "fsync"])
@pytest.mark.parametrize("count", range(1, 6))
def test_a_kill_at_any_call_loses_and_doubles_nothing(spool: Path, maildir: Path, call: str, count: int) -> None:
    code = f"""
import os, sys
from pathlib import Path
from ekiden.migration import spool
real, calls = os.{call}, 0
def killed(*arguments):
    global calls
    calls += 1
    if calls == {count}:
        os._exit(9)
    return real(*arguments)
os.{call} = killed
spool.move(Path(sys.argv[1]), Path(sys.argv[2]), True, lambda done: None)
"""
    subprocess.run([sys.executable, "-c", code, spool, maildir], check=False)
    # The killed process's lock file, which counts for five minutes.
    spool.with_name("bob.lock").unlink(missing_ok=True)
    run(spool, maildir)
    assert messages(maildir) == sorted([FIRST, SECOND, THIRD])
    assert run(spool, maildir).added == 0


def test_half_a_line_in_the_list_counts_for_nothing(spool: Path, maildir: Path) -> None:
    run(spool, maildir)
    listed = maildir / LIST.decode()
    listed.write_bytes(listed.read_bytes()[:-5])
    run(spool, maildir)
    assert run(spool, maildir).added == 0
    assert messages(maildir) == sorted([FIRST, SECOND, THIRD])


def test_a_locked_spool_is_left(spool: Path, maildir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden.mailstore.dotlock.WAIT_SECONDS", 0.1)
    with spool.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(MailboxError):
            run(spool, maildir)
    assert not maildir.exists()


def test_what_is_no_mbox_is_left(tmp_path: Path, maildir: Path) -> None:
    (tmp_path / "bob").write_bytes(b"hello\n")
    with pytest.raises(NotMbox):
        run(tmp_path / "bob", maildir)


def test_a_directory_of_spools(tmp_path: Path) -> None:
    account = pwd.getpwuid(os.getuid())
    directory = tmp_path / "mail"
    directory.mkdir()
    (directory / account.pw_name).write_bytes(mbox(FIRST))
    for name in (".hidden", "x.lock", "nosuchuser"):
        (directory / name).write_bytes(mbox(SECOND))
    report = Report()
    (found,) = spools(directory, f"{tmp_path}/{{user}}/Maildir", report)
    found.maildir.parent.mkdir()
    steps: list[int] = []
    assert move_spool(found, False, steps.append, report) == Moved(1, len(FIRST), 0, checksum(FIRST), "")
    assert move_spool(found, True, steps.append, report) is not None
    assert messages(found.maildir) == [FIRST]
    assert [finding.kind for finding in report.findings] == [Kind.LEFT, Kind.CARRIED, Kind.CARRIED]
    assert "1 of 1 messages added" in report.findings[-1].text


def checksum(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes other users")
def test_as_root_the_owner_writes_and_no_link_leads_root_astray(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    directory, home, secret = place / "mail", place / "home", place / "secret"
    directory.mkdir()
    home.mkdir()
    secret.mkdir(mode=0o700)
    path = directory / "nobody"
    path.write_bytes(mbox(FIRST))
    os.chown(path, nobody.pw_uid, nobody.pw_gid)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    report = Report()
    (found,) = spools(directory, f"{home}/Maildir", report)
    (home / "Maildir").symlink_to(secret)
    assert move_spool(found, True, lambda _done: None, report) is None
    assert list(secret.iterdir()) == []
    (home / "Maildir").unlink()
    assert move_spool(found, True, lambda _done: None, report) is not None
    assert {part.stat().st_uid for part in (home / "Maildir").rglob("*")} == {nobody.pw_uid}


def test_accounts_without_a_maildir(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.getuid() or 65534
    rows = []
    for name, number in (("root", 0), ("has", uid), ("needs", uid), ("foreign", 77_777)):
        directory = place / name
        directory.mkdir()
        os.chown(directory, uid, -1)
        rows.append(pwd.struct_passwd((name, "x", number, os.getgid() or 65534, "", str(directory), "/bin/sh")))
    rows.append(pwd.struct_passwd(("homeless", "x", uid, 1, "", "/nonexistent", "/bin/sh")))
    (place / "has" / "Maildir").mkdir()
    monkeypatch.setattr("ekiden.migration.spools.pwd.getpwall", lambda: rows)
    ((account, maildir),) = missing_maildirs("{home}/Maildir")
    assert (account.pw_name, maildir) == ("needs", place / "needs" / "Maildir")
    report = Report()
    assert make_maildir(account, maildir, report)
    assert sorted(path.name for path in maildir.iterdir()) == ["cur", "new", "tmp"]
    assert (maildir.stat().st_uid, maildir.stat().st_mode & 0o777) == (uid, 0o700)
    assert list(missing_maildirs("{home}/Maildir")) == []
    assert not make_maildir(account, Path("/nonexistent/Maildir"), report)
    assert report.count(Kind.LEFT) == 1
