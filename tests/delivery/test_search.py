"""Which .qmail file is found, and what is refused before it is used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ekiden.delivery.report import DEFERRED, Trouble
from ekiden.delivery.search import check_home, exists, find

FILES = [
    # dash, ext, and the files in the order in which they are looked for, each with what its "default" stands for
    (b"", b"", {b"": None, b"default": b""}),
    (b"-", b"a", {b"-a": None, b"-default": b"a"}),
    (b"-", b"a-", {b"-a-": None, b"-a-default": b"", b"-default": b"a-"}),
    (b"-", b"a-b", {b"-a-b": None, b"-a-default": b"b", b"-default": b"a-b"}),
    (b"-", b"a-b-", {b"-a-b-": None, b"-a-b-default": b"", b"-a-default": b"b-", b"-default": b"a-b-"}),
    (b"-", b"A.B-C", {b"-a:b-c": None, b"-a:b-default": b"C", b"-default": b"A.B-C"}),
    (b"-", b"..", {b"-::": None, b"-default": b".."}),
]


@pytest.mark.parametrize(("dash", "ext", "files"), FILES)
def test_the_most_specific_file_counts(
    tmp_path: Path, dash: bytes, ext: bytes, files: dict[bytes, bytes | None]
) -> None:
    home = os.fsencode(tmp_path)
    for name, default in reversed(files.items()):
        with open(os.path.join(home, b".qmail" + name), "wb") as file:
            file.write(name)
        found = find(home, dash, ext)
        assert found is not None
        assert (found.text, found.default) == (name, default)


def test_no_file(tmp_path: Path) -> None:
    assert find(os.fsencode(tmp_path), b"-", b"a-b") is None


def test_an_address_that_ends_with_default_stands_for_itself(tmp_path: Path) -> None:
    (tmp_path / ".qmail-list-default").write_text("x@y")
    found = find(os.fsencode(tmp_path), b"-", b"List-Default")
    assert found is not None
    assert found.default == b"Default"


def test_execute_bit(tmp_path: Path) -> None:
    path = tmp_path / ".qmail"
    path.write_text("x@y")
    path.chmod(0o744)
    found = find(os.fsencode(tmp_path), b"", b"")
    assert found is not None
    assert found.forward_only


def test_what_is_no_regular_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".qmail-a").mkdir()
    os.mkfifo(tmp_path / ".qmail-default")
    assert find(os.fsencode(tmp_path), b"-", b"a") is None


def test_a_dangling_link_is_no_file(tmp_path: Path) -> None:
    (tmp_path / ".qmail-a").symlink_to("nowhere")
    assert find(os.fsencode(tmp_path), b"-", b"a") is None


def test_a_world_writable_file_defers(tmp_path: Path) -> None:
    path = tmp_path / ".qmail"
    path.write_text("x@y")
    path.chmod(0o646)
    with pytest.raises(Trouble, match=r"\.qmail file is writable by others. \(#4.7.0\)") as caught:
        find(os.fsencode(tmp_path), b"", b"")
    assert caught.value.verdict == DEFERRED


def test_a_large_file_is_read_whole(tmp_path: Path) -> None:
    text = b"".join(b"&user%d@example.org\n" % number for number in range(20_000))
    (tmp_path / ".qmail-list").write_bytes(text)
    found = find(os.fsencode(tmp_path), b"-", b"list")
    assert found is not None
    assert found.text == text


def test_sticky_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o1755)
    with pytest.raises(Trouble, match=r"sticky.*\(#4.2.1\)"):
        check_home(os.fsencode(tmp_path))
    assert check_home(os.fsencode(tmp_path), delivering=False)


def test_writable_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o757)
    with pytest.raises(Trouble, match=r"writable by others. \(#4.7.0\)"):
        check_home(os.fsencode(tmp_path))


@pytest.mark.parametrize("name", ["missing", "file"])
def test_no_home_defers(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Trouble) as caught:
        check_home(os.fsencode(tmp_path / name))
    assert caught.value.verdict == DEFERRED


def test_owner_files(tmp_path: Path) -> None:
    home = os.fsencode(tmp_path)
    assert not exists(home, b"-", b"List", b"-owner")
    (tmp_path / ".qmail-list-owner").write_text("")
    assert exists(home, b"-", b"List", b"-owner")
