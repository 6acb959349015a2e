"""A damaged store: found out before SQLite goes on with it, and all saved that can be read."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.queue import damaging
from tests.queue.damaging import KINDS, contents, held, pages_of_messages
from tests.queue.test_engine import World

from ekiden.commands import run_command
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import StoreDamaged


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a queue that was closed in order."""
    home = tmp_path_factory.mktemp("whole")
    make(home)
    return home


def make(home: Path, crash: bool = False) -> None:
    (home / "control").mkdir()
    (home / "control" / "me").write_text("me.example\n")
    (home / "queue").mkdir(mode=0o700)
    damaging.fill(home / "queue", crash)


def recover(home: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and what was said: findings, then the totals."""
    capsys.readouterr()
    code = run_command(["--home", str(home), "queue", "recover", "--json", *options], home)
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def seeds(config: pytest.Config) -> Iterable[int]:
    """Those to be tried: always the same few, many others with ``--every-point``, or the one with ``--seed``."""
    seed = config.getoption("--seed")
    if seed is not None:
        return [seed]
    if config.getoption("--every-point"):
        return random.SystemRandom().sample(range(1_000_000), 200)
    return range(4)


def test_what_was_saved_can_be_routed_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parts that messages get later are numbered on: one had another's number, and the queue process died of it."""
    make(tmp_path)

    def requeue() -> list[int]:
        world = World(tmp_path / "queue")
        world.open = []
        world.store.recover()
        number = world.store.messages(0, 1)[0].id
        assert world.engine.requeue(number, 2000.0)
        world.turn(2000.0)
        parts = [part.part for part in world.store.parts(number)]
        world.store.close()
        return parts

    before = requeue()
    with (tmp_path / "queue" / "queue.sqlite").open("r+b") as file:
        db = sqlite3.connect(file.name)
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'destination'").fetchone()
        db.close()
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))
    recover(tmp_path, capsys)
    assert not {*before} & {*requeue()}


def test_nothing_is_wrong(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    before = contents(home / "queue")
    assert len(before) > 80
    code, (totals,) = recover(home, capsys)
    assert (code, totals["damage"], totals["saved"]) == (0, [], len(before))
    assert not list((home / "queue").glob("damaged-*"))
    assert contents(home / "queue") == before


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_not_damaged_is_saved(
    whole: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    before, pages = contents(whole / "queue"), pages_of_messages(whole / "queue")
    for seed in seeds(pytestconfig):
        home = tmp_path / f"home{seed}"
        shutil.copytree(whole, home)
        damaged = KINDS[kind](home / "queue", random.Random(seed))
        original = (home / "queue" / damaging.FILE).read_bytes()
        code, (*findings, totals) = recover(home, capsys)
        after = contents(home / "queue")
        untouched = {number for number, places in pages.items() if not places & damaged}
        missing = [number for number in untouched if after.get(number) != before[number]]
        assert not missing, f"{kind}, seed {seed}: not damaged and not saved as they were: {missing}"
        for number in after.keys() & before.keys() - untouched:
            assert after[number].content == before[number].content, f"{kind}, seed {seed}: message {number} is torn"
            assert after[number].sender == before[number].sender, f"{kind}, seed {seed}: message {number}"
            assert after[number].recipients <= before[number].recipients, f"{kind}, seed {seed}: message {number}"
        lost = {finding["message"] for finding in findings if not finding["saved"]}
        doubtful = {finding["message"] for finding in findings if "not known" in finding["text"]}
        assert not lost & untouched - doubtful
        assert (code == 1) == bool(lost or totals["unnamed"])
        # What had left the queue before is not attempted again.
        assert after.keys() - before.keys() <= held(home / "queue")
        if totals["damage"]:
            assert (home / "queue" / "damaged-1" / damaging.FILE).read_bytes() == original
        shutil.rmtree(home)


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM INTO '{}'",
        "CREATE TABLE part AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
    ],
)
def test_nothing_is_done_that_the_file_says(
    whole: Path, tmp_path: Path, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The queue's user may have written it, and an administrator reads it."""
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    db = sqlite3.connect(home / "queue" / damaging.FILE)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'part'", (statement.format(tmp_path / "made"),))
    db.commit()
    db.close()
    before = contents(whole / "queue")
    recover(home, capsys)
    assert not (tmp_path / "made").exists()
    assert contents(home / "queue").keys() == before.keys()


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose queue role was killed: all that is in the queue is in the log."""
    home = tmp_path_factory.mktemp("crashed")
    pid = os.fork()
    if not pid:
        try:
            make(home, crash=True)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return home


@pytest.mark.parametrize("kind", damaging.LOG_KINDS)
def test_a_damaged_log_is_seen_and_the_rest_of_it_saved(
    crashed: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    pages = pages_of_messages(crashed / "queue")
    shutil.copytree(crashed, tmp_path / "before")
    before = contents(tmp_path / "before" / "queue")
    assert len(before) > 80
    for seed in seeds(pytestconfig):
        home = tmp_path / f"home{seed}"
        shutil.copytree(crashed, home)
        damaged = damaging.LOG_KINDS[kind](home / "queue", random.Random(seed))
        original = (home / "queue" / damaging.LOG).read_bytes()
        with pytest.raises(StoreDamaged, match="remedy"):
            SQLiteStore(home / "queue")
            pytest.fail(f"{kind}, seed {seed}: not seen")
        _code, (*_findings, _totals) = recover(home, capsys)
        after = contents(home / "queue")
        untouched = {number for number, places in pages.items() if not places & damaged}
        missing = [number for number in untouched if after.get(number) != before[number]]
        assert not missing, f"{kind}, seed {seed}: not damaged and not saved as they were: {missing}"
        for number in after.keys() & before.keys():
            assert after[number].content == before[number].content
        assert after.keys() - before.keys() <= held(home / "queue")
        assert (home / "queue" / "damaged-1" / damaging.LOG).read_bytes() == original
        shutil.rmtree(home)


def gone(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        (damaging.FILE, emptied, "is empty"),
        (damaging.FILE, gone, "is gone"),
        (damaging.FILE, a_directory, "is not a file"),
        (damaging.LOG, gone, "is gone, and with it what was written last"),
    ],
)
def test_sqlite_does_not_begin_a_new_queue_without_a_word(
    crashed: Path, tmp_path: Path, name: str, harm: Callable[[Path], None], said: str
) -> None:
    home = tmp_path / "home"
    shutil.copytree(crashed, home)
    harm(home / "queue" / name)
    for _again in range(2):
        with pytest.raises(StoreDamaged, match=said):
            SQLiteStore(home / "queue")


def test_without_its_log_what_the_log_file_says_is_named(
    crashed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file has no message at all then; ekiden's log tells which there were, and who has got them."""
    home = tmp_path / "home"
    shutil.copytree(crashed, home)
    gone(home / "queue" / damaging.LOG)
    (home / "log").mkdir()
    lines = [
        "new msg 7",
        "info msg 7: bytes 5 from <s@example.org> qp 1 uid 2",
        "starting delivery 1: msg 7 to remote a@example.com",
        "starting delivery 2: msg 7 to remote b@example.com",
        "delivery 1: success: ok/",
        "new msg 8",
        "info msg 8: bytes 5 from <> qp 1 uid 2",
        "starting delivery 3: msg 8 to remote c@example.com",
        "delivery 3: success: ok/",
        "end msg 8",
    ]
    (home / "log" / "ekiden.log").write_text("".join(f"1700000000.000000 {line}\n" for line in lines))
    code, (finding, totals) = recover(home, capsys)
    assert (code, totals["not saved"]) == (1, 1)
    assert (finding["message"], finding["sender"], finding["recipients"]) == (7, "s@example.org", ["b@example.com"])
    store = SQLiteStore(home / "queue")
    assert store.new_message_id() > 100_000
    store.close()
    # What could not be saved of large contents is not removed by the next start.
    assert len(list((home / "queue" / "damaged-1" / "spool").iterdir())) >= 1


@pytest.mark.parametrize("harm", [emptied, gone])
@pytest.mark.parametrize("state", [True, False])
def test_contents_without_a_store_are_not_called_saved(
    whole: Path, tmp_path: Path, harm: Callable[[Path], None], state: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    harm(home / "queue" / damaging.FILE)
    (home / "queue" / "state").unlink(missing_ok=True)
    if state:
        (home / "queue" / "state").write_bytes(b"closed\n")
    contents = {
        str(path.relative_to(home / "queue")): path.read_bytes()
        for kind in ("spool", "segments")
        for path in (home / "queue" / kind).iterdir()
    }
    files = sum(name.startswith("spool/") for name in contents)
    assert 0 < files < len(contents)
    with pytest.raises(StoreDamaged, match=r"is empty|is gone"):
        SQLiteStore(home / "queue")
    code, (totals,) = recover(home, capsys, "--dry-run")
    assert (code, set(totals["unnamed"])) == (1, set(contents))
    assert run_command(["--home", str(home), "queue", "recover"], home) == 1
    said = capsys.readouterr().out
    kept = home / "queue" / "damaged-1"
    assert "NOT SAVED: contents that no message names any more: " in said
    assert f"{files} in files of their own in {kept}/spool" in said
    assert f"what is in {len(contents) - files} files in {kept}/segments" in said
    store = SQLiteStore(home / "queue")
    store.recover()
    store.close()
    assert {name: (kept / name).read_bytes() for name in contents} == contents
    code, (totals,) = recover(home, capsys)
    assert (code, totals["unnamed"]) == (0, [])


def test_what_a_crash_has_left_is_no_loss(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    (home / "queue" / "spool" / "leftover").write_bytes(b"its client was not answered")
    code, (totals,) = recover(home, capsys)
    assert (code, totals["unnamed"]) == (0, [])


def test_a_damaged_content_is_not_saved_and_kept(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    path = next((home / "queue" / "spool").iterdir())
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\0")
    store = SQLiteStore(home / "queue")
    (number,) = (row.id for row in store.messages(0, 1000) if row.spool == path.name)
    checksum = store.message(number).meta.checksum  # type: ignore[union-attr]
    store.close()
    code, (*findings, totals) = recover(home, capsys)
    if not checksum:
        # Only its size is known of it.
        os.truncate(path, 1000)
        code, (*findings, totals) = recover(home, capsys)
    assert (code, totals["not saved"], [finding["message"] for finding in findings]) == (1, 1, [number])
    assert (home / "queue" / "damaged-1" / "spool" / path.name).exists()
    assert len(contents(home / "queue")) == totals["saved"] == len(contents(whole / "queue")) - 1


def test_a_damaged_segment_loses_only_what_is_damaged(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    store = SQLiteStore(home / "queue")
    segment, at = store._db.all("SELECT segment, at FROM message WHERE segment IS NOT NULL LIMIT 1")[0]
    store.close()
    path = home / "queue" / "segments" / str(segment)
    with path.open("r+b") as file:
        file.seek(at + 1000)
        file.write(b"\0")
    code, (finding, totals) = recover(home, capsys)
    assert finding["text"] == f"its content is damaged: queue/segments/{path.name}"
    assert (code, totals["not saved"]) == (1, 1)
    store = SQLiteStore(home / "queue")
    store.recover()
    store.close()
    kept = home / "queue" / "damaged-1" / "segments" / path.name
    assert kept.read_bytes() == path.read_bytes(), "what could not be saved stays as it was"
    assert len(contents(home / "queue")) == totals["saved"] == len(contents(whole / "queue")) - 1


def test_a_dry_run_changes_nothing(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    damaging.zeros(home / "queue", random.Random(3))
    before = {path: path.read_bytes() for path in (home / "queue").rglob("*") if path.is_file()}
    _code, (*_findings, totals) = recover(home, capsys, "--dry-run")
    assert totals["damage"]
    after = {path: path.read_bytes() for path in (home / "queue").rglob("*") if path.is_file()}
    assert {path for path in after if path not in before} <= {home / "queue" / "lock"}
    assert all(after[path] == content for path, content in before.items())


def test_ekiden_that_runs_is_not_disturbed(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    with (home / "queue" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code = run_command(["--home", str(home), "queue", "recover"], home)
    assert code == 1
    assert "another ekiden already runs this queue" in capsys.readouterr().err
