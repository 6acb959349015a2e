"""The kernel itself says what a fence leaves; each time in a process of its own, because it is for ever."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.runtime.fences import landlock
from ekiden.runtime.fences.seccomp import give_up_gains

pytestmark = pytest.mark.skipif(landlock.version() < 1, reason="this kernel has no Landlock")


def fenced(attempt: Callable[[], object], **keywords: bool | list[Path]) -> str:
    """How an attempt ends in a new process that is restricted so: ``done`` or the error."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        said = "done"
        try:
            give_up_gains()
            given = {"reads": [], "writes": [], "connects": False, "binds": False} | keywords
            landlock.restrict(**given)  # type: ignore[arg-type]
            attempt()
        except BaseException as error:
            said = type(error).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("here", "there"):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below" / "file").write_text("text")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there" / "below" / "file")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "ends"),
    [("here/below/file", "done"), ("there/below/file", "PermissionError"), ("here/link", "PermissionError")],
)
def test_reading(tree: Path, name: str, ends: str) -> None:
    assert fenced((tree / name).read_text, reads=[tree / "here", tree / "missing"]) == ends


def test_what_may_be_read_may_not_be_changed(tree: Path) -> None:
    file = tree / "here" / "below" / "file"

    for attempt in (lambda: file.open("a"), lambda: (file.parent / "new").touch(), file.unlink):
        assert fenced(attempt, reads=[tree / "here"]) == "PermissionError"
    assert file.read_text() == "text"


def test_a_link_can_be_allowed_by_itself(tree: Path) -> None:
    link = tree / "here" / "link"

    assert fenced(link.read_text, reads=[link]) == "done"
    assert fenced((tree / "there" / "below").iterdir().__next__, reads=[link]) == "PermissionError"


def test_a_file_put_in_anothers_place_can_be_read(tree: Path) -> None:
    file = tree / "here" / "below" / "file"

    def replaced() -> None:
        (file.parent / "new").write_text("other")
        (file.parent / "new").rename(file)
        assert file.read_text() == "other"

    assert fenced(replaced, writes=[tree / "here"]) == "done"


def test_writing(tree: Path) -> None:
    file = tree / "here" / "below" / "file"

    def work() -> None:
        file.write_text("other")
        file.rename(file.with_name("renamed"))
        file.with_name("renamed").unlink()

    assert fenced(work, writes=[tree / "here"]) == "done"
    assert fenced((tree / "here" / "pipe").mkdir, writes=[tree / "here"]) == "PermissionError"
    assert fenced(lambda: os.mkfifo(tree / "here" / "pipe"), writes=[tree / "here"]) == "PermissionError"
    assert fenced(lambda: (tree / "there" / "new").touch(), writes=[tree / "here"]) == "PermissionError"


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel's Landlock knows no TCP")
def test_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        to = server.getsockname()
        assert fenced(lambda: socket.create_connection(to)) == "PermissionError"
        assert fenced(lambda: socket.create_connection(to), connects=True) == "done"
        assert fenced(lambda: socket.create_server(("127.0.0.1", 0))) == "PermissionError"
        assert fenced(lambda: socket.create_server(("127.0.0.1", 0)), binds=True) == "done"


@pytest.mark.skipif(landlock.version() < 6, reason="this kernel's Landlock knows no signals")
def test_signals() -> None:
    assert fenced(lambda: os.kill(os.getppid(), 0)) == "PermissionError"
    assert fenced(lambda: os.kill(os.getpid(), 0)) == "done"


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel's Landlock knows no TCP")
def test_tcp_alone_can_be_taken_away(tree: Path) -> None:
    """Files stay as they are, and a second fence inside may still let them be moved."""

    def move_behind_another() -> None:
        landlock.restrict([], [tree / "here", tree / "there"])
        (tree / "here" / "below" / "file").rename(tree / "there" / "moved")

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert fenced(lambda: socket.create_connection(server.getsockname()), files=True) == "PermissionError"
    assert fenced((tree / "here" / "link").read_text, files=True) == "done"
    assert fenced(move_behind_another, files=True) == "done"
    assert (tree / "there" / "moved").exists()
