"""What an administrator asks of the queue, on a real store, with the delivery side played by the test."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.queue.test_engine import World, to

from ekiden.queue.inspect import Filter
from ekiden.queue.store import StoreFull
from ekiden.runtime.administration import Administration
from ekiden.runtime.control_frames import Act, Acted, ControlAnswer, ControlRequest, List, Rows, Show


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def ask(world: World, request: ControlRequest) -> ControlAnswer:
    """As root."""
    administration = Administration(
        world.engine, world.store, lambda: None, dict, lambda: None, lambda _settings: None
    )
    return administration.answer(request, 0)


def act(world: World, action: str, *messages: int) -> Acted:
    """Ask for it."""
    done = ask(world, Act(action, list(messages)))
    assert isinstance(done, Acted)
    return done


def rows(world: World, request: List | Show) -> list[dict[str, Any]]:
    """What is shown."""
    answer = ask(world, request)
    assert isinstance(answer, Rows)
    return [json.loads(row) for row in answer.rows]


def waiting(world: World) -> None:
    """A message that is in the queue and has not been tried yet."""
    world.open = []
    world.inject(to(b"a@example.com"))
    assert world.turn() == []
    world.open = ["local", "remote"]


def full(*_arguments: object) -> NoReturn:
    raise StoreFull("no room")


def test_releasing_what_is_not_held_changes_nothing(world: World) -> None:
    """Found by the soak: a message that had not been tried yet was forgotten until the next start."""
    waiting(world)
    assert act(world, "release", 1) == Acted([], [])
    assert len(world.turn()) == 1


def test_what_is_held_is_tried_when_it_is_released(world: World) -> None:
    waiting(world)
    assert act(world, "hold", 1) == Acted([1], [])
    assert world.turn() == []
    assert act(world, "release", 1) == Acted([1], [])
    assert len(world.turn(time.time() + 1)) == 1


@pytest.mark.parametrize(
    ("action", "asked"),
    [("hold", "hold"), ("requeue", "new_part_number"), ("bounce", "new_message_id")],
)
def test_a_full_device_leaves_a_message_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, action: str, asked: str
) -> None:
    waiting(world)
    before = world.store.parts(1)
    with monkeypatch.context() as context:
        context.setattr(world.store, asked, full)
        assert act(world, action, 1) == Acted([], [], "no room")
    assert world.store.parts(1) == before
    assert len(world.turn()) == 1


def test_what_is_being_delivered_is_left_alone(world: World) -> None:
    world.inject(to(b"a@example.com"))
    assert len(world.turn()) == 1
    for action in ("hold", "requeue", "delete", "bounce"):
        assert act(world, action, 1) == Acted([], [1])


@pytest.mark.parametrize(
    ("column", "fault"), [("meta", "its envelope: "), ("recipients", "the recipients of its part 0: ")]
)
def test_a_damaged_message_is_shown_and_left_as_it_is(world: World, column: str, fault: str) -> None:
    for _ in range(3):
        waiting(world)
    world.store._db.connection.execute(f"UPDATE message SET {column} = substr({column}, 2) WHERE id = 2")
    world.journal.lines.clear()
    before, damaged, after = rows(world, List(0, 10, Filter()))
    assert (before["id"], damaged["id"], after["id"]) == (1, 2, 3)
    assert before["damaged"] == after["damaged"] == ""
    assert damaged["damaged"].startswith(fault)
    assert damaged["sender"] == "s@example.org"
    assert [row["id"] for row in rows(world, List(0, 2, Filter(sender="s@*")))] == [1, 2]
    assert rows(world, Show(2)) == [damaged]
    for action in ("requeue", "bounce", "delete"):
        assert act(world, action, 2, 2**40) == Acted([], [], damaged=[2])
    assert act(world, "hold", 1, 2, 3) == Acted([1, 2, 3], [])
    assert act(world, "delete", 1, 2, 3) == Acted([1, 3], [], damaged=[2])
    assert [values for name, *values in world.journal.lines if name == "administrator" and values[1] == "delete"] == [
        ["root", "delete", 1],
        ["root", "delete", 3],
    ]
    assert [row["id"] for row in rows(world, List(0, 10, Filter()))] == [2]
    assert world.store.content(2)
