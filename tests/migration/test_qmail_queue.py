"""A qmail queue, in every state that qmail's INTERNALS names, into ours: once each, wherever it is interrupted."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.migration.dying import die_after
from tests.peers.ekiden import COMMAND

from ekiden.migration.finding import Kind, Report
from ekiden.migration.qmail_queue import Damaged, Failure, QmailQueue
from ekiden.migration.qmail_transfer import Transfer, finish
from ekiden.runtime.injection.direct import Direct
from ekiden.settings.control import read

BIRTH = 1_700_000_000


class Source:
    """A queue directory that is made as qmail makes it, with the split of ``split`` or without."""

    def __init__(self, directory: Path, split: int = 23) -> None:
        self.directory = directory
        self.split = split
        for part in ("mess", "info", "local", "remote", "todo", "intd", "bounce", "lock", "pid"):
            (directory / part).mkdir(parents=True)
        (directory / "lock" / "sendmutex").touch()

    def write(self, part: str, number: int, octets: bytes) -> Path:
        place = self.directory / part
        if self.split and part in ("mess", "info", "local", "remote"):
            place = place / str(number % self.split)
            place.mkdir(exist_ok=True)
        path = place / str(number)
        path.write_bytes(octets)
        os.utime(path, (BIRTH, BIRTH))
        return path

    def preprocessed(self, number: int, content: bytes, local: bytes = b"", remote: bytes = b"") -> None:
        """State S5. The sender is ``s@far.example``."""
        self.write("mess", number, content)
        self.write("info", number, b"Fs@far.example\0")
        for part, records in (("local", local), ("remote", remote)):
            if records:
                self.write(part, number, records)

    def queued(self, number: int, content: bytes, envelope: bytes) -> None:
        """State S4."""
        self.write("mess", number, content)
        self.write("todo", number, envelope)
        self.write("intd", number, envelope)

    def names(self) -> set[str]:
        """Numbered files that are still where qmail looks."""
        paths = [path for path in self.directory.rglob("*") if path.is_file() and path.name.isdigit()]
        return {str(path.relative_to(self.directory)) for path in paths if "taken" not in path.parts}


@pytest.fixture(params=[23, 1, 0], ids=["split", "one", "flat"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return Source(tmp_path / "source", request.param)


def fill(source: Source) -> None:
    source.preprocessed(101, b"Subject: a\n\nboth\n", b"Tvirt-jiro@virtual.example\0Ddone@here\0", b"Ta@b.example\0")
    source.queued(202, b"Subject: b\n\n\xff\n", b"u1000\0p77\0Fx@y.example\0Tc@d.example\0Te@f.example\0")
    source.preprocessed(303, b"Subject: c\n\nfailed\n", remote=b"Dgone@b.example\0Tlater@b.example\0")
    source.write("bounce", 303, b"<gone@b.example>:\nno such user/\nreally\n\n<two@b.example>:\nfull\n\n")
    source.preprocessed(404, b"only a bounce\n", remote=b"Dgone@b.example\0")
    source.write("bounce", 404, b"<gone@b.example>:\nno\n\n")
    source.preprocessed(505, b"finished\n", local=b"Da@b\0")
    source.write("mess", 606, b"unfinished")
    source.write("mess", 707, b"unfinished")
    source.write("intd", 707, b"u1\0p2\0Fa")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("control", "queue"):
        (tmp_path / "home" / name).mkdir(parents=True)
    (tmp_path / "home" / "control" / "me").write_text("me.example\n")
    (tmp_path / "home" / "control" / "virtualdomains").write_text("virtual.example:virt\n")
    return tmp_path / "home"


@pytest.fixture
def queue(home: Path) -> Iterator[Direct]:
    direct = Direct(str(home))
    yield direct
    direct.close()


def run(source: Source, queue: Direct | None, home: Path) -> tuple[Transfer, Report]:
    report = Report()
    finish(QmailQueue(source.directory))
    found = QmailQueue(source.directory)
    transfer = Transfer(found, queue, read(home / "control"), report)
    for number in found.accepted():
        transfer.take(number)
    return transfer, report


def stored(queue: Direct) -> list[tuple[bytes, list[bytes], float, bytes]]:
    """What is in our queue: sender, recipients, birth and content."""
    store = queue._store
    rows = store.messages(0, 100)
    return [
        (
            row.sender,
            [recipient.address for part in store.parts(row.id) for recipient in part.recipients],
            row.birth,
            store.content(row.id) or b"",
        )
        for row in rows
    ]


def test_states(source: Source) -> None:
    fill(source)
    found = QmailQueue(source.directory)
    assert found.accepted() == [101, 202, 303, 404, 505]
    assert found.unfinished() == [606, 707]
    first = found.read(101)
    assert (first.birth, first.sender) == (BIRTH, b"s@far.example")
    assert (first.local, first.remote) == ([b"virt-jiro@virtual.example"], [b"a@b.example"])
    assert found.read(202).unsorted == [b"c@d.example", b"e@f.example"]
    assert found.read(303).failures == [
        Failure(b"gone@b.example", "no such user/\nreally\n"),
        Failure(b"two@b.example", "full\n"),
    ]


def test_an_envelope_is_believed_before_what_a_crash_left_beside_it(source: Source) -> None:
    source.preprocessed(1, b"x\n", remote=b"Told@b\0")
    source.queued(1, b"x\n", b"u1\0p2\0Fs@t\0Tnew@b\0")
    message = QmailQueue(source.directory).read(1)
    assert (message.remote, message.unsorted) == ([], [b"new@b"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda source: source.write("info", 1, b"Fs@t"),
        lambda source: source.write("info", 1, b""),
        lambda source: source.write("info", 1, b"Ts@t\0"),
        lambda source: source.write("remote", 1, b"Ta@b\0Tc@"),
        lambda source: source.write("remote", 1, b"\0\0\0\0"),
        lambda source: source.write("todo", 1, b"u1\0p2\0Fs@t\0Ta"),
        lambda source: source.write("todo", 1, b"u1\0p2\0Ta@b\0"),
        lambda source: source.write("mess", 1, b"x").unlink(),
    ],
)
def test_damaged_files_are_named_and_left(source: Source, queue: Direct, home: Path, spoil: object) -> None:
    source.preprocessed(1, b"x\n", remote=b"Ta@b\0")
    source.preprocessed(2, b"good\n", remote=b"Ta@b\0")
    spoil(source)  # type: ignore[operator]
    with pytest.raises(Damaged):
        QmailQueue(source.directory).read(1)
    _transfer, report = run(source, queue, home)
    assert [finding.kind for finding in report.findings] == [Kind.LEFT, Kind.CARRIED]
    assert [content for *_, content in stored(queue)] == [b"good\r\n"]
    assert any(name.endswith("/1") for name in source.names())


def test_everything_is_taken_once(source: Source, queue: Direct, home: Path) -> None:
    fill(source)
    transfer, report = run(source, queue, home)
    assert report.count(Kind.LEFT) == 0
    assert (transfer.messages, transfer.recipients, transfer.bounces, transfer.again) == (5, 5, 2, 0)
    messages = stored(queue)
    assert messages[0] == (
        b"s@far.example",
        [b"virt-jiro@virtual.example", b"a@b.example"],
        BIRTH,
        b"Subject: a\r\n\r\nboth\r\n",
    )
    assert messages[1][:3] == (b"x@y.example", [b"c@d.example", b"e@f.example"], BIRTH)
    assert messages[2][1] == [b"later@b.example"]
    for sender, recipients, _birth, content in messages[3:]:
        assert (sender, recipients) == (b"", [b"s@far.example"])
        assert b"<gone@b.example>:" in content
    assert len(messages) == 5
    assert source.names() == {name for name in source.names() if name.endswith(("606", "707"))}
    again, _report = run(source, queue, home)
    assert again.messages == 0
    assert len(stored(queue)) == 5


def test_a_dry_run_changes_nothing(source: Source, home: Path) -> None:
    fill(source)
    before = source.names()
    transfer, _report = run(source, None, home)
    assert (transfer.messages, transfer.recipients) == (5, 5)
    assert source.names() == before


DYING = """
from ekiden.migration import qmail_transfer
from ekiden.migration.finding import Report
from ekiden.migration.qmail_queue import QmailQueue
from ekiden.runtime.injection.direct import Direct
from ekiden.settings.control import read

Path.rename = counted(Path.rename)
qmail_transfer.sync_directory = counted(qmail_transfer.sync_directory)
Direct.take_over = counted(Direct.take_over)
source, home = map(Path, sys.argv[2:])
queue = Direct(str(home))
qmail_transfer.finish(QmailQueue(source))
found = QmailQueue(source)
transfer = qmail_transfer.Transfer(found, queue, read(home / "control"), Report())
for number in found.accepted():
    transfer.take(number)
queue.close()
"""
STEPS = 60


@pytest.mark.slow
@pytest.mark.parametrize("steps", [*range(0, STEPS, 4), STEPS])
def test_a_crash_anywhere_loses_and_doubles_nothing(tmp_path: Path, home: Path, steps: int) -> None:
    source = Source(tmp_path / "source")
    fill(source)
    assert die_after(steps, DYING, source.directory, home) is (steps < STEPS)
    queue = Direct(str(home))
    try:
        run(source, queue, home)
        contents = sorted(content for *_, content in stored(queue))
        assert len(contents) == 5
        assert len([content for content in contents if content.startswith(b"Subject: ")]) == 3
        assert source.names() == {name for name in source.names() if name.endswith(("606", "707"))}
    finally:
        queue.close()


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [COMMAND, "--home", home, "queue", "import", *arguments]
    return subprocess.run(argv, capture_output=True, text=True)


def test_the_command(tmp_path: Path, home: Path) -> None:
    source = Source(tmp_path / "source")
    fill(source)
    (home / "queue" / "spool").mkdir(exist_ok=True)
    dry = command(home, str(source.directory), "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout.endswith("nothing was changed\n")
    done = command(home, str(source.directory), "--json")
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout.splitlines()[-1])
    assert totals["taken"] == totals["found"] == 5


def test_a_running_qmail_send_is_not_disturbed(tmp_path: Path, home: Path) -> None:
    source = Source(tmp_path / "source")
    fill(source)
    with (source.directory / "lock" / "sendmutex").open("r+b") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        refused = command(home, str(source.directory))
    assert refused.returncode == 1
    assert "a qmail-send has" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_what_is_no_queue(tmp_path: Path, home: Path) -> None:
    refused = command(home, str(tmp_path))
    assert refused.returncode == 1
    assert "no queue of qmail's" in refused.stderr
