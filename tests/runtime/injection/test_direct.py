"""The way into the queue while ekiden does not run: messages of another queue, once each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from ekiden.base.envelope import Envelope, Notify, Recipient
from ekiden.queue.intake import Foreign
from ekiden.queue.store import StoreFailed
from ekiden.runtime.injection.direct import Direct
from ekiden.runtime.injection.door import NotQueued

ENVELOPE = Envelope(b"s@a.example", [Recipient(b"r@b.example", Notify.SUCCESS, b"rfc822;x@y")])
SMALL = b"Subject: small\r\n\r\nbody\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 998 + b"\r\n" + b"line\r\n" * 60_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("control", "queue"):
        (tmp_path / name).mkdir()
    (tmp_path / "control" / "me").write_text("me.example\n")
    return tmp_path


@pytest.fixture
def direct(home: Path) -> Iterator[Direct]:
    opened = Direct(str(home))
    yield opened
    opened.close()


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_a_message_is_taken_over_once(direct: Direct, home: Path, content: bytes) -> None:
    assert direct.take_over(Foreign(b"k", 1000.0), ENVELOPE, content, "elsewhere") == (1, True)
    assert direct.take_over(Foreign(b"k", 1000.0), ENVELOPE, content, "elsewhere") == (1, False)
    assert direct.take_over(Foreign(b"l", 1000.0), ENVELOPE, content, "elsewhere") == (2, True)
    assert direct.checksum(1) == direct.checksum(2) == crc32(content)
    assert direct.checksum(3) is None
    assert len(list((home / "queue" / "spool").iterdir())) == (2 if content is LARGE else 0)


def test_a_birth_in_the_future_is_now(direct: Direct) -> None:
    number, _new = direct.take_over(Foreign(b"k", 9e9), ENVELOPE, SMALL, "elsewhere")
    row = direct._store.message(number)
    assert row is not None
    assert row.birth < 9e9


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes files for others")
def test_what_root_takes_over_is_the_queues_owners_at_once(home: Path) -> None:
    os.chown(home / "queue", 65534, 65534)
    code = """
import os, sys
from ekiden.base.envelope import Envelope, Recipient
from ekiden.queue.intake import Foreign
from ekiden.runtime.injection.direct import Direct
envelope = Envelope(b"s@a.example", [Recipient(b"r@b.example")])
Direct(sys.argv[1]).take_over(Foreign(b"k", 1000.0), envelope, sys.stdin.buffer.read(), "elsewhere")
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code, home], input=LARGE, check=False, timeout=60)
    owners = {path.name: path.stat().st_uid for path in (home / "queue").rglob("*") if path.name != "reserve"}
    assert len(owners) == 6, "with the spool file and the place of segments"
    assert set(owners.values()) == {65534}


def test_who_comes_second_is_told(direct: Direct, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden.runtime.injection.direct.LOCK_SECONDS", 0.1)
    with pytest.raises(NotQueued, match="unable to lock the queue"):
        Direct(str(home))


def test_a_damaged_store_is_said_to_be(direct: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_key: bytes) -> int:
        raise StoreFailed("malformed")

    monkeypatch.setattr(direct._store, "foreign", damaged)
    with pytest.raises(NotQueued, match="malformed"):
        direct.take_over(Foreign(b"k", 1.0), ENVELOPE, SMALL, "elsewhere")


@pytest.mark.parametrize("count", range(1, 8))
def test_a_kill_leaves_the_message_whole_or_not_at_all(home: Path, count: int) -> None:
    code = f"""
import os, sys
from ekiden.base.envelope import Envelope, Recipient
from ekiden.queue.intake import Foreign
from ekiden.queue.database import Database
from ekiden.runtime.injection.direct import Direct
real, calls = Database._transact, 0
def killed(*arguments):
    global calls
    calls += 1
    if calls == {count}:
        os._exit(9)
    done = real(*arguments)
    if calls + 3 == {count}:
        os._exit(9)
    return done
Database._transact = killed
direct = Direct(sys.argv[1])
envelope = Envelope(b"s@a.example", [Recipient(b"r@b.example")])
direct.take_over(Foreign(b"k", 1000.0), envelope, sys.stdin.buffer.read(), "elsewhere")
"""
    subprocess.run([sys.executable, "-c", code, home], input=LARGE, check=False, timeout=60)
    again = Direct(str(home))
    number, _new = again.take_over(Foreign(b"k", 1000.0), ENVELOPE, LARGE, "elsewhere")
    again._store.recover()
    assert again.checksum(number) == crc32(LARGE)
    assert [row.id for row in again._store.messages(0, 10)] == [number]
    again.close()
