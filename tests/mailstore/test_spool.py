"""mbox files as maildrops: what is a message, what names it, other programs beside us, and crashes at every step."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekiden.delivery.mbox import Mbox, entry
from ekiden.mailstore import dotlock
from ekiden.mailstore.maildrop import MailboxError
from ekiden.mailstore.spool import Spool
from ekiden.wire.pop3.content import octets

MAILS = [f"Message-ID: <{number}@x>\nSubject: {number}\n\nbody {number}\n".encode() for number in range(5)]


def mbox(messages: list[bytes]) -> bytes:
    return b"".join(b"From a@b Mon Nov 23 09:00:00 2026\n" + b"".join(entry([message])) for message in messages)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool" / "jiro"


def opened(path: Path) -> Spool:
    return Spool(os.fsencode(path), os.fsencode(path.parent.parent / "home"))


def contents(drop: Spool) -> list[bytes]:
    return [b"".join(drop.read(number)) for number in range(1, len(drop) + 1)]


def deliver(path: Path, message: bytes) -> None:
    """As the local role does."""
    box = Mbox(os.fsencode(path))
    assert box.lock()
    box.append(b"From late@x Mon Nov 23 10:00:00 2026\n", [message])
    box.commit()
    box.close()


def foreign(path: Path) -> None:
    """Make the directory one in which the file may not be replaced."""
    path.parent.chmod(0o1777)


def test_messages_sizes_and_ids(path: Path) -> None:
    path.write_bytes(mbox(MAILS))
    drop = opened(path)
    assert contents(drop) == MAILS
    assert list(drop.sizes()) == [octets(mail) for mail in MAILS]
    assert len(set(drop.uids())) == 5


def test_a_spool_that_does_not_exist_is_empty(path: Path) -> None:
    drop = opened(path)
    assert len(drop) == 0
    drop.update(frozenset())
    drop.close()
    assert not path.exists()


@pytest.mark.parametrize("content", [b"hello\n", b"\nFrom a\n\n", b"From"])
def test_what_is_no_mbox(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(MailboxError, match="not an mbox") as told:
        opened(path)
    assert told.value.code == "SYS/PERM"
    assert path.read_bytes() == content


def test_from_lines_within_messages(path: Path) -> None:
    path.write_bytes(b"From a\nS: 1\n\nline\nFrom here on\n>From quoted\n\nFrom b\nS: 2\n\nx")
    assert contents(opened(path)) == [b"S: 1\n\nline\nFrom here on\n>From quoted\n", b"S: 2\n\nx"]


def test_x_uidl_names_a_message_and_notes_do_not(path: Path) -> None:
    path.write_bytes(mbox([b"X-UIDL: abc-1\nA: b\n\n1\n", b"Status: O\nSubject: x\nX-Keywords: a\n b\n\n2\n"]))
    first = opened(path)
    uids = list(first.uids())
    first.close()
    path.write_bytes(mbox([b"X-UIDL: abc-1\n\n1\n", b"Status: RO\nSubject: x\n\n2\n"]))
    assert list(opened(path).uids()) == uids and uids[0] == b"abc-1"


def test_the_same_message_twice_has_two_ids(path: Path) -> None:
    path.write_bytes(mbox([MAILS[0], MAILS[0], MAILS[0][:-2] + b"!\n"]))
    drop = opened(path)
    uids = list(drop.uids())
    assert len(set(uids)) == 3
    drop.update({1})
    drop.close()
    assert opened(path).uids()[1] == uids[2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(
        st.lists(
            st.sampled_from([b"a", b"\n", b"From x", b">From ", b"\n\n", b"\r\n", b"Subject: y\n\n", b"z" * 300]),
            max_size=8,
        ).map(b"".join),
        max_size=6,
    ),
    st.data(),
    st.booleans(),
)
def test_what_is_removed_is_gone_and_the_rest_is_as_it_was(
    path: Path, messages: list[bytes], data: st.DataObject, in_place: bool
) -> None:
    path.parent.chmod(0o1777 if in_place else 0o755)
    path.write_bytes(mbox(messages))
    numbers = range(1, len(messages) + 1)
    removed = data.draw(st.sets(st.sampled_from(numbers))) if messages else set()
    with closing(opened(path)) as drop:
        stored = contents(drop)
        assert len(stored) == len(messages)
        assert len(set(drop.uids())) == len(messages)
        drop.update(removed)
    with closing(opened(path)) as again:
        assert contents(again) == [stored[number - 1] for number in numbers if number not in removed]


def test_nothing_is_written_if_nothing_is_removed(path: Path) -> None:
    path.write_bytes(mbox(MAILS))
    before = os.stat(path)
    drop = opened(path)
    assert contents(drop)
    drop.update(frozenset())
    drop.close()
    after = os.stat(path)
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert os.listdir(path.parent) == ["jiro"]


@pytest.mark.parametrize("prepare", [lambda path: None, foreign], ids=["replaced", "in place"])
def test_mail_that_comes_during_a_session_stays(path: Path, prepare: Callable[[Path], None]) -> None:
    prepare(path)
    path.write_bytes(mbox(MAILS))
    path.chmod(0o640)
    drop = opened(path)
    deliver(path, b"Subject: late\n\nlate\n")
    assert len(drop) == 5 and contents(drop) == MAILS
    drop.update({1, 2, 5})
    drop.close()
    assert contents(opened(path)) == [MAILS[2], MAILS[3], b"Subject: late\n\nlate\n"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["jiro"]


def test_a_file_that_another_program_rewrote_is_read_anew(path: Path) -> None:
    path.write_bytes(mbox(MAILS))
    drop = opened(path)
    path.write_bytes(mbox([b"Status: RO\n" + mail for mail in MAILS[1:]]))
    with pytest.raises(MailboxError, match="changed"):
        b"".join(drop.read(2))
    drop.update({1, 2})
    drop.close()
    assert contents(opened(path)) == [b"Status: RO\n" + mail for mail in MAILS[2:]]


def test_a_second_session_is_told(path: Path) -> None:
    path.write_bytes(mbox(MAILS))
    drop = opened(path)
    with pytest.raises(MailboxError) as told:
        opened(path)
    assert told.value.code == "IN-USE"
    drop.close()
    assert len(opened(path)) == 5


@pytest.mark.parametrize("kind", ["dot", "flock", "fcntl"])
def test_another_programs_lock_is_waited_for(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(mbox(MAILS))
    monkeypatch.setattr(dotlock, "WAIT_SECONDS", 0.2)
    with path.open("r+b") as file:
        ready, done = multiprocessing.Pipe()
        pid = os.fork()
        if not pid:
            # fcntl's locks are a process's.
            if kind == "dot":
                path.with_name("jiro.lock").touch()
            elif kind == "flock":
                fcntl.flock(file, fcntl.LOCK_EX)
            else:
                fcntl.lockf(file, fcntl.LOCK_EX)
            done.send(1)
            done.recv()
            os._exit(0)
        ready.recv()
        with pytest.raises(MailboxError) as told:
            opened(path)
        ready.send(1)
        os.waitpid(pid, 0)
    assert told.value.code == "IN-USE"


def test_a_lock_that_was_left_over_is_removed(path: Path) -> None:
    path.write_bytes(mbox(MAILS))
    lock = path.with_name("jiro.lock")
    lock.touch()
    os.utime(lock, (time.time() - 3600, time.time() - 3600))
    assert len(opened(path)) == 5
    assert not lock.exists()


CALLS = ("open", "write", "pwrite", "fsync", "ftruncate", "rename", "unlink")


def removing_until(path: Path, removed: set[int], number: int) -> bool:
    """Remove messages in a process that ends at its ``number``-th change of anything; whether it came to that."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    drop = opened(path)
    left = [number]

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **keywords: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and call in (real["write"], real["pwrite"]):
                # A write that is torn in the middle.
                descriptor, data, *place = arguments
                call(descriptor, bytes(data)[: len(data) // 2], *place)
            if left[0] == 0:
                os._exit(9)
            return call(*arguments, **keywords)

        return instead

    real = {name: getattr(os, name) for name in CALLS}
    for name in CALLS:
        setattr(os, name, dying(real[name]))
    drop.update(removed)
    os._exit(0)


@pytest.mark.parametrize("late", [b"", b"Subject: late\n\nafter the crash\n"], ids=["at rest", "mail comes"])
@pytest.mark.parametrize("prepare", [lambda path: None, foreign], ids=["replaced", "in place"])
@pytest.mark.parametrize("removed", [{1}, {2, 4}, {5}, {1, 2, 3, 4, 5}], ids=str)
def test_a_crash_at_any_step(path: Path, removed: set[int], prepare: Callable[[Path], None], late: bytes) -> None:
    prepare(path)
    kept = [mail for number, mail in enumerate(MAILS, 1) if number not in removed]
    both = set()
    number = 0
    while True:
        number += 1
        path.write_bytes(mbox(MAILS))
        died = removing_until(path, removed, number)
        path.with_name("jiro.lock").unlink(missing_ok=True)
        if late:
            deliver(path, late)
        drop = opened(path)
        found = contents(drop)
        drop.close()
        if late:
            assert found.pop() == late
        assert found in (MAILS, kept)
        both.add(len(found))
        again = opened(path)
        assert len(again) == len(found) + bool(late)
        again.close()
        if not died:
            break
    assert number > 6 and both == {len(MAILS), len(kept)}
    assert found == kept
