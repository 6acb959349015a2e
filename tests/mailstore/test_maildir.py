"""Maildirs as maildrops: order, ids, sizes, other programs beside us, the index and what may be wrong with it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ekiden.mailstore import index
from ekiden.mailstore.maildir import Maildir
from ekiden.mailstore.maildrop import BLOCK, MailboxError
from ekiden.wire.pop3.content import octets


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    for part in ("new", "cur", "tmp"):
        (tmp_path / "Maildir" / part).mkdir(parents=True)
    return tmp_path / "Maildir"


def put(maildir: Path, name: str, content: bytes = b"Subject: x\n\nbody\n", part: str = "new") -> Path:
    path = maildir / part / name
    path.write_bytes(content)
    return path


def opened(maildir: Path) -> Maildir:
    return Maildir(os.fsencode(maildir))


def files(maildir: Path) -> set[str]:
    return {str(path.relative_to(maildir)) for part in ("new", "cur") for path in (maildir / part).iterdir()}


def settle(maildir: Path) -> None:
    """As if the last change were a while ago."""
    for part in ("new", "cur"):
        os.utime(maildir / part, (time.time() - 60, time.time() - 60))


def test_order_ids_and_sizes(maildir: Path) -> None:
    put(maildir, "20.b.host", b"a\n.\nno end")
    put(maildir, "3.a.host,S=7:2,RS", b"a\r\nb\r\n", "cur")
    put(maildir, "100.c.host", b"x" * BLOCK + b"\ny\n")
    put(maildir, ".hidden")
    drop = opened(maildir)
    assert list(drop.uids()) == [b"3.a.host,S=7", b"20.b.host", b"100.c.host"]
    assert list(drop.sizes()) == [6, 3 + 3 + 8, BLOCK + 5]
    assert b"".join(drop.read(2)) == b"a\n.\nno end"
    assert [len(piece) for piece in drop.read(3)] == [BLOCK, 3]


def test_a_name_may_say_the_size(maildir: Path) -> None:
    put(maildir, "1.a.host,S=17,W=99")
    assert list(opened(maildir).sizes()) == [99]


@pytest.mark.parametrize("name", ["1.with space.host", "1." + "x" * 80 + ".host", "1.é.host", "1.tab\t.host"])
def test_odd_names_have_ids_that_pop3_allows(maildir: Path, name: str) -> None:
    put(maildir, name)
    put(maildir, "2.plain.host")
    first = opened(maildir)
    uids = list(first.uids())
    assert first.sizes()
    first.close()
    assert uids[1] == b"2.plain.host" and 0 < len(uids[0]) <= 70 and all(0x21 <= octet <= 0x7E for octet in uids[0])
    assert list(opened(maildir).uids()) == uids


def test_one_name_in_both_places_is_two_messages(maildir: Path) -> None:
    put(maildir, "1.a.host", b"new")
    put(maildir, "1.a.host:2,S", b"cur", "cur")
    drop = opened(maildir)
    assert len(set(drop.uids())) == 2
    assert sorted(b"".join(drop.read(number)) for number in (1, 2)) == [b"cur", b"new"]


def test_only_an_update_changes_anything(maildir: Path) -> None:
    put(maildir, "1.a.host")
    drop = opened(maildir)
    drop.close()
    assert files(maildir) == {"new/1.a.host"}


def test_update_removes_and_moves(maildir: Path) -> None:
    for name in ("1.a.h", "2.b.h", "3.c.h"):
        put(maildir, name)
    put(maildir, "4.d.h:2,F", part="cur")
    drop = opened(maildir)
    late = put(maildir, "5.late.h")
    drop.update({1, 4})
    assert files(maildir) == {"cur/2.b.h:2,", "cur/3.c.h:2,", "new/5.late.h"}
    drop.close()
    assert late.exists()
    assert list(opened(maildir).uids()) == [b"2.b.h", b"3.c.h", b"5.late.h"]


def test_other_readers_rename_and_remove(maildir: Path) -> None:
    for name in ("1.a.h", "2.b.h", "3.c.h", "4.d.h"):
        put(maildir, name, name.encode())
    drop = opened(maildir)
    (maildir / "new" / "1.a.h").rename(maildir / "cur" / "1.a.h:2,S")
    (maildir / "new" / "2.b.h").unlink()
    (maildir / "new" / "3.c.h").rename(maildir / "cur" / "3.c.h:2,R")
    assert b"".join(drop.read(1)) == b"1.a.h"
    with pytest.raises(MailboxError, match="removed"):
        b"".join(drop.read(2))
    drop.update({1, 2, 3})
    assert files(maildir) == {"cur/4.d.h:2,"}


def test_a_message_that_cannot_be_removed_is_told(maildir: Path) -> None:
    put(maildir, "1.a.h")
    (maildir / "new" / "2.directory.h").mkdir()
    drop = opened(maildir)
    with pytest.raises(MailboxError) as told:
        drop.update({1, 2})
    assert told.value.code == "SYS/TEMP"
    assert not (maildir / "new" / "1.a.h").exists()


def test_no_maildir(tmp_path: Path) -> None:
    with pytest.raises(MailboxError) as told:
        opened(tmp_path)
    assert told.value.code == "SYS/PERM"


# The index.


def test_sizes_are_read_once(maildir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(maildir, "1.a.h")
    put(maildir, "2.b.h:2,S", b"longer\n", "cur")
    drop = opened(maildir)
    sizes = list(drop.sizes())
    drop.close()
    (maildir / "new" / "1.a.h").rename(maildir / "cur" / "1.a.h:2,")
    put(maildir, "3.c.h", b"third\n")
    opens: list[str] = []
    again = opened(maildir)
    monkeypatch.setattr(
        Maildir, "_open", lambda self, place: opens.append(place) or os.open(maildir / "new" / "3.c.h", 0)
    )
    assert list(again.sizes()) == [*sizes, 7]
    assert opens == [2]


def test_a_settled_list_is_used_again_and_any_change_is_seen(maildir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        put(maildir, f"{number}.a.h")
    settle(maildir)
    drop = opened(maildir)
    drop.sizes()
    drop.close()
    uids = list(drop.uids())
    with monkeypatch.context() as patched:
        patched.setattr(Maildir, "_scan", None)
        assert list(opened(maildir).uids()) == uids
    put(maildir, "9.new.h")
    assert list(opened(maildir).uids()) == [*uids, b"9.new.h"]
    (maildir / "new" / "0.a.h").unlink()
    assert list(opened(maildir).uids()) == [*uids[1:], b"9.new.h"]


def test_a_list_read_in_the_tick_of_a_change_is_not_used_again(maildir: Path) -> None:
    put(maildir, "1.a.h")
    drop = opened(maildir)
    drop.sizes()
    times = os.stat(maildir / "new")
    drop.close()
    put(maildir, "2.b.h")
    # The clock of the file system had not moved on.
    os.utime(maildir / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len(opened(maildir)) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"ekiden-pop3-index 1\tx\nnew/1.a.h\t5\n",
        b"ekiden-pop3-index 1\tx\nnew/1.a.h\t5\nend\t2\n",
        b"ekiden-pop3-index 1\tx\nnew/1.a.h\tx\nend\t1\n",
        b"ekiden-pop3-index 1\tx\n../1.a.h\t5\nend\t1\n",
        b"ekiden-pop3-index 1\tx\nnew/../../secret\t5\nend\t1\n",
        b"ekiden-pop3-index 2\tx\nnew/1.a.h\t5\nend\t1\n",
        b"\0" * 5000,
    ],
)
def test_an_index_that_cannot_be_used_is_not(maildir: Path, content: bytes) -> None:
    path = put(maildir, "1.a.h")
    (maildir / os.fsdecode(index.NAME)).write_bytes(content)
    drop = opened(maildir)
    assert list(drop.sizes()) == [octets(path.read_bytes())]
    drop.close()
    assert index.load(os.fsencode(maildir)) is not None


def test_a_torn_index_is_known_at_any_length(maildir: Path) -> None:
    for number in range(5):
        put(maildir, f"{number}.a.h", b"x" * number)
    drop = opened(maildir)
    drop.sizes()
    drop.close()
    path = maildir / os.fsdecode(index.NAME)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert index.load(os.fsencode(maildir)) is None


@pytest.mark.slow
def test_many_messages(maildir: Path) -> None:
    """How long it takes is told by bench/pop3.py."""
    content = b"Subject: x\n\nbody\n"
    for number in range(20_000):
        descriptor = os.open(maildir / "new" / f"{1_700_000_000 + number}.M1P1.h", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, content)
        os.close(descriptor)
    settle(maildir)
    drop = opened(maildir)
    assert sum(drop.sizes()) == 20_000 * octets(content)
    drop.close()
    again = opened(maildir)
    assert list(again.uids()) == list(drop.uids())
    assert sum(again.sizes()) == sum(drop.sizes())
