"""A whole queue of sendmail's into ours: once each, whatever is in the way and wherever it is interrupted."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from ekiden.migration.finding import Kind, Report
from ekiden.migration.queue_directory import Transfer, control_files, strays
from ekiden.runtime.injection.direct import Direct

HERE = Path(__file__).parent
LOCAL = "relay.nix.example"
GOOD = {"6ANDfi6D005598", "6ANDfiEG005595", "6ANDfirG005592", "6ANDgBil005738", "6ANDgWZh006072", "6ANDgWg4006069"}
HELD = "6ANDgBMV005741"
PROGRAMS = {"6ANDgBG1005726", "6ANDgBbF005731"}


@pytest.fixture
def mqueue(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE / "mqueue", tmp_path / "mqueue"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("control", "queue"):
        (tmp_path / "home" / name).mkdir(parents=True)
    (tmp_path / "home" / "control" / "me").write_text("me.example\n")
    return tmp_path / "home"


@pytest.fixture
def queue(home: Path) -> Iterator[Direct]:
    direct = Direct(str(home))
    yield direct
    direct.close()


def run(queue: Direct | None, mqueue: Path) -> tuple[Transfer, Report]:
    report = Report()
    transfer = Transfer(queue, LOCAL, report)
    for found in control_files(mqueue):
        transfer.take(found)
    transfer.finish()
    strays(mqueue, report, queue is not None)
    return transfer, report


def stored(queue: Direct) -> dict[int, int]:
    """Checksums of what is in our queue, by id."""
    return {row.id: queue.checksum(row.id) or 0 for row in queue._store.messages(0, 100)}


def expected(ids: set[str]) -> list[int]:
    contents = [(HERE / "delivered" / name).read_bytes().replace(b"\n", b"\r\n") for name in ids]
    return sorted(map(crc32, contents))


def test_every_message_is_taken_or_named(queue: Direct, mqueue: Path) -> None:
    before = {path.name: path.read_bytes() for path in mqueue.iterdir()}
    transfer, report = run(queue, mqueue)
    assert (transfer.messages, transfer.recipients, transfer.again) == (7, 12, 0)
    assert set(expected(GOOD)) < set(stored(queue).values())
    assert len(stored(queue)) == 7
    left = {Path(found.place.file).name for found in report.findings if found.kind is Kind.LEFT}
    assert left == {f"qf{name}" for name in PROGRAMS}
    names = {path.name for path in mqueue.iterdir()}
    aside = {f"{kind}{name}" for name in GOOD for kind in ("qf", "df")} | {f"hf{HELD}", f"df{HELD}"}
    assert names == {f"taken-{name}" for name in aside} | (before.keys() - aside)
    assert {path.name.removeprefix("taken-"): path.read_bytes() for path in mqueue.iterdir()} == before


def test_age_hold_and_origin_are_kept(queue: Direct, mqueue: Path) -> None:
    run(queue, mqueue)
    rows = {row.birth: row for row in queue._store.messages(0, 100)}
    assert rows.keys() == {1_795_441_304.0, 1_795_441_331.0, 1_795_441_352.0} or max(rows) < 1_795_441_304
    (held,) = (row for row in queue._store.messages(0, 100) if row.held)
    assert queue._store.parts(held.id)[0].due is None
    assert held.meta.origin.protocol == "sendmail-queue"


def test_a_second_run_takes_nothing(queue: Direct, mqueue: Path) -> None:
    run(queue, mqueue)
    before = stored(queue)
    transfer, _report = run(queue, mqueue)
    assert (transfer.messages, stored(queue)) == (0, before)


def test_files_that_were_put_back_are_not_taken_twice(queue: Direct, mqueue: Path) -> None:
    run(queue, mqueue)
    before = stored(queue)
    for path in list(mqueue.glob("taken-*")):
        path.rename(mqueue / path.name.removeprefix("taken-"))
    transfer, _report = run(queue, mqueue)
    assert (transfer.messages, transfer.again, stored(queue)) == (7, 7, before)


def test_one_of_two_new_names_may_be_forgotten(queue: Direct, mqueue: Path) -> None:
    run(queue, mqueue)
    before = stored(queue)
    for name in sorted(GOOD)[:2]:
        (mqueue / f"taken-qf{name}").rename(mqueue / f"qf{name}")
    (mqueue / f"taken-df{sorted(GOOD)[2]}").rename(mqueue / f"df{sorted(GOOD)[2]}")
    transfer, report = run(queue, mqueue)
    assert (transfer.again, report.count(Kind.LEFT), stored(queue)) == (2, 2, before)
    assert not [path for path in mqueue.iterdir() if path.name[2:] in GOOD]


def test_without_a_queue_nothing_is_changed(mqueue: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in mqueue.iterdir()}
    transfer, report = run(None, mqueue)
    assert (transfer.messages, report.count(Kind.LEFT)) == (7, 2)
    assert {path: path.stat().st_mtime_ns for path in mqueue.iterdir()} == before


@pytest.mark.parametrize("layout", ["q1 and q2", "qf and df", "q1 with qf and df"])
def test_queues_that_are_spread_over_directories(queue: Direct, mqueue: Path, layout: str) -> None:
    files = sorted(mqueue.iterdir())
    for path in files:
        first = path.name[2:] < "6ANDgB"
        kind = {"q": "qf", "h": "qf", "d": "df"}[path.name[0]]
        part = {"q1 and q2": "q1" if first else "q2", "qf and df": kind, "q1 with qf and df": f"q1/{kind}"}[layout]
        (mqueue / part).mkdir(parents=True, exist_ok=True)
        path.rename(mqueue / part / path.name)
    (mqueue / "xf").mkdir()
    transfer, report = run(queue, mqueue)
    assert (transfer.messages, report.count(Kind.LEFT)) == (7, 2)
    assert len(stored(queue)) == 7


@pytest.mark.parametrize("take", [fcntl.flock, fcntl.lockf])
def test_what_sendmail_works_on_is_left(queue: Direct, mqueue: Path, take: object) -> None:
    name = "flock" if take is fcntl.flock else "lockf"
    path = mqueue / "qf6ANDfi6D005598"
    code = f"import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.{name}(f, 2); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as sendmail:
        assert sendmail.stdout is not None
        sendmail.stdout.readline()
        transfer, report = run(queue, mqueue)
        sendmail.communicate()
    assert transfer.messages == 6
    assert any("sendmail is working on it" in finding.text for finding in report.findings)
    assert path.exists()


def test_damage_is_named_and_nothing_else_suffers(queue: Direct, mqueue: Path) -> None:
    (mqueue / "df6ANDfi6D005598").unlink()
    whole = (mqueue / "qf6ANDgWg4006069").read_bytes()
    (mqueue / "qf6ANDgWg4006069").write_bytes(whole[:-3])
    (mqueue / "Qf6ANDlost").write_bytes(b"junk")
    (mqueue / "tf6ANDunfinished").write_bytes(b"V8\n")
    (mqueue / "df6ANDorphan").write_bytes(b"body")
    (mqueue / "qf6ANDempty").touch()
    transfer, report = run(queue, mqueue)
    assert transfer.messages == 5
    left = {Path(found.place.file).name for found in report.findings if found.kind is Kind.LEFT}
    assert left == {f"qf{name}" for name in PROGRAMS} | {
        "qf6ANDfi6D005598",
        "qf6ANDgWg4006069",
        "Qf6ANDlost",
        "tf6ANDunfinished",
        "df6ANDorphan",
        "qf6ANDempty",
    }


@pytest.mark.parametrize("call", ["os.rename", "Database._transact", "os.fsync"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_a_kill_anywhere_loses_and_doubles_nothing(home: Path, mqueue: Path, call: str, count: int) -> None:
    code = f"""
import os, sys
from pathlib import Path
from ekiden.queue.database import Database
from ekiden.migration.finding import Report
from ekiden.migration.queue_directory import Transfer, control_files
from ekiden.runtime.injection.direct import Direct
real, calls = {call}, 0
def killed(*arguments):
    global calls
    calls += 1
    if calls == {count}:
        os._exit(9)
    return real(*arguments)
{call} = killed
transfer = Transfer(Direct(sys.argv[1]), "{LOCAL}", Report())
for found in control_files(Path(sys.argv[2])):
    transfer.take(found)
    transfer.finish()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code, home, mqueue], check=False, timeout=60, capture_output=True)
    assert done.returncode == 9, done.stderr
    queue = Direct(str(home))
    _transfer, report = run(queue, mqueue)
    assert len(stored(queue)) == 7
    assert set(expected(GOOD)) < set(stored(queue).values())
    assert report.count(Kind.LEFT) == 2
    assert not [path for path in mqueue.glob("[qd]f*") if path.name[2:] in GOOD]
    queue.close()
