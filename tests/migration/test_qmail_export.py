"""Our queue into a qmail's: what comes back is what went, and a crash anywhere loses and doubles nothing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from tests.migration.dying import die_after
from tests.peers.ekiden import COMMAND

from ekiden.base.envelope import Envelope, Recipient
from ekiden.migration.finding import Kind, Report
from ekiden.migration.qmail_export import Exporter
from ekiden.migration.qmail_queue import Failure, QmailQueue
from ekiden.queue.intake import Foreign
from ekiden.queue.store import MessageRow
from ekiden.runtime.injection.direct import Direct

BIRTH = 1_700_000_000.25


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("control", "queue"):
        (tmp_path / "home" / name).mkdir(parents=True)
    (tmp_path / "home" / "control" / "me").write_text("me.example\n")
    (tmp_path / "home" / "control" / "inlinebytes").write_text("1000\n")
    fill(tmp_path / "home")
    return tmp_path / "home"


def fill(home: Path) -> None:
    queue = Direct(str(home))
    both = [Recipient(b"jiro@me.example"), Recipient(b"a@far.example")]
    messages = [
        (Envelope(b"s@t.example", both), b"Subject: a\r\n\r\nboth\r\n", False),
        (Envelope(b"", [Recipient(b"b@far.example")]), b"Subject: b\r\n\r\n" + b"large \xff\r\n" * 500, False),
        (Envelope(b"s@t.example", [Recipient(b"c@far.example", 2)]), b"dsn\r\n", False),
        (Envelope(b"s@t.example", [Recipient(b"d@far.example")]), b"held\r\n", True),
    ]
    for number, (envelope, content, held) in enumerate(messages):
        queue.take_over(Foreign(b"%d" % number, BIRTH, held), envelope, content, "test")
    queue.close()


def export(home: Path, directory: Path) -> Report:
    report = Report()
    queue = Direct(str(home))
    try:
        exporter = Exporter(directory, queue, "tester", report)
        for row in queue.pages():
            exporter.export(row)
    finally:
        queue.close()
    return report


def left(home: Path) -> int:
    queue = Direct(str(home))
    try:
        return len(list(queue.pages()))
    finally:
        queue.close()


def check(directory: Path) -> None:
    """What qmail finds: three messages, in its own state S5, each under its inode's number."""
    found = QmailQueue(directory)
    numbers = found.accepted()
    assert len(numbers) == 3
    assert found.unfinished() == []
    messages = []
    for number in numbers:
        assert found.files["mess"][number].stat().st_ino == number
        assert found.files["info"][number].parent.name == str(number % 23)
        message = found.read(number)
        assert message.birth == BIRTH
        messages.append(message)
    (first,) = [message for message in messages if message.local]
    assert (first.sender, first.local, first.remote) == (b"s@t.example", [b"jiro@me.example"], [b"a@far.example"])
    assert {message.content.count(b"\r") for message in messages} == {0}


def test_everything_but_what_is_on_hold(home: Path, tmp_path: Path) -> None:
    report = export(home, tmp_path / "qmail")
    kinds = [finding.kind for finding in report.findings]
    assert kinds == [Kind.CARRIED, Kind.CARRIED, Kind.CHANGED, Kind.LEFT]
    check(tmp_path / "qmail")
    assert left(home) == 1
    assert [finding.kind for finding in export(home, tmp_path / "qmail").findings] == [Kind.LEFT]
    check(tmp_path / "qmail")


def test_a_damaged_content_stays(home: Path, tmp_path: Path) -> None:
    """It was handed over as it was, and removed here."""
    (spool,) = (home / "queue" / "spool").iterdir()
    spool.write_bytes(spool.read_bytes().replace(b"large", b"lorge"))
    with closing(sqlite3.connect(home / "queue" / "queue.sqlite")) as store:
        store.execute("UPDATE message SET content = CAST('DSN' AS BLOB) WHERE id = 3")
        store.commit()
    report = export(home, tmp_path / "qmail")
    left_behind = {finding.place.file: finding.text for finding in report.findings if finding.kind is Kind.LEFT}
    assert "it has another content than came in" in left_behind["message 2"]
    assert "it has 3 octets of content" in left_behind["message 3"]
    assert left(home) == 3
    assert len(QmailQueue(tmp_path / "qmail").accepted()) == 1


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (
            "UPDATE message SET sender = CAST('t@t.example' AS BLOB) WHERE id = 1",
            "its envelope: its check does not fit",
        ),
        (
            "UPDATE part SET recipients = zeroblob(20) WHERE message = 1 AND part = 0",
            "the recipients of its part 0: ",
        ),
        (
            "UPDATE destination SET key = CAST('x' AS BLOB) WHERE CAST(key AS TEXT) LIKE 'local:%'",
            "destination ",
        ),
        ("DELETE FROM part WHERE message = 1", "its recipients are gone"),
    ],
)
def test_what_is_damaged_is_named_and_the_rest_goes(home: Path, tmp_path: Path, harm: str, fault: str) -> None:
    """The first of them ended the export, and nobody knew what had gone before."""
    with closing(sqlite3.connect(home / "queue" / "queue.sqlite")) as store:
        assert store.execute(harm).rowcount
        store.commit()
    command = [COMMAND, "--home", home, "queue", "export", tmp_path / "qmail"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (1, "")
    first, *others = said.stdout.splitlines()
    assert first.startswith(f"left     message 1: it is damaged: {fault}")
    assert first.endswith("; ekiden queue recover")
    assert [line.split(":")[0] for line in others[:3]] == [
        "carried  message 2",
        "changed  message 3",
        "left     message 4",
    ]
    assert left(home) == 2


def test_failures_that_nobody_was_told_of(home: Path, tmp_path: Path) -> None:
    from ekiden.base.outcome import Outcome, Verdict
    from ekiden.queue.store import Ended

    queue = Direct(str(home))
    try:
        exporter = Exporter(tmp_path / "qmail", queue, "tester", Report())
        row = next(queue.pages())
        assert isinstance(row, MessageRow)
        outcome = Outcome(Verdict.FAILED, "5.1.1", "no such user\n\nreally\n")
        told = type(row)(
            row.id, row.birth, row.sender, row.size, row.spool, False, row.meta, (Ended(Recipient(b"x@y"), outcome),)
        )
        exporter.export(told)
    finally:
        queue.close()
    found = QmailQueue(tmp_path / "qmail")
    assert found.read(found.accepted()[0]).failures == [Failure(b"x@y", "no such user/\nreally\n")]


DYING = """
from ekiden.migration import qmail_export
from ekiden.migration.finding import Report
from ekiden.runtime.injection.direct import Direct

Path.rename = counted(Path.rename)
qmail_export._write_durably = counted(qmail_export._write_durably)
qmail_export.sync_directory = counted(qmail_export.sync_directory)
Direct.let_go = counted(Direct.let_go)
queue = Direct(sys.argv[2])
exporter = qmail_export.Exporter(Path(sys.argv[3]), queue, "tester", Report())
for row in queue.pages():
    exporter.export(row)
queue.close()
"""
STEPS = 36


@pytest.mark.slow
@pytest.mark.parametrize("steps", [*range(0, STEPS - 1, 2), STEPS])
def test_a_crash_anywhere_loses_and_doubles_nothing(home: Path, tmp_path: Path, steps: int) -> None:
    directory = tmp_path / "qmail"
    assert die_after(steps, DYING, home, directory) is (steps < STEPS)
    export(home, directory)
    found = QmailQueue(directory)
    assert len(found.accepted()) == 3
    assert len({found.read(number).content for number in found.accepted()}) == 3
    assert left(home) == 1


def test_there_and_back(home: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> dict[str, object]:
        argv = [COMMAND, "--home", home, "queue", *arguments, str(tmp_path / "qmail"), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.stderr == ""
        totals: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return totals

    there = run("export")
    assert (there["found"], there["moved"], there["left"], there["recipients"]) == (4, 3, 1, 4)
    back = run("import")
    assert (back["found"], back["taken"], back["left"], back["recipients"]) == (3, 3, 0, 4)
    queue = Direct(str(home))
    try:
        rows = list(queue.pages())
        assert {row.birth for row in rows} == {BIRTH}
        assert sorted(queue.content(row)[:12] for row in rows) == [
            b"Subject: a\r\n",
            b"Subject: b\r\n",
            b"dsn\r\n",
            b"held\r\n",
        ]
    finally:
        queue.close()
