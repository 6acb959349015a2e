"""``ekiden migrate sendmail`` as an administrator uses it, and the home that it leaves."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.peers.ekiden import NOBODY, Ekiden
from tests.peers.processes import wait_until
from tests.peers.sinks import Sink

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent

MAIL = {
    "sendmail.mc": "FEATURE(`virtusertable')dnl\nFEATURE(`mailertable')dnl\nFEATURE(`access_db')dnl\n"
    "define(`confMAX_MESSAGE_SIZE', `2000000')dnl\nMASQUERADE_AS(`nix.example')dnl\nMAILER(`smtp')dnl\n",
    "local-host-names": "nix.example\nmixed.example\n",
    "relay-domains": "192.168.7\nfriend.example\n",
    "access": "From:spam@evil.example\tREJECT\nConnect:bad.example\tREJECT\n",
    "virtusertable": "info@mixed.example\tbob\n",
    "mailertable": "lan.example\tsmtp:[192.168.1.7]\n",
    "aliases": "MAILER-DAEMON: postmaster\npostmaster: root\nroot: bob\nnobody: /dev/null\n",
}


@pytest.fixture
def mail(place: Path) -> Path:
    """sendmail's directory."""
    directory = place / "mail"
    directory.mkdir()
    for name, text in MAIL.items():
        (directory / name).write_text(text)
    return directory


def migrate(home: Ekiden, *arguments: str | Path, code: int = 1) -> list[dict[str, Any]]:
    done = home.command("migrate", "sendmail", "--json", *map(str, arguments), check=False)
    assert done.returncode == code, done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


def snapshot(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its content and the time of its last change."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def route(home: Ekiden, address: str) -> tuple[str, str]:
    """Where mail for an address goes."""
    answer = json.loads(home.command("route", "--json", address).stdout)
    return answer["recipient"], answer["destination"]


def test_nothing_is_changed_without_apply(home: Ekiden, mail: Path) -> None:
    before = snapshot(home.home)
    *_lines, total = migrate(home, mail)
    assert total["applied"] is False
    assert snapshot(home.home) == before


def test_the_tables_decide_afterwards(home: Ekiden, mail: Path) -> None:
    home.control("locals", home.fqdn, "extra.example")
    lines = migrate(home, mail, "--apply")
    actions = {line["file"]: line["action"] for line in lines if "action" in line}
    assert actions["control/locals"] == "keep", "it has a name that sendmail does not know"
    assert actions["control/rcpthosts"] == "complete"
    assert [line["line"] for line in lines if line.get("finding") == "left"] == [2]
    migrate(home, mail, "--apply", "--replace")
    assert route(home, "joe@nix.example") == ("joe@nix.example", "local")
    assert route(home, "joe@lan.example") == ("joe@lan.example", "[192.168.1.7]:25")
    assert route(home, "info@mixed.example") == ("virtusertable-mixed.example-info@mixed.example", "local")
    assert route(home, "joe@extra.example") == ("joe@extra.example", "extra.example")
    assert home.command("check", check=False).returncode == 0


def test_a_second_run_changes_nothing(home: Ekiden, mail: Path) -> None:
    migrate(home, mail, "--apply", "--replace")
    before = snapshot(home.home)
    lines = migrate(home, mail, "--apply", "--replace")
    assert {line["action"] for line in lines if "action" in line} == {"same"}
    assert snapshot(home.home) == before


def test_aliases_lead_where_sendmail_had_them(home: Ekiden, mail: Path) -> None:
    migrate(home, mail, "--apply", "--replace")
    for name, extension, target in (
        ("postmaster", "EXT=postmaster", b"root@ekiden.example"),
        ("mailer-daemon", "EXT=mailer-daemon", b"postmaster@ekiden.example"),
        ("root", "EXT=root", b"bob@ekiden.example"),
        ("default", "DEFAULT=nobody", b""),
    ):
        command = (home.home / "alias" / f".qmail-{name}").read_text()
        assert command == "|fastforward -d ../control/aliases.cdb\n"
        environment = [
            f"PATH={home.home}/bin:{os.environ['PATH']}",
            extension,
            "HOST=nix.example",
            "SENDER=a@b.example",
        ]
        line = ["env", *environment, "sh", "-c", command[1:].replace("-d", "-nd")]
        said = subprocess.run(line, cwd=home.home / "alias", capture_output=True, check=True).stderr
        assert said.endswith(b"to <%b>\n" % target if target else b"no forwarding\n")


def test_virtual_users_get_their_mail(home: Ekiden, mail: Path) -> None:
    inbox = home.make_inbox("bob")
    migrate(home, mail, "--apply", "--replace")
    if os.getuid() == 0:
        # The machine has no user alias.
        os.chown(home.home / "alias", NOBODY, NOBODY)
    home.start()
    home.command("mailsubj", "test", "info@mixed.example")
    wait_until(lambda: [*(inbox / "new").iterdir()], "the mail is there")
    wait_until(lambda: not home.queue(), "the queue is empty")
    assert len([*(inbox / "new").iterdir()]) == 1


def test_words_that_are_no_text_are_quoted(home: Ekiden, mail: Path) -> None:
    (mail / "local-host-names").write_bytes(b"nix.example\n\xff\xfe\n\x1b[2J\n")
    done = home.command("migrate", "sendmail", str(mail), check=False)
    assert done.returncode == 1
    assert "'\\udcff\\udcfe' is not a host name" in done.stdout
    assert "\x1b" not in done.stdout
    assert any("udcff" in str(line.get("text")) for line in migrate(home, mail))


def test_spools(home: Ekiden, mail: Path, place: Path) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    directory = place / "spool"
    directory.mkdir()
    (directory / user).write_bytes(b"From a@b.example Mon Nov 23 12:51:00 2026\nSubject: x\n\nbody\n\n")
    template = f"{place}/{{user}}-Maildir"
    for added in (1, 0):
        total = migrate(home, mail, "--spool", directory, "--maildirs", template, "--apply")[-1]
        assert total["spool"] == {"spools": 1, "messages": 1, "added": added, "octets": 17}
    (message,) = (place / f"{user}-Maildir" / "new").iterdir()
    assert message.read_bytes() == b"Subject: x\n\nbody\n"


QUEUED = ("6ANDfiEG005595", "6ANDfirG005592", "6ANDgWg4006069")


@pytest.fixture
def mqueue(place: Path) -> Path:
    """Messages of sendmail's: three for six recipients elsewhere, one on hold, and one that leads to a program."""
    directory = place / "mqueue"
    directory.mkdir()
    for name in (*QUEUED, "6ANDgBG1005726", "6ANDgBMV005741"):
        for path in (HERE / "mqueue").glob(f"?f{name}"):
            shutil.copy(path, directory)
    return directory


def test_the_queue_is_delivered_once(home: Ekiden, mail: Path, mqueue: Path, sink: Sink) -> None:
    (mail / "mailertable").unlink()
    home.routes(f":{sink.route}")
    other = mqueue.with_name("mqueue-client")
    other.mkdir()
    for path in mqueue.glob("?f6ANDfiEG005595"):
        path.rename(other / path.name)
    for taken, again in ((4, 0), (0, 0)):
        lines = migrate(home, mail, "--queue", mqueue, "--queue", other, "--apply", "--replace")
        assert lines[-1]["queue"] == {
            "found": 5 if taken else 1,
            "taken": taken,
            "by an earlier run": again,
            "left": 1,
            "recipients": 7 if taken else 0,
            "octets": lines[-1]["queue"]["octets"],
        }
    ((program, remedy),) = [
        (line["text"], line["remedy"])
        for line in lines
        if line.get("finding") == "left" and line["file"].startswith(str(mqueue))
    ]
    assert "|/bin/cat" in program
    assert remedy
    home.start()
    wait_until(lambda: len(home.queue()) == 1, "all but what is on hold is delivered")
    contents = [message.content for message in sink.received()]
    for name in QUEUED:
        assert contents.count((HERE / "delivered" / name).read_bytes().replace(b"\n", b"\r\n")) == 1
    (bounce,) = (message for message in sink.received() if message.to == ["c@far.example"])
    assert bounce.sender.startswith("<>")
    assert home.command("audit").stdout.endswith(" 0 problems\n")
    (held,) = home.queue()
    assert (held["held"], held["sender"]) == (True, "x@a.example")


def test_the_queue_is_not_taken_while_ekiden_runs(home: Ekiden, mail: Path, mqueue: Path) -> None:
    home.start()
    before, queued = snapshot(home.home / "control"), snapshot(mqueue)
    done = home.command("migrate", "sendmail", str(mail), "--queue", str(mqueue), "--apply", check=False)
    assert (done.returncode, "stop" in done.stdout) == (1, True)
    assert (snapshot(home.home / "control"), snapshot(mqueue)) == (before, queued)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["/nosuch"], 2, "does not exist"),
        (["--queue"], 2, "requires an argument"),
    ],
)
def test_wrong_use(home: Ekiden, arguments: list[str], code: int, said: str) -> None:
    done = home.command("migrate", "sendmail", *arguments, check=False)
    assert done.returncode == code
    assert said in done.stdout


def test_a_home_without_a_name_is_refused(place: Path, mail: Path) -> None:
    done = Ekiden(place / "other").command("migrate", "sendmail", str(mail), check=False)
    assert done.returncode == 1
    assert "not configured; first: ekiden" in done.stdout
