"""Children by user: who they become, what they keep, and what is said when they die."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from ekiden.runtime import crew as module
from ekiden.runtime import fork_server
from ekiden.runtime.crew import Crew
from ekiden.runtime.link import Link

ROOT = os.geteuid() == 0
UID, GID = (4242, 4343) if ROOT else (os.getuid(), os.getgid())


class Task(msgspec.Struct, frozen=True, array_like=True):
    token: int
    wish: str
    has_descriptor: bool = False


class Answer(msgspec.Struct, frozen=True, array_like=True):
    token: int
    text: str
    last: bool = False


def work(connection: socket.socket) -> None:
    """Grant wishes until the parent closes."""
    loop = asyncio.SelectorEventLoop()

    def take(task: Task, descriptor: int | None) -> None:
        answer = Answer(task.token + (task.wish == "confuse"), grant(task.wish, descriptor), task.wish == "leave")
        link.send(answer)

    link = Link(loop, connection, msgspec.msgpack.Decoder(Task), take, lambda reason: loop.stop())
    loop.run_forever()
    loop.close()


def grant(wish: str, descriptor: int | None) -> str:
    if wish == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == "exit":
        os._exit(0)
    if wish == "who":
        return f"{os.getresuid()} {os.getresgid()} {os.getgroups()}"
    if wish == "open":
        paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return "\n".join(os.readlink(path) for path in paths if os.path.lexists(path))
    if wish == "read":
        assert descriptor is not None
        return os.pread(descriptor, 100, 0).decode()
    if wish == "root":
        try:
            os.setuid(0)
        except PermissionError:
            return "no"
    return str(os.getpid())


def whose(name: bytes) -> tuple[int, int]:
    """Addresses are uids here."""
    return int(name), GID


async def ask(
    crew: Crew[Answer], wish: str, token: int = 1, descriptor: int | None = None, uid: int = UID
) -> str | None:
    answered = asyncio.get_running_loop().create_future()
    task = Task(token, wish, descriptor is not None)
    crew.give(uid, GID, b"%d" % uid, token, task, descriptor, answered.set_result)
    answer = await asyncio.wait_for(answered, 60)
    return answer and answer.text


def within(test: Callable[[Crew[Answer]], Awaitable[None]], most: int = 8) -> None:
    server = fork_server.start(work, whose)

    async def run() -> None:
        crew = Crew(asyncio.get_running_loop(), server, Answer, most)
        await test(crew)
        crew.end()
        assert len(crew) == 0
        await asyncio.sleep(0.1)

    asyncio.run(run())
    server.close()


def test_one_child_serves_a_user() -> None:
    async def test(crew: Crew[Answer]) -> None:
        assert await ask(crew, "pid", 1) == await ask(crew, "pid", 2)
        assert len(crew) == 1

    within(test)


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_child_is_the_user_and_nobody_else() -> None:
    async def test(crew: Crew[Answer]) -> None:
        assert await ask(crew, "who") == f"{(UID,) * 3} {(GID,) * 3} [{GID}]"
        assert await ask(crew, "root", 2) == "no"
        assert await ask(crew, "who", 3, uid=UID + 1) == f"{(UID + 1,) * 3} {(GID,) * 3} [{GID}]"

    within(test)


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_nobody_works_as_root() -> None:
    async def test(crew: Crew[Answer]) -> None:
        with pytest.raises(PermissionError):
            await ask(crew, "who", uid=0)
        assert len(crew) == 0

    within(test)


def test_a_child_has_nothing_of_the_parents_open(tmp_path: Path) -> None:
    async def test(crew: Crew[Answer]) -> None:
        with open(tmp_path / "secret", "w"):
            opened = await ask(crew, "open")
        assert opened is not None
        # Its own connection, standard error and its own event loop; everything else is /dev/null.
        error = os.readlink("/proc/self/fd/2")
        own = ("socket:", "anon_inode:", "/dev/null", error)
        assert [name for name in opened.split("\n") if not name.startswith(own)] == []
        assert opened.count("socket:") == 3

    within(test)


def test_a_descriptor_goes_along(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")

    async def test(crew: Crew[Answer]) -> None:
        assert await ask(crew, "read", 1, os.open(tmp_path / "file", os.O_RDONLY)) == "content"

    before = len(os.listdir("/proc/self/fd"))
    within(test)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_that_wants_no_more_ends_what_it_has_and_is_replaced() -> None:
    async def test(crew: Crew[Answer]) -> None:
        first = await ask(crew, "pid", 1)
        told = await asyncio.gather(*(ask(crew, wish, 2 + at) for at, wish in enumerate(("leave", "pid", "leave"))))
        assert told == [first] * 3
        assert len(crew) == 0
        second = await ask(crew, "pid", 9)
        assert second not in (None, first)
        assert await ask(crew, "pid", 10) == second
        deadline = time.monotonic() + 60
        while os.path.exists(f"/proc/{first}"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    within(test)


@pytest.mark.parametrize("wish", ["die", "exit"])
def test_a_child_that_dies_loses_its_tasks_and_is_replaced(wish: str) -> None:
    async def test(crew: Crew[Answer]) -> None:
        first = await ask(crew, "pid", 1)
        assert await asyncio.gather(ask(crew, wish, 2), ask(crew, "pid", 3)) in ([None, None], [None, first])
        assert await ask(crew, "pid", 4) not in (None, first)

    within(test)


def test_an_answer_nobody_asked_for_ends_the_child() -> None:
    async def test(crew: Crew[Answer]) -> None:
        assert await ask(crew, "confuse") is None

    within(test)


def test_the_idlest_child_makes_room() -> None:
    if not ROOT:
        pytest.skip("needs root")

    async def test(crew: Crew[Answer]) -> None:
        for number in range(6):
            await ask(crew, "pid", number, uid=UID + number)
        assert len(crew) == 3

    within(test, most=3)


def test_idle_children_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(module, "_SWEEP", 0.1)

    async def test(crew: Crew[Answer]) -> None:
        pid = await ask(crew, "pid")
        deadline = time.monotonic() + 60
        while len(crew) or os.path.exists(f"/proc/{pid}"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    within(test)


def test_a_silent_child_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP", 0.1)

    async def test(crew: Crew[Answer]) -> None:
        pid = await ask(crew, "pid")
        assert pid is not None
        monkeypatch.setattr(module, "SILENT_SECONDS", 0.2)
        os.kill(int(pid), signal.SIGSTOP)
        assert await ask(crew, "pid", 2) is None

    within(test)
