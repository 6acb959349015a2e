"""A machine with users of its own moves in from sendmail: whoever got mail before gets it afterwards. Needs root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.ekiden import COMMAND
from tests.peers.machine import USERS, Machine
from tests.peers.processes import Unavailable, free_port, wait_until

pytestmark = pytest.mark.slow

PEOPLE = {"jiro": 4100, "hana": 4101, "kiku": 4102, "saki": 4103}
ALIASES = "root: jiro\npostmaster: root\nkiku: jiro\nall: hana, saki, kiku\n"


@pytest.fixture
def machine(place: Path) -> Iterator[Machine]:
    """Its accounts are qmail's and four people's, and no others: their homes are made into mailboxes."""
    try:
        made = Machine(place)
    except Unavailable as reason:
        pytest.skip(str(reason))
    homes = {"alias": made.home / "alias", **{name: place / name for name in PEOPLE}}
    rows = [f"{name}:x:{uid}:{gid}::{homes.get(name, made.home)}:/bin/sh\n" for name, (uid, gid) in USERS.items()]
    for name, uid in PEOPLE.items():
        homes[name].mkdir(exist_ok=True)
        os.chown(homes[name], uid, 4100)
        rows.append(f"{name}:x:{uid}:4100::{homes[name]}:/bin/sh\n")
    # In place, because the file is mounted.
    (place / "passwd").write_text("root:x:0:0::/root:/bin/sh\n" + "".join(dict.fromkeys(rows)))
    yield made
    made.run(COMMAND, "--home", made.home, "stop")
    made.stop()


def prepare(place: Path) -> tuple[Path, Path]:
    """sendmail's directory, and the users' spools."""
    mail, spool = place / "mail", place / "spool"
    mail.mkdir()
    spool.mkdir()
    (mail / "aliases").write_text(ALIASES)
    (mail / "local-host-names").write_text("nix.co.jj\n")
    (spool / "jiro").write_bytes(b"From a@b.example Mon Nov 23 12:51:00 2026\nSubject: old\n\nbody\n\n")
    os.chown(spool / "jiro", PEOPLE["jiro"], 4100)
    (place / "saki" / ".forward").write_text("jiro\n")
    os.chown(place / "saki" / ".forward", PEOPLE["saki"], 4100)
    return mail, spool


def subjects(place: Path, name: str) -> list[str]:
    """What is in a user's Maildir, all of which is the user's own."""
    found = []
    for path in (place / name / "Maildir").rglob("*"):
        assert path.stat().st_uid == PEOPLE[name]
        if path.is_file() and path.parent.name in ("new", "cur"):
            (line,) = (line for line in path.read_text().splitlines() if line.startswith("Subject: "))
            found.append(line.removeprefix("Subject: "))
    return sorted(found)


def test_everybody_gets_mail_as_before(machine: Machine, place: Path) -> None:
    mail, spool = prepare(place)
    machine.control("listen", f"smtp 127.0.0.1:{free_port()}")
    migrate = (COMMAND, "--home", machine.home, "migrate", "sendmail", mail, "--spool", spool, "--apply")
    # Those of three people, and alias's, which has mail delivered by default as they do.
    for made in (b" 4 maildirs made", b" 0 maildirs made"):
        done = machine.run(*migrate)
        assert (done.returncode, done.stderr, made in done.stdout) == (0, b"", True)
    assert machine.run(COMMAND, "--home", machine.home, "start").returncode == 0
    for address in ("root@nix.co.jj", "postmaster", "kiku@nix.co.jj", "all"):
        assert machine.run("mailsubj", address, address, data=b"hello\n").returncode == 0
    wait_until(lambda: len(subjects(place, "jiro")) == 6 and subjects(place, "hana") == ["all"], "all is delivered")
    assert subjects(place, "jiro") == ["all", "all", "kiku@nix.co.jj", "old", "postmaster", "root@nix.co.jj"]
    assert subjects(place, "kiku") == subjects(place, "saki") == []
