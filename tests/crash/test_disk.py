"""What the model of a disk lets a power failure leave."""

from __future__ import annotations

import random
from pathlib import Path

from tests.crash.disk import Choice, Disk, Tree
from tests.crash.tracing import Call, read


def hexadecimal(text: str) -> str:
    return "".join(f"\\x{octet:02x}" for octet in text.encode())


def calls(tmp_path: Path, *lines: str) -> list[Call]:
    """Lines as strace writes them; what stands between @ is hexadecimal there."""
    log = tmp_path / "log"
    texts = []
    for line in lines:
        pieces = line.split("@")
        pieces[1::2] = [hexadecimal(piece) for piece in pieces[1::2]]
        texts.append("7 " + "".join(pieces))
    log.write_text("\n".join(texts) + "\n")
    return list(read(log))


def possible(tmp_path: Path, before: Tree, *lines: str) -> list[Tree]:
    """The states after the last line."""
    disk = Disk(Path("/d"), before, Path("/told"))
    *_, last = disk.moments(calls(tmp_path, *lines))
    found: list[Tree] = []
    for kept in Choice(20, random.Random(1)).of(last):
        if (tree := disk.state(kept)) not in found:
            found.append(tree)
    return found


CREATE = 'openat(AT_FDCWD<@/@>, "@/d/new@", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3<@/d/new@>'
WRITE = 'write(3<@/d/new@>, "@ab@", 2) = 2'
SYNC = "fsync(3<@/d/new@>) = 0"
SYNC_DIRECTORY = "fsync(4<@/d@>) = 0"
RENAME = 'rename("@/d/new@", "@/d/sub/final@") = 0'


def test_nothing_synced_may_be_anything(tmp_path: Path) -> None:
    assert possible(tmp_path, {}, CREATE, WRITE) == [{}, {"new": b""}, {"new": b"ab"}, {"new": b"a"}]


def test_a_synced_file_needs_its_name(tmp_path: Path) -> None:
    assert possible(tmp_path, {}, CREATE, WRITE, SYNC) == [{}, {"new": b"ab"}]


def test_synced_in_full_is_one_state(tmp_path: Path) -> None:
    assert possible(tmp_path, {}, CREATE, WRITE, SYNC, SYNC_DIRECTORY) == [{"new": b"ab"}]


def test_a_failed_sync_keeps_nothing(tmp_path: Path) -> None:
    failed = "fsync(3<@/d/new@>) = -1 EIO (Input/output error)"
    assert {} in possible(tmp_path, {}, CREATE, WRITE, failed)


def test_a_name_without_synced_data(tmp_path: Path) -> None:
    assert {"new": b""} in possible(tmp_path, {}, CREATE, WRITE, SYNC_DIRECTORY)


def test_a_rename_never_leaves_neither_name(tmp_path: Path) -> None:
    found = possible(tmp_path, {}, CREATE, WRITE, SYNC, SYNC_DIRECTORY, RENAME)
    assert all(b"ab" in tree.values() for tree in found)
    assert {"new": b"ab"} in found
    assert {"sub/final": b"ab"} in found


def test_writes_at_an_offset_and_truncation(tmp_path: Path) -> None:
    lines = ['pwrite64(5<@/d/old@>, "@XY@", 2, 3) = 2', "ftruncate(5<@/d/old@>, 1) = 0"]
    found = possible(tmp_path, {"old": b"0123"}, *lines)
    assert {"old": b"0123"} in found
    assert {"old": b"012XY"} in found
    assert {"old": b"0"} in found


def test_a_hole_is_zeros_or_not_there_yet(tmp_path: Path) -> None:
    line = "fallocate(5<@/d/old@>, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 1, 2) = 0"
    found = possible(tmp_path, {"old": b"0123"}, line)
    assert {"old": b"0123"} in found
    assert {"old": b"0\0\0" + b"3"} in found
    assert possible(tmp_path, {"old": b"0123"}, "fallocate(5<@/d/old@>, 0, 0, 8) = 0") == [{"old": b"0123"}]


def test_an_unlink_may_be_undone(tmp_path: Path) -> None:
    assert possible(tmp_path, {"old": b"x"}, 'unlink("@/d/old@") = 0') == [{"old": b"x"}, {}]


def test_told_is_known_at_its_moment(tmp_path: Path) -> None:
    disk = Disk(Path("/d"), {}, Path("/told"))
    told = 'writev(9<@/told@>, [{iov_base="@done\n@", iov_len=5}], 1) = 5'
    moments = list(disk.moments(calls(tmp_path, CREATE, told, WRITE)))
    assert [(len(moment.changes), moment.told) for moment in moments] == [
        (0, []),
        (1, []),
        (1, ["done"]),
        (2, ["done"]),
    ]


def test_calls_that_others_interrupt_are_put_together(tmp_path: Path) -> None:
    found = calls(tmp_path, "fsync(3<@/d/new@> <unfinished ...>", "<... fsync resumed>)             = 0")
    assert [(call.name, call.result, call.strings()) for call in found] == [("fsync", 0, [b"/d/new"])]


def test_what_a_failed_sync_forgot_a_later_one_does_not_save(tmp_path: Path) -> None:
    failed = "fsync(3<@/d/new@>) = -1 EIO (Input/output error) (INJECTED)"
    assert {"new": b""} in possible(tmp_path, {}, CREATE, WRITE, failed, SYNC, SYNC_DIRECTORY)
    assert possible(tmp_path, {}, CREATE, failed, WRITE, SYNC, SYNC_DIRECTORY) == [{"new": b"ab"}]
