"""Aliases in sendmail's manner, from the alias file to real deliveries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.peers.ekiden import NOBODY
from tests.peers.processes import wait_until
from tests.programs.conftest import Running, Site

from ekiden.tables.cdb import Cdb

ALIASES = """\
# sendmail's
MAILER-DAEMON: root
nobody: /dev/null
root: tell, "|cat > {place}/piped"
staff: :include:{place}/staff
owner-staff: tell
loop: loop, loop2
loop2: loop
kept: |"cat > {place}/kept"
"""


def alias_file(site: Site, text: str) -> Path:
    path = site.home / "control" / "aliases"
    path.write_text(text)
    return path


def test_newaliases(site: Site) -> None:
    alias_file(site, "root: bob, a@b.example\nnobody:\n\n   /dev/null\n")
    assert site.run("newaliases").returncode == 0
    database = site.home / "control" / "aliases.cdb"
    with Cdb(database) as cdb:
        assert list(cdb.items()) == [
            (b":root@", b"&a@b.example\0&bob@indy2.nix.co.jj\0"),
            (b":nobody@", b""),
        ]
    assert database.stat().st_mode & 0o777 == 0o644


def test_a_file_that_is_named(site: Site) -> None:
    (site.place / "mine").write_text("a: b@c.d\n")
    assert site.run("newaliases", str(site.place / "mine")).returncode == 0
    assert (site.place / "mine.cdb").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a: b\n\nc: /var/mail/x\n",
            "aliases:3: delivery to the file /var/mail/x is not supported; a .qmail file can do it",
        ),
        ("a: b\nc:\n", "aliases:2: the alias has no recipients"),
        ("a: |run it\n", "aliases:1: a command with arguments must stand in quotes"),
        ("a: b@c>\n", "aliases:1: > without <"),
        ('a: "b\n', "aliases:1: octet 2"),
        ("a: :include:\n", "aliases:1: :include: names no file"),
        (f"a: {'x' * 801}@y.z\n", "aliases:1: an address has more than 800 octets"),
        ("a: b\0c\n", "aliases:1: b\0c@indy2.nix.co.jj holds a NUL or a line end"),
    ],
)
def test_what_cannot_be_meant_leaves_the_database_alone(site: Site, text: str, said: str) -> None:
    alias_file(site, "old: b\n")
    assert site.run("newaliases").returncode == 0
    before = (site.home / "control" / "aliases.cdb").read_bytes()
    alias_file(site, text)
    done = site.run("newaliases")
    assert (done.returncode, done.stdout) == (111, b"")
    assert done.stderr.decode() == f"newaliases: fatal: {site.home}/control/{said}\n"
    assert (site.home / "control" / "aliases.cdb").read_bytes() == before


@pytest.mark.parametrize("argv", [["a", "b"], ["-x"]])
def test_usage(site: Site, argv: list[str]) -> None:
    assert site.run("newaliases", *argv).returncode == 100
    for name in ("setforward", "newinclude", "setmaillist", "fastforward"):
        assert site.run(name, "one", "two", "three").returncode == 100, name
    assert site.run("dot-forward", "-x").returncode == 100


def test_files_that_are_not_there(site: Site) -> None:
    assert site.run("newaliases", "/nonexistent").stderr.endswith(b"/nonexistent: No such file or directory\n")
    assert site.run("newinclude", "/nonexistent").returncode == 111
    done = site.run("fastforward", "/nonexistent", RECIPIENT="a@b")
    assert (done.returncode, done.stderr) == (
        111,
        b"fastforward: fatal: unable to read /nonexistent: No such file or directory\n",
    )
    assert site.run("fastforward", "x").stderr == b"fastforward: fatal: $RECIPIENT must be set\n"


def test_mailing_lists(site: Site) -> None:
    lists = b"./more.bin\n&a@b.c\nd@e.f  \n# none\n\n"
    assert site.run("setmaillist", "l.bin", "l.tmp", data=lists, cwd=site.place).returncode == 0
    assert (site.place / "l.bin").read_bytes() == b"./more.bin\0&a@b.c\0&d@e.f\0"
    printed = site.run("printmaillist", data=(site.place / "l.bin").read_bytes())
    assert printed.stdout == b"./more.bin\n&a@b.c\n&d@e.f\n"
    assert site.run("setmaillist", "l.bin", "l.tmp", data=b"|rm -rf /\n", cwd=site.place).returncode == 111


@pytest.mark.parametrize("data", [b"a@b\0", b"&a@b", b"\0", b"&a\nb\0", b"&a \0", b"|x\0"])
def test_no_mailing_list(site: Site, data: bytes) -> None:
    done = site.run("printmaillist", data=data)
    assert (done.returncode, done.stdout) == (100, b"")
    assert done.stderr.startswith(b"printmaillist: fatal: bad mailing list format: ")


@pytest.mark.parametrize("data", [b"", b"x" * 3000, b"\0" * 2048 + b"x"])
def test_no_database(site: Site, data: bytes) -> None:
    done = site.run("printforward", data=data)
    assert (done.returncode, done.stdout) == (100, b"")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"a@: b@c", b"line 1: the final instruction must end with a semicolon"),
        (b"\na@: b:c;", b"line 2: a second colon is not allowed; put a backslash in front of it"),
        (b"a@, b;", b"line 1: commas and semicolons are not allowed before the colon"),
        (b"a\0@: b;", b"line 1: NUL is not allowed"),
    ],
)
def test_no_table(site: Site, table: bytes, said: bytes) -> None:
    done = site.run("setforward", "x.cdb", "x.tmp", data=table, cwd=site.place)
    assert (done.returncode, done.stderr) == (100, b"setforward: fatal: " + said + b"\n")
    assert not (site.place / "x.cdb").exists()


def forward(site: Site, *argv: str, message: bytes = b"Subject: x\n\n", **environment: str) -> tuple[int, bytes]:
    """Run fastforward with the message as a file at descriptor 0, as qmail-local does."""
    (site.place / "input").write_bytes(message)
    variables = {"SENDER": "a@b", "DTLINE": "Delivered-To: root@h\n", "RPLINE": "Return-Path: <a@b>\n", "UFLINE": ""}
    with open(site.place / "input", "rb") as file:
        done = subprocess.run(
            [site.home / "bin" / "fastforward", *argv],
            stdin=file,
            capture_output=True,
            env=site.environment | variables | environment,
            cwd=site.place,
            timeout=60,
        )
    return done.returncode, done.stderr


def table(site: Site, text: bytes) -> None:
    assert site.run("setforward", "t.cdb", "t.tmp", data=text, cwd=site.place).returncode == 0


def test_forwarding(recorded: Site) -> None:
    table(recorded, b"root@h: ?owner@h, x@y, |cat\\ >\\ one, !cat\\ >\\ two;")
    code, said = forward(recorded, "-p", "t.cdb", RECIPIENT="ROOT@H")
    assert code == 99 and said.startswith(b"fastforward: qp ")
    assert recorded.envelope == (b"owner@h", [b"x@y"])
    assert recorded.message == b"Delivered-To: root@h\nSubject: x\n\n"
    assert (recorded.place / "one").read_bytes() == b"Subject: x\n\n"
    assert (recorded.place / "two").read_bytes() == b"Return-Path: <a@b>\nDelivered-To: root@h\nSubject: x\n\n"


@pytest.mark.parametrize(
    ("command", "code"), [(b"exit\\ 1", 111), (b"exit\\ 65", 100), (b"exit\\ 99", 111), (b"kill\\ -9\\ $$", 111)]
)
def test_a_program_that_fails_forwards_nothing(recorded: Site, command: bytes, code: int) -> None:
    table(recorded, b"root@h: x@y, |" + command + b";")
    assert forward(recorded, "t.cdb", RECIPIENT="root@h")[0] == code
    assert not (recorded.place / "message").exists()


@pytest.mark.parametrize(("option", "code", "said"), [("-P", 100, b"Sorry, no mailbox here"), ("-p", 0, b"")])
def test_an_unknown_recipient(recorded: Site, option: str, code: int, said: bytes) -> None:
    table(recorded, b"root@h: x@y;")
    found = forward(recorded, option, "t.cdb", RECIPIENT="bob@h")
    assert found[0] == code and found[1].startswith(said)


def test_a_list_that_cannot_be_read_defers_and_does_nothing(recorded: Site) -> None:
    table(recorded, b"root@h: |touch\\ ran, ./list.bin;")
    assert forward(recorded, "t.cdb", RECIPIENT="root@h")[0] == 111
    os.mkfifo(recorded.place / "list.bin")
    (recorded.place / "list.bin").chmod(0o644)
    assert forward(recorded, "t.cdb", RECIPIENT="root@h")[0] == 111
    (recorded.place / "list.bin").unlink()
    (recorded.place / "list.bin").write_bytes(b"&x@y\0")
    (recorded.place / "list.bin").chmod(0o600)
    assert forward(recorded, "t.cdb", RECIPIENT="root@h")[0] == 111
    assert not (recorded.place / "ran").exists()
    (recorded.place / "list.bin").chmod(0o644)
    assert forward(recorded, "t.cdb", RECIPIENT="root@h")[0] == 0
    assert recorded.envelope == (b"a@b", [b"x@y"])


@pytest.mark.slow
def test_aliases_of_a_running_home(running: Running, place: Path) -> None:
    """sendmail -bi compiles; mail for an alias reaches its recipients through ~alias/.qmail-default."""
    (running.home / "control" / "aliases").write_text(ALIASES.format(place=place))
    (running.home / "alias" / ".qmail-default").write_text("|fastforward -d ../control/aliases.cdb\n")
    (running.home / "alias" / ".qmail-root").unlink()
    (place / "staff").write_text("tell, Root <root>\n")
    environment = {**os.environ, "EKIDEN_HOME": str(running.home)}
    bin_ = running.home / "bin"
    place.chmod(0o777)
    subprocess.run([bin_ / "sendmail", "-bi"], env=environment, check=True)
    subprocess.run([bin_ / "newinclude", place / "staff"], env=environment, check=True)
    for recipient in ("root", "staff", "loop", "nobody", "unknown", "kept"):
        data = f"Subject: to {recipient}\n\n".encode()
        argv = [bin_ / "sendmail", "-f", "tell@ekiden.example", recipient]
        subprocess.run(argv, input=data, env=environment, check=True)
    # root's, staff's (twice, once through root), and bounces: of unknown, of loop to itself directly and by loop2.
    messages = [path.read_text() for path in running.arrived(6)]
    bounces = [text for text in messages if text.startswith("Return-Path: <>\n")]
    delivered = [text for text in messages if text not in bounces]
    assert sorted(text.partition("Subject: ")[2] for text in delivered) == ["to root\n\n"] + ["to staff\n\n"] * 2
    senders = sorted(text.partition("\n")[0] for text in delivered)
    assert senders == [f"Return-Path: <{user}@ekiden.example>" for user in ("owner-staff", "owner-staff", "tell")]
    reasons = ("Sorry, no mailbox here by that name.", "This message is looping")
    assert [sum(reason in text for text in bounces) for reason in reasons] == [1, 2]
    kept, piped = place / "kept", place / "piped"
    wait_until(lambda: kept.exists() and kept.read_text().endswith("Subject: to kept\n\n"), "mail in a file")
    wait_until(lambda: piped.exists() and "Delivered-To: " in piped.read_text(), "mail for a program")
    if os.geteuid() == 0:
        assert (place / "piped").stat().st_uid == NOBODY
