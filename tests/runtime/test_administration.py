"""What an administrator asks of the queue, on a real store, with the delivery side played by the test."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

import pytest
from tests.queue.test_engine import World, to

from ekiden.queue.store import StoreFull
from ekiden.runtime.administration import Act, Acted, Administration


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def act(world: World, action: str, *messages: int) -> Acted:
    """Ask for it as root."""
    administration = Administration(
        world.engine, world.store, lambda: None, dict, lambda: None, lambda _settings: None
    )
    done = administration.answer(Act(action, list(messages)), 0)
    assert isinstance(done, Acted)
    return done


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
