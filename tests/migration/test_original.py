"""Queues from and for qmail's own programs, as ``record.py`` wrote them down: what they made, and what they took."""

from __future__ import annotations

import json
import os
import re
import tarfile
from pathlib import Path

import pytest
from tests.migration.record import GROUPS, ORIGINAL, listing
from tests.migration.test_qmail_export import export, fill
from tests.peers.ekiden import COMMAND
from tests.peers.processes import run

from ekiden.programs import qmail_qread


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    for name in ("control", "queue"):
        (home / name).mkdir(parents=True)
    (home / "control" / "me").write_text("me.example\n")
    (home / "control" / "locals").write_text("me.example\n")
    return home


def told(text: str) -> list[tuple[str, ...]]:
    """What qmail-qread says of each message: time, sender, recipients that are not done; its number, its octets
    (lines end with LF there, with CRLF here) and when its sender is told of a failure are each system's own."""
    messages = re.split(r"^(?=\d)", text, flags=re.MULTILINE)[1:]
    found = []
    for head, *recipients in map(str.splitlines, messages):
        said = re.fullmatch(r"(.* GMT)  #\d+  \d+  (<.*>) ( bouncing)?", head)
        assert said, head
        found.append((said[1], said[2], *(line for line in recipients if not line.startswith("  done"))))
    return sorted(found)


def test_a_queue_that_qmail_made(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(ORIGINAL / "queue.tar.gz") as archive:
        archive.extractall(tmp_path)
    done = run([COMMAND, "--home", home, "queue", "import", tmp_path / "queue"], 60)
    assert "4 found, 4 taken, 0 by an earlier run, 0 left, 6 recipients, 1 bounces" in done.stdout
    assert qmail_qread.main([], str(home)) == 0
    ours = told(capsys.readouterr().out)
    # Of two messages the original's qmail-qread does not speak: one that qmail-send had not looked at yet, and the
    # notice about a failure, which it would have written when the message's last recipient was done.
    others = [each for each in ours if each[1] == "<new@far.example>" or "\tremote\ts-@far.example" in each]
    assert [each[2:] for each in others] == [
        ("\tlocal\tjiro@me.example", "\tremote\td@far.example"),
        ("\tremote\ts-@far.example",),
    ]
    assert [each for each in ours if each not in others] == told((ORIGINAL / "qread.txt").read_text())


def test_what_qmail_send_has_delivered_of_an_export(home: Path, tmp_path: Path) -> None:
    """The files are the same, octet by octet, as those that notqmail's qmail-send took and delivered."""
    recorded = json.loads((ORIGINAL / "exported.json").read_text())
    queue = tmp_path / "queue"
    queue.mkdir()
    for part in ("mess", "info", "local", "remote", "pid", "bounce", "todo", "intd"):
        (queue / part).mkdir()
        if os.geteuid() == 0:
            os.chown(queue / part, 7794 if part in ("mess", "pid", "todo", "intd") else 7796, GROUPS["qmail"])
    fill(home)
    export(home, queue)
    there = listing(queue)
    if os.geteuid() != 0:
        mine = f"{os.getuid()} {os.getgid()} "
        there = [[part, re.sub(r"^\d+ \d+ ", "", kept.replace(mine, "")), text] for part, kept, text in there]
        recorded["files"] = [[part, kept.split()[-1], text] for part, kept, text in recorded["files"]]
    assert there == sorted(recorded["files"])
    assert recorded["left"] == []
    assert len([line for line in recorded["log"] if "success" in line]) == 4
    got = [(sender, to) for sender, to, _content in recorded["sink"]]
    assert got == [("<>", "b@far.example"), ("<s@t.example>", "a@far.example"), ("<s@t.example>", "c@far.example")]
    contents = [text.replace("\n", "\r\n") for part, _kept, text in there if part == "mess"]
    assert sorted(content for _sender, _to, content in recorded["sink"]) == sorted(contents)
