"""ekiden install and instcheck: a user's own home, and root's on a machine that has never seen qmail."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from tests.peers.ekiden import COMMAND, NOBODY
from tests.peers.fresh import QMAILS, Fresh
from tests.peers.processes import free_port, wait_until

from ekiden.installation.scripts import names

UID = os.getuid() or NOBODY
WAYS = {"home", "proc", "binm1", "binm2", "binm3"}
BOOT = {*WAYS, *(f"{way}+df" for way in WAYS), "init", "ekiden.service"}


def ekiden(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=60)


def instcheck(home: Path, *arguments: str) -> list[str]:
    done = ekiden("--home", home, "instcheck", *arguments)
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr.splitlines()


def snapshot(home: Path) -> dict[str, tuple[int, int, int, int, int]]:
    """Everything below: inode, owner, group, mode and when it was changed last."""
    found = {}
    for path in (home, *home.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_uid, status.st_gid, status.st_mode, status.st_ctime_ns)
    return found


@pytest.fixture
def own(place: Path) -> Path:
    """A home of a user's own: root installs it as that user."""
    home = place / "home"
    home.mkdir()
    os.chown(home, UID, -1)
    assert ekiden("install", home).returncode == 0
    return home


def test_a_users_own_home(own: Path) -> None:
    there = {path.name for path in own.iterdir()}
    assert there == {"alias", "bin", "boot", "control", "doc", "log", "man", "queue", "run", "users"}
    assert {*names(), "who@"} <= {path.name for path in (own / "bin").iterdir()}
    assert {path.name for path in (own / "boot").iterdir()} == BOOT
    assert f'PATH="{own}/bin:$PATH"' in (own / "boot" / "home").read_text()
    assert {path.stat().st_uid for path in (own, *own.rglob("*"))} == {UID}
    assert (own / "boot" / "init").stat().st_mode & 0o7777 == 0o755
    unit = own / "boot" / "ekiden.service"
    assert unit.stat().st_mode & 0o7777 == 0o644
    assert f"\nEnvironment=EKIDEN_HOME={own}\nExecStart={COMMAND} start --foreground\n" in unit.read_text()
    assert instcheck(own) == []
    done = subprocess.run([own / "bin" / "instcheck"], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_second_run_changes_nothing(own: Path) -> None:
    for name in ("control/me", "users/assign", "alias/.qmail-root", "queue/queue.sqlite"):
        (own / name).write_text("kept\n")
        (own / name).chmod(0o600)
    before = snapshot(own)
    done = ekiden("install", own)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert snapshot(own) == before


def spoil(home: Path) -> None:
    (home / "bin" / "qmail-send").unlink()
    (home / "bin" / "forward").chmod(0o711)
    (home / "bin" / "mailq").write_text("#!/bin/sh\n")
    (home / "boot" / "proc").unlink()
    (home / "queue").chmod(0o777)
    shutil.rmtree(home / "users")


def test_repairs_what_differs_and_says_so(own: Path) -> None:
    spoil(own)
    assert instcheck(own) == [
        f"instcheck: warning: {own}/users does not exist",
        f"instcheck: warning: {own}/queue has wrong permissions",
        "instcheck: warning: .../bin/forward has wrong permissions",
        "instcheck: warning: .../bin/qmail-send does not exist",
        "instcheck: warning: .../boot/proc does not exist",
    ]
    assert instcheck(own, "queue-only") == [f"instcheck: warning: {own}/queue has wrong permissions"]
    lines = [
        f"make directory {own}/users, mode 755",
        f"change {own}/queue to mode 750",
        f"change {own}/bin/forward to mode 755",
        f"write {own}/bin/mailq",
        f"write {own}/bin/qmail-send",
        f"write {own}/boot/proc",
    ]
    before = snapshot(own)
    assert ekiden("install", "--dry-run", own).stdout.splitlines() == lines
    assert snapshot(own) == before
    assert ekiden("install", own).stdout.splitlines() == lines
    assert instcheck(own) == []
    changed = {path for path, state in snapshot(own).items() if before.get(path) != state}
    repaired = {"users", "queue", "bin/forward", "bin/mailq", "bin/qmail-send", "boot/proc"}
    assert changed == {str(own / name) for name in repaired | {"bin", "boot"}} | {str(own)}


def test_links_are_the_administrators(own: Path) -> None:
    client = (own / "bin" / "qmail-qmqpc").read_text()
    (own / "bin" / "qmail-queue").unlink()
    (own / "bin" / "qmail-queue").symlink_to("qmail-qmqpc")
    assert ekiden("install", own).stdout == ""
    assert ekiden("--home", own, "config", "a.example").returncode == 0
    assert (own / "bin" / "qmail-queue").readlink() == Path("qmail-qmqpc")
    assert (own / "bin" / "qmail-qmqpc").read_text() == client


def test_what_is_in_the_way_is_told_before_anything_is_changed(own: Path) -> None:
    spoil(own)
    (own / "boot" / "proc").mkdir(mode=0o755)
    os.chown(own / "boot" / "proc", UID, -1)
    before = snapshot(own)
    done = ekiden("install", own)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {own}/boot/proc has wrong type: move it out of the way\n"
    assert snapshot(own) == before
    assert "instcheck: warning: .../boot/proc has wrong type" in instcheck(own)


def test_homes_that_cannot_be(place: Path) -> None:
    (place / "file").touch()
    done = ekiden("install", "--create-users", "--dry-run", place / "a b")
    assert done.returncode == 1 and "without spaces" in done.stderr
    for arguments in (("install", "--dry-run", "--create-users", place / "file" / "home"),):
        done = ekiden(*arguments)
        assert done.returncode == 1 and "Not a directory" in done.stderr and "Traceback" not in done.stderr
    done = ekiden("--home", place / "none", "instcheck")
    reason = f"instcheck: fatal: unable to switch to {place}/none: No such file or directory\n"
    assert (done.returncode, done.stderr) == (111, reason)
    assert ekiden("instcheck", "more").returncode == 100


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's home")
def test_links_do_not_lead_root_out_of_a_users_home(own: Path, place: Path) -> None:
    target = place / "roots"
    target.mkdir(mode=0o700)
    shutil.rmtree(own / "doc")
    (own / "doc").symlink_to(target)
    (own / "bin").rename(own / "bin.old")
    (own / "bin").symlink_to(target)
    done = ekiden("install", own)
    assert done.returncode == 1 and "Permission denied" in done.stderr
    assert (target.stat().st_uid, stat.S_IMODE(target.stat().st_mode), list(target.iterdir())) == (0, 0o700, [])


@pytest.mark.slow
def test_missing_users_are_told_by_name_and_nothing_is_changed(fresh: Fresh) -> None:
    home = fresh.place / "qmail"
    done = fresh.run(COMMAND, "install", home)
    told = ["group qmail", "group nofiles"]
    told += [f"user {name}" for name in ("alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails")]
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.removeprefix("Error: ").splitlines()[:-1] == [f"there is no {name}" for name in told]
    assert not home.exists()
    done = fresh.run(COMMAND, "install", "--create-users", "--dry-run", home)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[:3] == ["add group qmail", "add group nofiles", "add user alias of group nofiles"]
    assert f"make directory {home}/alias, mode 2755" in lines
    assert not home.exists() and not QMAILS & fresh.names("passwd").keys()
    home.mkdir()
    done = fresh.run(COMMAND, "--home", home, "instcheck")
    assert (done.returncode, done.stderr.splitlines()) == (111, [f"instcheck: fatal: there is no {n}" for n in told])


@pytest.mark.slow
def test_a_machine_from_nothing_to_mail_for_root(fresh: Fresh) -> None:
    home = fresh.place / "qmail"
    done = fresh.run(COMMAND, "install", "--create-users", home)
    assert done.returncode == 0
    # The tests' interpreter may be root's own.
    assert all(line.startswith("warning: other users cannot enter /") for line in done.stderr.splitlines())
    check_accounts(fresh, home)
    assert fresh.run(COMMAND, "install", "--create-users", home).stdout == ""
    configured = fresh.run(COMMAND, "--home", home, "config", "a.example", "--listen", f"127.0.0.1:{free_port()}")
    assert configured.returncode == 0
    (home / "alias" / ".qmail-root").write_text("./Root\n")
    started = fresh.run(COMMAND, "--home", home, "start")
    try:
        assert (started.returncode, started.stderr) == (0, "")
        assert fresh.run(home / "bin" / "qmail-inject", data="To: root\n\nhello\n").returncode == 0
        mailbox = home / "alias" / "Root"
        wait_until(lambda: mailbox.exists() and mailbox.read_text().endswith("\nhello\n\n"), "the mail")
        assert mailbox.stat().st_uid == int(fresh.names("passwd")["alias"][2])
        done = fresh.run(home / "bin" / "instcheck")
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        fresh.run(COMMAND, "--home", home, "stop")
    assert fresh.run(home / "bin" / "instcheck").stderr == ""
    assert "nobody" not in (home / "log" / "ekiden.log").read_text()


def check_accounts(fresh: Fresh, home: Path) -> None:
    users, groups = fresh.names("passwd"), fresh.names("group")
    for name in QMAILS - {"qmail", "nofiles"}:
        group = "qmail" if name in ("qmailq", "qmailr", "qmails") else "nofiles"
        assert users[name][3] == groups[group][2]
        assert users[name][5] == str(home / "alias" if name == "alias" else home)
        assert int(users[name][2]) < 1000
    expected = {
        "": ("root", "qmail", 0o755),
        "alias": ("alias", "qmail", 0o2755),
        "queue": ("qmailq", "qmail", 0o750),
        "log": ("qmaill", "nofiles", 0o755),
        "bin/qmail-send": ("root", "qmail", 0o755),
        "boot/home+df": ("root", "qmail", 0o755),
    }
    for path, (user, group, mode) in expected.items():
        status = (home / path).stat()
        found = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        assert found == (int(users[user][2]), int(groups[group][2]), mode), path


@pytest.mark.slow
def test_a_queue_in_use_keeps_its_owner(fresh: Fresh) -> None:
    home = fresh.place / "qmail"
    fresh.run(COMMAND, "--home", home, "config", "a.example", "--listen", f"127.0.0.1:{free_port()}")
    try:
        assert fresh.run(COMMAND, "--home", home, "start").returncode == 0
        done = fresh.run(COMMAND, "install", "--create-users", home)
        assert (done.returncode, done.stdout) == (1, "")
        assert "as another user than will own queue/" in done.stderr
        assert not QMAILS & fresh.names("passwd").keys()
    finally:
        fresh.run(COMMAND, "--home", home, "stop")
    assert fresh.run(COMMAND, "install", "--create-users", home).returncode == 0
    done = fresh.run(COMMAND, "--home", home, "instcheck")
    assert (done.returncode, done.stderr) == (0, "")
